//! Listeners and connections: a plain subscribe leaves the runtime as a bare socket for a shard,
//! everything else is served by hyper with the bytes already read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Request};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::admit::{self, Limit, LobbyPermit, Rejection};
use crate::answer::{self, Busy};
use crate::frame::{Frame, Framing};
use crate::hub::Hub;
use crate::peer::Peer;
use crate::publish_plain::{self, Left};
use crate::refuse::{Asked, refused};
use crate::request::{Door, HEADERS_MAX, PlainSubscribe, is_framed_twice, parse_subscribe};
use crate::socket::{Arriving, SocketOptions};
use crate::subscribe::{self, Becomes};
use crate::tls::TlsCell;
use crate::transport::{H2_BEGIN, HEAD_BYTES_MAX, Look, Sniffed, Transport, look};
use crate::upgrade::{Leaving, Moving};

// Connections that cannot be served: over the limit, or without a descriptor to spare.
mod full;

// Connections of HTTP/2.
mod http2;

#[cfg(test)]
pub(crate) use http2::GuardedExecutor;

use full::{Spare, refuse, refuse_address, refuse_late, reject_unclear};

/// How long a peer may take to be refused: for a head where it is over the limit, and for reading
/// the few bytes of a refusal.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// How long a connection may wait for its next request: what proxies expect of an upstream.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(75);

/// What every connection of a listener needs.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) hub: Arc<Hub>,
    pub(crate) door: Door,
    pub(crate) tls: Option<Arc<TlsCell>>,
    /// Turns true when the process is about to end: connections finish what they serve.
    pub(crate) stop: watch::Receiver<bool>,
    /// Turns true when it ends: until then those who come are told to come again.
    pub(crate) end: watch::Receiver<bool>,
    /// Whether a new process takes over.
    pub(crate) moving: watch::Receiver<Moving>,
}

/// What an acceptor does next.
enum Next {
    Peer(io::Result<(TcpStream, SocketAddr)>),
    /// A new process is about to take over.
    Move,
    /// The hub ends.
    End,
}

/// Accepts until told to stop. An accept that fails pauses and goes on.
pub(crate) async fn accept(listener: Listener, socket: TcpListener) {
    let mut stop = listener.stop.clone();
    let mut spare = Spare::new();
    let mut moving = listener.moving.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Next::End,
            _ = moving.wait_for(|moving| *moving != Moving::No) => Next::Move,
            accepted = socket.accept() => Next::Peer(accepted),
        };
        let accepted = match accepted {
            Next::Peer(accepted) => accepted,
            Next::End => return refuse_late(listener, &socket, spare).await,
            Next::Move => {
                // What comes meanwhile waits in the kernel's queue, for whoever serves then.
                let settled = moving.wait_for(|moving| *moving != Moving::Paused).await;
                if settled.is_ok_and(|moving| *moving == Moving::No) {
                    continue;
                }
                return;
            }
        };
        match accepted {
            Ok((stream, from)) => {
                spare.accepted();
                let peer = Peer::of(from);
                if let Some(permit) = listener.hub.gate_of(listener.door).admit() {
                    let served = connection(listener.clone(), stream, peer, Some(permit));
                    let panics = &listener.hub.metrics.panics.request;
                    tokio::spawn(panics.watch("a connection", served));
                } else {
                    admit::count_full(&listener.hub, listener.door);
                    refuse(&listener, stream, peer);
                }
            }
            Err(error) => spare.failed(&error, &listener, &socket).await,
        }
    }
}

/// Serves a connection; without a permit it is over the limit, and what it asks for is refused.
async fn connection(
    mut listener: Listener,
    mut stream: TcpStream,
    mut peer: Peer,
    mut permit: Option<LobbyPermit>,
) {
    let policy = listener.hub.policy.load_full();
    let settings = &policy.settings;
    SocketOptions::of(settings).apply(&SockRef::from(&stream));
    if settings.proxy_protocol && listener.door == Door::Public {
        let patience = settings.head_timeout;
        peer = match peer.behind_proxy(&mut stream, &policy, patience).await {
            Ok(named) => named,
            Err(error) => {
                listener.hub.limits.count(Limit::ProxyProtocol);
                tracing::debug!(peer = %peer.address, %error, "connection closed");
                return;
            }
        };
    }
    let Some(held) = &mut permit else {
        listener.door = listener.door.when_full();
        return serve(&listener, stream, peer, None).await;
    };
    if listener.door == Door::Public {
        let Ok(share) = listener.hub.limits.connection(&policy, peer.address) else {
            drop(permit);
            return refuse_address(listener, stream, peer).await;
        };
        held.count_for_address(share);
    }
    drop(policy);
    serve(&listener, stream, peer, permit).await;
}

