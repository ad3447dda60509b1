//! The byte stream under HTTP: TCP with or without TLS, and the look at what comes next on it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

// HTTP/2 frames that carry nothing, counted.
mod frames;

use frames::FrameMeter;

use crate::frame::Framing;
use crate::request::{is_framed_twice, parse_publish};
use crate::socket::{Sink, TcpSink, TlsLayer, TlsSink};
use crate::upgrade::Moving;

/// A connection from a peer.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<Bordered>>),
}

impl Transport {
    /// Takes the bare socket out of the runtime: nothing of this connection stays behind in it.
    pub(crate) fn into_sink(self, framing: Framing) -> io::Result<Sink> {
        Ok(match self {
            Self::Plain(stream) => Sink::Tcp(TcpSink::new(stream.into_std()?, framing)),
            Self::Tls(stream) => {
                let (Bordered { stream, border }, connection) = stream.into_inner();
                let layer = TlsLayer::after(connection, border.is_here())?;
                Sink::Tls(Box::new(TlsSink::new(stream.into_std()?, layer, framing)))
            }
        })
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// A socket under TLS that knows whether what was read of it ends with a whole record: only then
/// can somebody else than rustls go on reading.
#[derive(Debug)]
pub(crate) struct Bordered {
    stream: TcpStream,
    border: Border,
}

/// Where in the peer's records a reader stands.
#[derive(Debug, Default)]
struct Border {
    /// Of the head that is being read: type, version, length.
    head: [u8; 5],
    head_bytes: usize,
    body_bytes_left: usize,
}

impl Border {
    const fn is_here(&self) -> bool {
        self.head_bytes == 0 && self.body_bytes_left == 0
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.body_bytes_left > 0 {
                let count = self.body_bytes_left.min(bytes.len());
                self.body_bytes_left -= count;
                bytes = &bytes[count..];
                continue;
            }
            self.head[self.head_bytes] = first;
            self.head_bytes += 1;
            bytes = rest;
            if self.head_bytes == self.head.len() {
                self.head_bytes = 0;
                let [.., high, low] = self.head;
                self.body_bytes_left = usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
}

impl Bordered {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            border: Border::default(),
        }
    }
}

impl AsyncRead for Bordered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.border.pass(&buffer.filled()[before..]);
        read
    }
}

/// Whether bytes are, or may still become, the head of a subscribe that the fast path serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// They are not.
    Other,
    /// Too few to tell.
    More,
    /// A whole head.
    Subscribe,
    /// The whole head of a publish that a fast path serves as well.
    Publish,
    /// The whole head of a publish that says twice how long its body is. Where that ends is a
    /// matter of taste, even when the lengths are equal: it is refused before hyper sees it.
    Unclear,
}

/// How every subscribe of the fast path begins. Other spellings of the same request (absolute
/// form, no query) are served by hyper.
const SUBSCRIBE_BEGIN: &[u8] = b"GET /.well-known/mercure?";

/// How every publish of the other fast path begins.
const PUBLISH_BEGIN: &[u8] = b"POST /.well-known/mercure";

/// How an HTTP/2 connection without TLS begins.
pub(crate) const H2_BEGIN: &[u8] = b"PRI";

/// How long the end of a peer's side is kept from hyper while a body is read: what has come is read
/// within microseconds, so a body that is not whole by then is cut short.
const END_GRACE: Duration = Duration::from_millis(500);

/// Most bytes of a request head: a thousand topics of some sixty bytes each fit, as the protocol
/// allows that many.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Looks at the first bytes of a request.
pub(crate) fn look(bytes: &[u8]) -> Look {
    let begins = |begin: &[u8]| {
        let common = bytes.len().min(begin.len());
        bytes[..common] == begin[..common]
    };
    let is_subscribe = begins(SUBSCRIBE_BEGIN);
    if !is_subscribe && !begins(PUBLISH_BEGIN) {
        // Enough of HTTP/2's preface to tell it from a POST.
        let is_preface_begun = bytes.len() < H2_BEGIN.len() && H2_BEGIN.starts_with(bytes);
        return if is_preface_begun {
            Look::More
        } else {
            Look::Other
        };
    }
    if memchr::memmem::find(bytes, b"\r\n\r\n").is_some() {
        return if is_subscribe {
            Look::Subscribe
        } else if parse_publish(bytes, &mut HeaderMap::new()).is_some() {
            Look::Publish
        } else if is_framed_twice(bytes) {
            Look::Unclear
        } else {
            Look::Other
        };
    }
    // hyper answers heads that are too large, or that end their lines in other ways.
    let ends_otherwise = [&b"\n\n"[..], b"\n\r\n"]
        .iter()
        .any(|end| memchr::memmem::find(bytes, end).is_some());
    if ends_otherwise && !is_subscribe && is_framed_twice(bytes) {
        Look::Unclear
    } else if ends_otherwise || bytes.len() >= HEAD_BYTES_MAX {
        Look::Other
    } else {
        Look::More
    }
}

