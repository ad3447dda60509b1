//! Taking in what the old process hands over: connections between two requests, and live streams.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use gush_log::Offset;
use socket2::SockRef;
use tokio::runtime::Handle;

use super::arrivals::Arriving;
use super::channel::Channel;
use super::message::{
    ClientNote, ConnectionNote, DoorNote, PresentNote, StreamNote, StreamNotes, StreamsTaken,
};
use crate::accept::{self, Listener};
use crate::admit::ConnectionPermit;
use crate::clock::ticks;
use crate::close::CloseReason;
use crate::frame::Framing;
use crate::hub::Hub;
use crate::peer::{Client, Peer};
use crate::presence::Attendance;
use crate::selection::Selection;
use crate::shard::{NewSubscriber, Resumed, ShardPlace};
use crate::socket::{Arriving as ArrivingSink, Sink, SocketOptions, TcpSink, TlsLayer, TlsSink};
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

/// Takes streams into this hub's shards until the old process's shard has none left. `options`:
/// how their sockets are to be set, unless they are set so.
pub(super) fn streams(
    channel: Channel,
    hub: &Arc<Hub>,
    options: Option<SocketOptions>,
) -> io::Result<()> {
    let runtime = Handle::current();
    let hub = Arc::clone(hub);
    let arriving = hub.arrivals.begin(Arriving::Streams);
    let name = "take-streams".into();
    thread::Builder::new().name(name).spawn(move || {
        let _arriving = arriving;
        let mut taking = TakingIn {
            hub: &hub,
            options,
            runtime,
            before: None,
            count: 0,
        };
        loop {
            let (notes, descriptors) = match channel.receive::<StreamNotes>() {
                Ok(some) => some,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => {
                    tracing::error!(%error, "streams are lost on their way here");
                    break;
                }
            };
            let secret_bytes = notes.iter().map(StreamNote::tls_bytes);
            let secret_bytes = secret_bytes.fold(0, usize::saturating_add);
            let secrets = match channel.receive_bytes(secret_bytes) {
                Ok(secrets) => secrets,
                Err(error) => {
                    // The old process has kept them, or is gone.
                    tracing::warn!(%error, "streams did not come over");
                    break;
                }
            };
            taking.take(notes, descriptors, &secrets);
            // The old process may be gone: then nothing more comes.
            let _ = channel.send(&StreamsTaken, &[]);
        }
        if taking.count > 0 {
            tracing::info!(streams = taking.count, "streams taken over");
        }
    })?;
    Ok(())
}

/// One way by which streams come.
struct TakingIn<'a> {
    hub: &'a Hub,
    options: Option<SocketOptions>,
    runtime: Handle,
    /// Ends when the shard has the streams before these. So no more than those of two messages are
    /// on their way here, whatever the kernel would hold.
    before: Option<Receiver<()>>,
    count: u64,
}

impl TakingIn<'_> {
    /// Those of one message, all to the same shard as long as that has places.
    fn take(&mut self, notes: StreamNotes, descriptors: Vec<OwnedFd>, mut secrets: &[u8]) {
        let mut shard = self.hub.next_shard();
        let mut together = Vec::with_capacity(notes.len());
        let mut descriptors = descriptors.into_iter();
        for mut note in notes {
            // First, so that one that does not come over has left.
            let present = note.present.take().map(|present| {
                let PresentNote {
                    subscriber,
                    matchers,
                    payload,
                } = present;
                self.hub.presence.resume(subscriber, matchers, payload)
            });
            let layer;
            (layer, secrets) = secrets.split_at(note.tls_bytes().min(secrets.len()));
            let Some(socket) = descriptors.next() else {
                tracing::warn!("a stream did not come over: no descriptor is left");
                continue;
            };
            if let Some(options) = self.options {
                options.apply(&SockRef::from(&socket));
            }
            let Some(sink) = sink(&note, socket, layer) else {
                tracing::warn!("a stream did not come over: its TLS cannot be gone on with");
                continue;
            };
            let Some(subscriber) = stream(self.hub, note, present, (sink, shard)) else {
                continue;
            };
            self.count += 1;
            self.hub.metrics.taken_over();
            if subscriber.place.shard() != shard {
                self.pass_on(shard, std::mem::take(&mut together));
                shard = subscriber.place.shard();
            }
            together.push(subscriber);
        }
        self.pass_on(shard, together);
    }

    fn pass_on(&mut self, shard: usize, together: Vec<NewSubscriber>) {
        if together.is_empty() {
            return;
        }
        if let Some(before) = self.before.take() {
            // Nothing is ever sent.
            let _ = before.recv();
        }
        self.before = self.runtime.block_on(self.hub.take_over(shard, together));
    }
}

fn non_blocking(socket: OwnedFd) -> io::Result<TcpStream> {
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// What a stream's bytes go to; `None` where this process cannot go on with its TLS.
fn sink(note: &StreamNote, socket: OwnedFd, layer: &[u8]) -> Option<Sink> {
    let framing = if note.is_chunked {
        Framing::Chunked
    } else {
        Framing::Raw
    };
    let stream = TcpStream::from(socket);
    Some(match note.tls {
        None => Sink::Tcp(TcpSink::new(stream, framing)),
        Some(tls) => {
            let layer = TlsLayer::taken_over(tls.suite, layer)?;
            Sink::Tls(Box::new(TlsSink::new(stream, layer, framing)))
        }
    })
}

/// The subscriber of a stream, best in this shard; `None` where there is no place for it, and it is
/// closed.
fn stream(
    hub: &Hub,
    note: StreamNote,
    present: Option<Attendance>,
    (sink, shard): (Sink, usize),
) -> Option<NewSubscriber> {
    let policy = hub.policy.load();
    let settings = &policy.settings;

    let Place {
        selection,
        mut connection,
        shard,
    } = match Place::find(hub, &note, shard) {
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
    fn find(hub: &Hub, note: &StreamNote, shard: usize) -> Result<Self, &'static str> {
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
            shard: hub.claim_place_in(shard).ok_or("no shard has a place")?,
        })
    }
}