/// Speaks TLS where it has to, and the version of HTTP that the peer wants.
async fn serve(listener: &Listener, stream: TcpStream, peer: Peer, permit: Option<LobbyPermit>) {
    let head_timeout = listener.hub.policy.load().settings.head_timeout;
    let mut is_h2 = false;
    let transport = match &listener.tls {
        None => Transport::Plain(stream),
        Some(tls) => match timeout(head_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                Transport::Tls(Box::new(stream))
            }
            Ok(Err(error)) => {
                tracing::debug!(peer = %peer.address, %error, "TLS handshake failed");
                return;
            }
            Err(_) => return,
        },
    };
    let outcome = if is_h2 {
        // Held here: the connection counts as long as it is.
        let _permit = permit;
        http2::serve(listener, transport, peer, BytesMut::new()).await
    } else {
        http1(listener, (transport, BytesMut::new()), peer, permit).await
    };
    if let Err(error) = outcome {
        tracing::debug!(peer = %peer.address, %error, "connection ended");
    }
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Serves one connection until it ends or becomes a shard's: each round is either a subscribe for
/// the fast path or a stretch of other requests for hyper.
async fn http1(
    listener: &Listener,
    (mut transport, mut bytes): (Transport, BytesMut),
    peer: Peer,
    mut permit: Option<LobbyPermit>,
) -> Ended {
    let head_timeout = listener.hub.policy.load().settings.head_timeout;
    let mut stop = listener.stop.clone();
    let mut moving = listener.moving.clone();
    let mut is_last = false;
    loop {
        let can_go = matches!(transport, Transport::Plain(_));
        let first = tokio::select! {
            biased;
            _ = moving.wait_for(|moving| *moving == Moving::Gone), if can_go => {
                return pass_on(listener, transport, &bytes, peer, permit);
            }
            first = timeout(head_timeout, read_first(&mut transport, &mut bytes)) => first,
            _ = stop.wait_for(|stop| *stop), if !is_last => {
                if bytes.is_empty() {
                    return Ok(());
                }
                // What has begun by then comes to its end, if it does so soon.
                is_last = true;
                continue;
            }
        };
        match first {
            // Nothing, or too slow a head: nobody to answer.
            Err(_) => return Ok(()),
            Ok(first) => match first? {
                First::Nothing => return Ok(()),
                First::Http2 => return http2::serve(listener, transport, peer, bytes).await,
                First::Other => {}
                First::Unclear => return reject_unclear(&listener.hub, transport).await,
                First::Subscribe => {
                    // Else it is not as plain as it looked; hyper judges it.
                    if let Some(request) = parse_subscribe(&bytes) {
                        let Some(permit) = permit.take() else {
                            let full = admit::at_full(&listener.hub, listener.door);
                            return reject(&listener.hub, transport, &request.headers, &full).await;
                        };
                        return subscribe_fast(listener, transport, peer, request, permit).await;
                    }
                    if is_framed_twice(&bytes) {
                        return reject_unclear(&listener.hub, transport).await;
                    }
                }
                // hyper refuses it as it refuses anything else.
                First::Publish if permit.is_none() => {}
                First::Publish => {
                    let hub = &listener.hub;
                    let served = (hub, peer);
                    match publish_plain::serve(served, &mut transport, &mut bytes, listener).await?
                    {
                        Left::Closed => return Ok(()),
                        Left::Subscribe | Left::Moved => continue,
                        Left::Other => {}
                    }
                }
            },
        }
        match serve_other(listener, transport, peer, bytes, head_timeout).await? {
            Some(next) => (transport, bytes) = next,
            None => return Ok(()),
        }
    }
}

/// Hands a connection without TLS to the new process, with what was read of its next request.
fn pass_on(
    listener: &Listener,
    transport: Transport,
    bytes: &[u8],
    peer: Peer,
    permit: Option<LobbyPermit>,
) -> Ended {
    if let Transport::Plain(stream) = transport {
        listener.hub.pass_on(Leaving {
            stream: stream.into_std()?,
            door: listener.door,
            peer,
            bytes: bytes.to_vec(),
            permit,
        });
    }
    Ok(())
}

/// Serves a connection from where another process left it: between two requests, or in the
/// middle of the head of one.
///
/// `was_counted`: not one that the other process was about to refuse.
pub(crate) fn go_on(
    listener: &Listener,
    stream: TcpStream,
    peer: Peer,
    was_counted: bool,
    bytes: BytesMut,
) {
    let hub = &listener.hub;
    let gate = hub.gate_of(listener.door);
    let mut permit = if was_counted {
        gate.taken_over()
    } else if let Some(permit) = gate.admit() {
        permit
    } else {
        admit::count_full(hub, listener.door);
        return refuse(listener, stream, peer);
    };
    if listener.door == Door::Public {
        // It was served before: one that is over its address's limit now is none the less.
        let policy = hub.policy.load();
        permit.count_for_address(hub.limits.connection_taken_over(&policy, peer.address));
    }
    let listener = listener.clone();
    let panics = Arc::clone(&listener.hub.metrics.panics.request);
    let served = async move {
        let begun = (Transport::Plain(stream), bytes);
        if let Err(error) = http1(&listener, begun, peer, Some(permit)).await {
            tracing::debug!(peer = %peer.address, %error, "connection ended");
        }
    };
    tokio::spawn(async move { panics.watch("a connection", served).await });
}

enum First {
    Nothing,
    Http2,
    Subscribe,
    Publish,
    Unclear,
    Other,
}