/// Where hyper's HTTP/1 connection stands between its requests.
#[derive(Debug)]
pub(crate) struct Stage(AtomicU8);

const IDLE: u8 = 0;
const HEAD: u8 = 1;
/// A request without a body, or whose body has been read.
const SERVING: u8 = 2;
/// A request of whose body something may still come.
const SERVING_BODY: u8 = 3;
/// An answer went out before its request's body was read: from then on only hyper knows where a
/// request begins, and nothing is looked at any more.
const BLIND: u8 = 4;
/// A stream is being sent: a peer that ends its side has left.
const STREAMING: u8 = 5;

impl Stage {
    /// A whole head has come.
    pub(crate) fn serving(&self, has_body: bool) {
        let stage = if has_body { SERVING_BODY } else { SERVING };
        self.step(|now| if now == BLIND { BLIND } else { stage });
    }

    /// The body has been read to its end.
    pub(crate) fn body_read(&self) {
        self.step(|now| if now == SERVING_BODY { SERVING } else { now });
    }

    /// The answer is a stream.
    pub(crate) fn streaming(&self) {
        self.step(|now| if now == SERVING { STREAMING } else { now });
    }

    /// The answer is out; what follows is another request, or the rest of a body.
    pub(crate) fn answered(&self) {
        self.step(|now| match now {
            SERVING | STREAMING => IDLE,
            _ => BLIND,
        });
    }

    fn step(&self, next: impl Fn(u8) -> u8) {
        let stepped = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(next(now)));
        debug_assert!(stepped.is_ok(), "the closure always has a next stage");
    }
}

/// A transport under hyper that keeps subscribes and plain publishes from it.
///
/// Browsers and proxies send them on a connection that has served other requests. Between two
/// requests, when hyper asks for bytes, this looks at them first: a head for a fast path is
/// held back and hyper is told that the peer has finished, so that it lets go of the connection.
///
/// It also bounds how long a head may take from its first byte on: hyper's own timeout counts the
/// idle time before it as well.
#[derive(Debug)]
pub(crate) struct Sniffed {
    transport: Transport,
    /// Read, but not handed to hyper yet.
    held: BytesMut,
    stage: Arc<Stage>,
    captured: bool,
    /// Whether a new process has taken over.
    moving: watch::Receiver<Moving>,
    /// The peer has ended its side.
    ended: bool,
    head_timeout: Duration,
    head_deadline: Option<Pin<Box<Sleep>>>,
}

impl Sniffed {
    /// `first` are the bytes read before, known to begin something that is no plain subscribe.
    pub(crate) fn new(
        transport: Transport,
        first: BytesMut,
        head_timeout: Duration,
        moving: watch::Receiver<Moving>,
    ) -> Self {
        Self {
            moving,
            transport,
            held: first,
            stage: Arc::new(Stage(AtomicU8::new(HEAD))),
            captured: false,
            ended: false,
            head_timeout,
            head_deadline: Some(Box::pin(sleep(head_timeout))),
        }
    }

    /// What the service of this connection moves on.
    pub(crate) fn stage(&self) -> Arc<Stage> {
        Arc::clone(&self.stage)
    }

    /// The transport and the head's bytes, if one was held back.
    pub(crate) fn into_captured(self) -> Option<(Transport, BytesMut)> {
        self.captured.then_some((self.transport, self.held))
    }

    fn begin_head(&mut self) {
        self.stage.0.store(HEAD, Ordering::Release);
        self.head_deadline = Some(Box::pin(sleep(self.head_timeout)));
    }

