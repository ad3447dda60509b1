//! Connections of HTTP/2: many requests at a time, and the end of those that ask for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use gush_middleware::PanicGuard;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::{Ended, FAREWELL_MAX, IDLE_MAX, Listener};
use crate::admit::Carrier;
use crate::answer::{self, Active};
use crate::hub::Hub;
use crate::peer::Peer;
use crate::policy::Policy;
use crate::transport::{HEAD_BYTES_MAX, Prefixed, Transport};
use crate::upgrade::Moving;

/// Most streams of one HTTP/2 connection at a time. Each costs a task and up to a pipe's bytes;
/// browsers open one per subscription, proxies some dozens.
const H2_STREAMS_MAX: u32 = 250;

/// How often an HTTP/2 connection is looked at for having nothing to do.
const H2_LOOK: Duration = Duration::from_secs(1);

/// Runs the tasks of an HTTP/2 connection, one for each answer: a panic ends that one stream.
#[derive(Clone, Debug)]
pub(crate) struct GuardedExecutor(pub(crate) Arc<PanicGuard>);

impl<F> hyper::rt::Executor<F> for GuardedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(self.0.watch("a stream of HTTP/2", future));
    }
}

fn builder(hub: &Hub, policy: &Policy) -> http2::Builder<GuardedExecutor> {
    let mut builder = http2::Builder::new(GuardedExecutor(Arc::clone(&hub.metrics.panics.request)));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).expect("a few KiB"));
    if !policy.settings.heartbeat.is_zero() {
        // Finds peers that vanished, as the heartbeat and TCP's timeout do for bare sockets.
        builder
            .keep_alive_interval(policy.settings.heartbeat)
            .keep_alive_timeout(policy.settings.tcp_user_timeout.max(Duration::from_secs(1)));
    }
    builder
}

/// Serves a connection until its peer leaves, or has asked for nothing for too long.
pub(super) async fn serve(
    listener: &Listener,
    transport: Transport,
    peer: Peer,
    bytes: BytesMut,
) -> Ended {
    let policy = listener.hub.policy.load_full();
    let io = TokioIo::new(Prefixed::new(transport, bytes));
    let active = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&active);
    let begun = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&begun);
    let carrier = Carrier::default();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let hub = Arc::clone(&listener.hub);
        let door = listener.door;
        request.extensions_mut().insert(listener.stop.clone());
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(carrier.clone());
        let active = Active::begin(&counted);
        begins.store(true, Ordering::Relaxed);
        // Boxed, because a stream keeps the room of this future for as long as it lives.
        Box::pin(async move {
            let answer = answer::guarded(&hub, door, request).await;
            Ok::<_, std::convert::Infallible>(answer.map(|body| body.counting(active)))
        })
    });
    let builder = builder(&listener.hub, &policy);
    let head_timeout = policy.settings.head_timeout;
    drop(policy);
    let connection = builder.serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let mut stop = listener.stop.clone();
    let mut moving = listener.moving.clone();
    let mut stopping = false;
    // The first request has as long as a head has elsewhere, the farewell of one who sends none
    // included.
    let mut idle_until = Instant::now() + head_timeout.saturating_sub(H2_LOOK);
    let mut look = tokio::time::interval(H2_LOOK);
    let idle_max = if listener.door.is_full() {
        Duration::ZERO
    } else {
        IDLE_MAX
    };
    let farewell = |begun: &AtomicBool| {
        let has_asked = begun.load(Ordering::Relaxed);
        if has_asked { FAREWELL_MAX } else { H2_LOOK }
    };
    loop {
        tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            // New requests are told to come by another connection: to the new process.
            _ = moving.wait_for(|moving| *moving == Moving::Gone), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            now = look.tick() => {
                if active.load(Ordering::Relaxed) > 0 {
                    idle_until = now + idle_max;
                } else if now >= idle_until + farewell(&begun) {
                    return Ok(());
                } else if now >= idle_until && !stopping {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