/// Reads until it is clear what kind of request comes.
async fn read_first(transport: &mut Transport, bytes: &mut BytesMut) -> io::Result<First> {
    loop {
        if !bytes.is_empty() {
            match look(bytes) {
                Look::Subscribe => return Ok(First::Subscribe),
                Look::Publish => return Ok(First::Publish),
                Look::Unclear => return Ok(First::Unclear),
                Look::Other if bytes.starts_with(H2_BEGIN) => return Ok(First::Http2),
                Look::Other => return Ok(First::Other),
                Look::More => {}
            }
        }
        bytes.reserve(1024);
        if transport.read_buf(bytes).await? == 0 {
            return Ok(if bytes.is_empty() {
                First::Nothing
            } else {
                First::Other
            });
        }
    }
}

/// Admits, answers and hands over: the task ends here, the socket goes on.
async fn subscribe_fast(
    listener: &Listener,
    mut transport: Transport,
    peer: Peer,
    request: PlainSubscribe,
    permit: LobbyPermit,
) -> Ended {
    let hub = &listener.hub;
    let (headers, query) = (&request.headers, &request.query);
    let admitted = subscribe::admit(hub, peer, headers, query, Becomes::Socket);
    // Behind a guard of its own: this peer waits for an answer, and may give up without one.
    let guard = &hub.metrics.panics.request;
    let admitted = guard.watch("a subscribe", admitted).await;
    let admission = match admitted.unwrap_or_else(|_| Err(admit::stream_failed())) {
        Ok(admission) => admission,
        Err(rejection) => return reject(hub, transport, headers, &rejection).await,
    };
    let framing = if request.is_http11 {
        Framing::Chunked
    } else {
        Framing::Raw
    };
    let mut bytes = answer::stream_head(hub, headers, &admission, request.is_http11);
    bytes.extend_from_slice(Frame::of_text(&admission.first).framed(framing));
    // A fresh socket takes these few hundred bytes at once; the timeout is for the one that cannot.
    let head_timeout = hub.policy.load().settings.head_timeout;
    let sent = timeout(head_timeout, async {
        transport.write_all(&bytes).await?;
        transport.flush().await
    });
    sent.await??;
    let sink = Arriving::Here(transport.into_sink(framing)?);
    let permit = permit.leave_lobby();
    if let Some(subscriber) = admission.subscriber(sink, permit) {
        hub.hand_over(subscriber).await;
    }
    Ok(())
}

async fn reject(
    hub: &Hub,
    transport: Transport,
    headers: &HeaderMap,
    rejection: &Rejection,
) -> Ended {
    let mut bytes = Vec::with_capacity(512);
    answer::write_whole(
        refused(hub, headers, rejection, Asked::Stream),
        true,
        &mut bytes,
    );
    close_with(transport, &bytes).await
}

async fn close_with(mut transport: Transport, bytes: &[u8]) -> Ended {
    timeout(FAREWELL_MAX, async {
        transport.write_all(bytes).await?;
        transport.shutdown().await
    })
    .await??;
    Ok(())
}

/// Lets hyper serve requests until the peer leaves or a subscribe comes; then the transport and
/// the subscribe's bytes come back.
async fn serve_other(
    listener: &Listener,
    transport: Transport,
    peer: Peer,
    bytes: BytesMut,
    head_timeout: Duration,
) -> Result<Option<(Transport, BytesMut)>, Box<dyn std::error::Error + Send + Sync>> {
    let can_go = matches!(transport, Transport::Plain(_));
    let moving = listener.moving.clone();
    let sniffed = Sniffed::new(transport, bytes, head_timeout, moving);
    let stage = sniffed.stage();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let hub = Arc::clone(&listener.hub);
        let door = listener.door;
        let busy = Busy::begin(&stage, !request.body().is_end_stream());
        request.extensions_mut().insert(Arc::clone(&stage));
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(listener.stop.clone());
        // Boxed, because taking the transport back needs a future that can be moved.
        Box::pin(async move {
            let answer = answer::guarded(&hub, door, request).await;
            let mut answer = answer.map(|body| body.holding(busy));
            if door.is_full() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(http::header::CONNECTION, close);
            }
            Ok::<_, std::convert::Infallible>(answer)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(sniffed), service);
    let mut stop = listener.stop.clone();
    let mut moving = listener.moving.clone();
    let mut stopping = false;
    let mut moved = false;
    loop {
        tokio::select! {
            _ = moving.wait_for(|moving| *moving == Moving::Gone), if !moved => {
                // One that can go is looked at again by the next poll, between two requests.
                moved = true;
                if !can_go {
                    stopping = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
            ended = std::future::poll_fn(|context| connection.poll_without_shutdown(context)) => {
                ended?;
                break;
            }
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
    let parts = connection.into_parts();
    match parts.io.into_inner().into_captured() {
        // hyper must not have begun to read another request, or bytes would change their meaning.
        // Its answers are all out: it asks for a next request only after it has flushed.
        Some(captured) if parts.read_buf.is_empty() => Ok(Some(captured)),
        _ => Ok(None),
    }
}