    /// Whether the connection is to go to a new process before its next request.
    fn is_to_go(&self) -> bool {
        matches!(self.transport, Transport::Plain(_)) && *self.moving.borrow() == Moving::Gone
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.is_to_go() {
                self.captured = true;
                return Poll::Ready(Ok(()));
            }
            match look(&self.held) {
                Look::Subscribe | Look::Publish | Look::Unclear => {
                    self.captured = true;
                    return Poll::Ready(Ok(()));
                }
                Look::Other => {
                    self.begin_head();
                    return Poll::Ready(Ok(()));
                }
                Look::More => {}
            }
            if !self.held.is_empty() && self.is_late(context) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let mut scratch = [0_u8; 2048];
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.transport).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    // The peer is done; half a head is hyper's to judge.
                    self.begin_head();
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(())) => {
                    if self.held.is_empty() {
                        self.head_deadline = Some(Box::pin(sleep(self.head_timeout)));
                    }
                    self.held.extend_from_slice(buffer.filled());
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether the head that is being read has taken too long.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let deadline = self.head_deadline.as_mut();
        deadline.is_some_and(|deadline| deadline.as_mut().poll(context).is_ready())
    }
}

impl AsyncRead for Sniffed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.captured {
            return Poll::Ready(Ok(()));
        }
        if self.stage.0.load(Ordering::Acquire) == IDLE {
            match self.poll_idle(context) {
                Poll::Ready(Ok(())) if self.captured => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
        }
        if !self.held.is_empty() {
            let count = self.held.len().min(buffer.remaining());
            buffer.put_slice(&self.held[..count]);
            self.held.advance(count);
            return Poll::Ready(Ok(()));
        }
        let stage = self.stage.0.load(Ordering::Acquire);
        if stage == HEAD && self.is_late(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if !self.ended {
            let before = buffer.filled().len();
            let read = Pin::new(&mut self.transport).poll_read(context, buffer);
            if !matches!(read, Poll::Ready(Ok(()))) || buffer.filled().len() > before {
                return read;
            }
            self.ended = true;
            self.head_deadline = Some(Box::pin(sleep(END_GRACE)));
        }
        // A peer that has sent its request and ended its side still wants the answer. hyper would
        // drop it, so it hears of the end once the answer is out; it asks again then. While a body
        // is read it is not known here whether all of it has come: then it is given a moment.
        if stage == SERVING || (stage == SERVING_BODY && !self.is_late(context)) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

/// A transport for HTTP/2, whose first bytes were read already and whose frames are counted: a peer
/// that floods it with those that carry nothing is cut.
#[derive(Debug)]
pub(crate) struct Prefixed {
    transport: Transport,
    first: BytesMut,
    meter: FrameMeter,
}

impl Prefixed {
    pub(crate) fn new(transport: Transport, first: BytesMut) -> Self {
        Self {
            transport,
            first,
            meter: FrameMeter::new(),
        }
    }

    fn count(&mut self, bytes: &[u8]) -> io::Result<()> {
        let counted = self.meter.came(bytes);
        counted.map_err(|_| io::Error::other("a flood of HTTP/2 frames that carry nothing"))
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.first.is_empty() {
            std::task::ready!(Pin::new(&mut self.transport).poll_read(context, buffer))?;
            return Poll::Ready(self.count(&buffer.filled()[before..]));
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..count]);
        self.first.advance(count);
        self.count(&buffer.filled()[before..])?;
        if self.first.is_empty() {
            // The connection may be idle for long from now on.
            self.first = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// Writing goes straight to what is wrapped.
macro_rules! write_through {
    ($wrapper:ty, $inner:ident $(, $meter:ident)?) => {
        impl AsyncWrite for $wrapper {
            fn poll_write(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                let inner = Pin::new(&mut self.$inner);
                let written = std::task::ready!(inner.poll_write(context, bytes))?;
                $(self.$meter.sent(written);)?
                Poll::Ready(Ok(written))
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let inner = Pin::new(&mut self.$inner);
                let written = std::task::ready!(inner.poll_write_vectored(context, slices))?;
                $(self.$meter.sent(written);)?
                Poll::Ready(Ok(written))
            }

            fn is_write_vectored(&self) -> bool {
                self.$inner.is_write_vectored()
            }

            fn poll_flush(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.$inner).poll_flush(context)
            }

            fn poll_shutdown(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.$inner).poll_shutdown(context)
            }
        }
    };
}

write_through!(Bordered, stream);
write_through!(Sniffed, transport);
write_through!(Prefixed, transport, meter);

#[cfg(test)]
mod tests;
