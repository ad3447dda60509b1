//! Taking in what the old process hands over: connections between two requests, and live streams.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use gush_log::Offset;
use socket2::SockRef;
use tokio::runtime::Handle;

use super::arrivals::Arriving;
use super::channel::Channel;
use super::message::{ClientNote, ConnectionNote, DoorNote, StreamNote};
use crate::accept::{self, Listener};
use crate::admit::ConnectionPermit;
use crate::clock::ticks;
use crate::close::CloseReason;
use crate::frame::Framing;
use crate::hub::Hub;
use crate::peer::{Client, Peer};
use crate::selection::Selection;
use crate::shard::{NewSubscriber, Resumed, ShardPlace};
use crate::socket::{Arriving as ArrivingSink, Sink, SocketOptions, TcpSink};
use crate::topic::{Matcher, TopicError};

/// Serves connections from where the old process stopped, until it ends.
pub(super) fn connections(channel: Channel, doors: [Listener; 2]) -> io::Result<()> {
    let runtime = Handle::current();
    let arriving = doors[0].hub.arrivals.begin(Arriving::Connections);
    let name = "take-connections".into();
    thread::Builder::new().name(name).spawn(move || {
        let _arriving = arriving;
        let _inside = runtime.enter();
        while let Ok((note, mut descriptors)) = channel.receive::<ConnectionNote>() {
            let Some(socket) = descriptors.pop() else {
                tracing::warn!("a connection did not come over: no descriptor is left");
                continue;
            };
            let [public, admin] = &doors;
            let listener = match note.door {
                DoorNote::Public => public,
                DoorNote::Admin => admin,
            };
            let peer = Peer {
                address: note.peer,
                is_counted: true,
            };
            let bytes = BytesMut::from(&*note.bytes);
            let stream = non_blocking(socket).and_then(tokio::net::TcpStream::from_std);
            match stream {
                Ok(stream) => {
                    accept::go_on(listener, stream, peer, note.was_counted, bytes);
                }
                Err(error) => tracing::warn!(%error, "a connection did not come over"),
            }
        }
    })?;
    Ok(())
}

/// Takes streams into this hub's shards until the old process's shard has none left.
pub(super) fn streams(channel: Channel, hub: &Arc<Hub>) -> io::Result<()> {
    let runtime = Handle::current();
    let hub = Arc::clone(hub);
    let arriving = hub.arrivals.begin(Arriving::Streams);
    let name = "take-streams".into();
    thread::Builder::new().name(name).spawn(move || {
        let _arriving = arriving;
        let mut count = 0_u64;
        while let Ok((note, mut descriptors)) = channel.receive::<StreamNote>() {
            let Some(socket) = descriptors.pop() else {
                tracing::warn!("a stream did not come over: no descriptor is left");
                continue;
            };
            if let Some(subscriber) = stream(&hub, note, socket) {
                count += 1;
                hub.metrics.taken_over();
                runtime.block_on(hub.hand_over(subscriber));
            }
        }
        if count > 0 {
            tracing::info!(streams = count, "streams taken over");
        }
    })?;
    Ok(())
}

fn non_blocking(socket: OwnedFd) -> io::Result<TcpStream> {
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// The subscriber of a stream; `None` where there is no place for it, and it is closed.
fn stream(hub: &Hub, mut note: StreamNote, socket: OwnedFd) -> Option<NewSubscriber> {
    let policy = hub.policy.load_full();
    let settings = &policy.settings;
    // First, so that one that does not come over has left.
    let present = note.present.take().map(|present| {
        hub.presence
            .resume(present.subscriber, present.matchers, present.payload)
    });
    let framing = if note.is_chunked {
        Framing::Chunked
    } else {
        Framing::Raw
    };
    let stream = match non_blocking(socket) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "a stream did not come over");
            return None;
        }
    };
    let options = SocketOptions {
        user_timeout: settings.tcp_user_timeout,
        send_buffer_bytes: settings.send_buffer,
    };
    options.apply(&SockRef::from(&stream));
    let sink = Sink::Tcp(TcpSink::new(stream, framing));
    let Place {
        selection,
        mut connection,
        shard,
    } = match Place::find(hub, &note) {
        Ok(place) => place,
        Err(reason) => {
            tracing::debug!(reason, "a stream that came over is closed");
            let words = hub.crowd.tell(settings).frame();
            let at_border = note.partial == 0;
            sink.close(CloseReason::Drain, words.as_ref(), at_border);
            return None;
        }
    };
    let client = note.client.map(Client::from);
    let limits = &hub.limits;
    if let Some(client) = &client {
        connection.count_for_address(limits.taken_over(&policy, client.address));
    }
    let subject = client
        .as_ref()
        .and_then(|client| limits.subject_taken_over(client));
    Some(NewSubscriber {
        sink: ArrivingSink::Here(sink),
        selection: Arc::new(selection),
        start: Offset::from_u64(note.cursor),
        expires_at_ms: note.expires_unix_ms.map(|at| on_own_clock(hub, at)),
        present,
        told_level: note.told_level,
        place: shard,
        connection,
        subject,
        client,
        resumed: Some(Resumed {
            partial: note.partial,
            life_ticks: note
                .ends_in_ms
                .map(|left| ticks(Duration::from_millis(left))),
            silent_ticks: ticks(Duration::from_millis(note.silent_ms)),
        }),
    })
}

/// A moment, in milliseconds since 1970, on the hub's own clock.
fn on_own_clock(hub: &Hub, unix_ms: u64) -> u64 {
    let left_ms = unix_ms.saturating_sub(hub.clock.unix_ms());
    hub.clock.now_ms().saturating_add(left_ms)
}

impl From<ClientNote> for Client {
    fn from(note: ClientNote) -> Self {
        Self {
            address: note.address,
            subject: note.subject,
            trace_id: note.trace_id,
        }
    }
}

/// What a stream needs of this hub.
struct Place {
    selection: Selection,
    connection: ConnectionPermit,
    shard: ShardPlace,
}

impl Place {
    fn find(hub: &Hub, note: &StreamNote) -> Result<Self, &'static str> {
        let parse = |texts: &[String]| -> Result<Box<[Matcher]>, TopicError> {
            texts.iter().map(|text| Matcher::parse(text)).collect()
        };
        let matchers = parse(&note.matchers).map_err(|_| "a topic that this version refuses")?;
        let grants = parse(&note.grants).map_err(|_| "a grant that this version refuses")?;
        let crowded = hub.crowds.enter(&matchers);
        let places = crowded.map_err(|_| "too many templates alike")?;
        Ok(Self {
            selection: Selection {
                matchers: matchers.into(),
                grants,
                wants_gap: note.wants_gap,
                told_until: note.told_until.map(Offset::from_u64),
                places,
            },
            connection: hub.gate.taken_over().leave_lobby(),
            shard: hub.claim_place().ok_or("no shard has a place")?,
        })
    }
}
