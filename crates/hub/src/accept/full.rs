//! Connections that cannot be served: over the limit, or without a descriptor to spare.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::{Ended, FAREWELL_MAX, Listener, connection, reject, serve};
use crate::admit;
use crate::answer;
use crate::hub::Hub;
use crate::peer::Peer;
use crate::refuse::{Asked, refused};
use crate::request::Door;
use crate::transport::Transport;

/// How long one peer may take while the listener has but a spare descriptor for all: time for a
/// head from far away, and not so much that silent ones keep probes waiting for long.
const SPARE_MAX: Duration = Duration::from_secs(1);

/// First and longest pause after a failed accept; it doubles in between.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Over the connection limit, or come while the hub ends. What the peer is stands in its head: so
/// some are read, for a short time, and refused in their own way, and probes are answered. When too
/// many are being read the rest is told at once.
pub(super) fn refuse(listener: &Listener, stream: TcpStream, peer: Peer) {
    let hub = &listener.hub;
    let Some(place) = farewell(hub) else {
        return refuse_unread(listener, &stream, Door::Full);
    };
    let served = connection(listener.clone(), stream, peer, None);
    let panics = &hub.metrics.panics.request;
    tokio::spawn(panics.watch("a connection over the limit", async move {
        // Nobody is there to be told when it takes too long.
        let _ = timeout(FAREWELL_MAX, served).await;
        drop(place);
    }));
}

/// For as long as the hub answers what it has begun: a listener that is closed or silent before
/// that would lose those browsers for ever that come meanwhile.
pub(super) async fn refuse_late(mut listener: Listener, socket: &TcpListener, mut spare: Spare) {
    // They are served one refusal, and the hub's end ends them.
    let mut end = listener.end.clone();
    listener.stop = listener.end.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = end.wait_for(|end| *end) => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => refuse(&listener, stream, Peer::of(from)),
            Err(error) => spare.failed(&error, &listener, socket).await,
        }
    }
}

/// The address has too many connections: this one is told so, as over the limit of all.
pub(super) async fn refuse_address(mut listener: Listener, stream: TcpStream, peer: Peer) {
    listener.door = Door::AddressFull;
    let Some(_place) = farewell(&listener.hub) else {
        return refuse_unread(&listener, &stream, listener.door);
    };
    // Nobody is there to be told when it takes too long.
    let _ = timeout(FAREWELL_MAX, serve(&listener, stream, peer, None)).await;
}

/// A place for one who is to be refused by its head, while there are some.
fn farewell(hub: &Hub) -> Option<OwnedSemaphorePermit> {
    let place = Arc::clone(&hub.farewells).try_acquire_owned().ok();
    hub.metrics.over_limit[usize::from(place.is_none())].add(1);
    place
}

/// Without a task, and without a look at what the peer sent: what is not read may keep the answer
/// from it.
fn refuse_unread(listener: &Listener, stream: &TcpStream, door: Door) {
    if listener.tls.is_some() {
        // Clear text would only look like a broken handshake.
        return;
    }
    let (full, nothing) = (admit::at_full(&listener.hub, door), HeaderMap::new());
    let answer = refused(&listener.hub, &nothing, &full, Asked::Other);
    let mut bytes = Vec::with_capacity(512);
    answer::write_whole(answer, true, &mut bytes);
    let _ = stream.try_write(&bytes);
}

/// A descriptor kept for the time when there is no other: a listener that cannot accept would leave
/// its peers waiting without an answer, and its loop asking in vain.
#[derive(Debug)]
pub(super) struct Spare {
    kept: Option<File>,
    pause: Duration,
    /// Connections answered by means of the spare since descriptors ran out; `None` while there are
    /// some.
    answered: Option<u64>,
}

impl Spare {
    pub(super) fn new() -> Self {
        Self {
            kept: File::open("/dev/null").ok(),
            pause: PAUSE.0,
            answered: None,
        }
    }

    /// There are descriptors.
    pub(super) fn accepted(&mut self) {
        self.pause = PAUSE.0;
        if let Some(answered) = self.answered.take() {
            tracing::info!(answered, "there are descriptors again");
        }
    }

    /// An accept failed. Without descriptors one connection is answered by means of the spare one;
    /// where that is gone too, and after any other failure, there is a pause.
    pub(super) async fn failed(
        &mut self,
        error: &io::Error,
        listener: &Listener,
        socket: &TcpListener,
    ) {
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        let is_out = matches!(errno, Some(Errno::MFILE | Errno::NFILE));
        let metrics = &listener.hub.metrics;
        metrics.accept_errors[usize::from(!is_out)].add(1);
        if !is_out {
            tracing::warn!(%error, "accept failed; trying again in {:?}", self.pause);
            return self.wait().await;
        }
        if self.answered.is_none() {
            self.answered = Some(0);
            tracing::error!(
                %error,
                "out of descriptors: connections are refused until there are some; raise the limit \
                 (ulimit -n, LimitNOFILE)"
            );
        }
        if self.kept.take().is_none() {
            self.wait().await;
        } else if let Some((stream, peer)) = accept_now(socket).await {
            self.pause = PAUSE.0;
            self.answered = self.answered.map(|answered| answered + 1);
            metrics.over_limit[2].add(1);
            let served = connection(listener.clone(), stream, peer, None);
            let watched = metrics.panics.request.watch("a connection", served);
            // Nobody is there to be told when it takes too long.
            let _ = timeout(SPARE_MAX, watched).await;
        }
        self.kept = File::open("/dev/null").ok();
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
    }
}

/// A connection that waits, if there is one. If there is none, the kernel says so, and the listener
/// is asked again only when one has come: an accept without a descriptor fails before it looks.
async fn accept_now(socket: &TcpListener) -> Option<(TcpStream, Peer)> {
    let accepted = std::future::poll_fn(|context| {
        std::task::Poll::Ready(match socket.poll_accept(context) {
            std::task::Poll::Ready(Ok(accepted)) => Some(accepted),
            std::task::Poll::Ready(Err(_)) | std::task::Poll::Pending => None,
        })
    });
    accepted
        .await
        .map(|(stream, from)| (stream, Peer::of(from)))
}

/// Refuses a request whose body could end in two places.
pub(super) async fn reject_unclear(hub: &Hub, transport: Transport) -> Ended {
    let rejection = admit::unclear_framing();
    reject(hub, transport, &HeaderMap::new(), &rejection).await
}
