//! The byte stream under HTTP: TCP with or without TLS, and the look at what comes next on it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

// HTTP/2 frames that carry nothing, counted.
mod frames;
// What kind of request comes.
mod look;

use frames::FrameMeter;
pub(crate) use look::{H2_BEGIN, HEAD_BYTES_MAX, Look, look};

use crate::frame::Framing;
use crate::socket::{Sink, TcpSink, TlsLayer, TlsSink};
use crate::span::Span;
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

/// Most bytes that are thrown away behind a request for a stream: its peer has nothing more to say.
const BEHIND_STREAM_MAX: usize = 64 * 1024;

/// Where hyper's HTTP/1 connection stands between its requests.
#[derive(Debug)]
pub(crate) struct Stage(AtomicU8);

/// Its last answer is out.
const IDLE: u8 = 0;
const HEAD: u8 = 1;
/// A request of which all that its handler wants has been read.
const SERVING: u8 = 2;
/// A request of whose body something may still be wanted.
const SERVING_BODY: u8 = 3;
/// A stream is being sent: a peer that ends its side has left.
const STREAMING: u8 = 4;

impl Stage {
    /// A whole head has come.
    pub(crate) fn serving(&self, has_body: bool) {
        let stage = if has_body { SERVING_BODY } else { SERVING };
        self.step(|_| stage);
    }

    /// The body has been read to its end.
    pub(crate) fn body_read(&self) {
        self.step(|now| if now == SERVING_BODY { SERVING } else { now });
    }

    /// The answer is a stream.
    pub(crate) fn streaming(&self) {
        self.step(|_| STREAMING);
    }

    /// The answer is out; what follows is the rest of a body, and then another request.
    pub(crate) fn answered(&self) {
        self.step(|_| IDLE);
    }

    fn step(&self, next: impl Fn(u8) -> u8) {
        let stepped = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(next(now)));
        debug_assert!(stepped.is_ok(), "the closure always has a next stage");
    }
}

/// A transport under hyper that hands it one request at a time, and keeps subscribes, plain
/// publishes and unclear heads from it.
///
/// Browsers and proxies send several requests on one connection, some before the answer to the one
/// before. When hyper asks for bytes and a request is over, this looks at the next one first: a
/// head for a fast path is held back and hyper is told that the peer has finished, so that it lets
/// go of the connection.
///
/// It also bounds how long a head may take from its first byte on: hyper's own timeout counts the
/// idle time before it as well.
#[derive(Debug)]
pub(crate) struct Sniffed {
    transport: Transport,
    /// Read, but not handed to hyper yet.
    held: BytesMut,
    /// What hyper may still have of the request at hand.
    span: Span,
    stage: Arc<Stage>,
    captured: bool,
    /// Whether a new process has taken over.
    moving: watch::Receiver<Moving>,
    /// The peer has ended its side.
    ended: bool,
    /// Bytes that came behind a request for a stream, and were thrown away.
    behind_stream_bytes: usize,
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
            span: Span::of(&first),
            held: first,
            stage: Arc::new(Stage(AtomicU8::new(HEAD))),
            captured: false,
            ended: false,
            behind_stream_bytes: 0,
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
        self.span = Span::of(&self.held);
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
            let had_begun = !self.held.is_empty();
            match self.poll_hold(context) {
                // The peer is done; half a head is hyper's to judge.
                Poll::Ready(Ok(0)) => {
                    self.begin_head();
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(_)) if had_begun => {}
                Poll::Ready(Ok(_)) => {
                    self.head_deadline = Some(Box::pin(sleep(self.head_timeout)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Reads more than hyper may have; how much, 0 when the peer has ended its side.
    fn poll_hold(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let mut scratch = [0_u8; 2048];
        let mut buffer = ReadBuf::new(&mut scratch);
        std::task::ready!(Pin::new(&mut self.transport).poll_read(context, &mut buffer))?;
        let count = buffer.filled().len();
        self.ended = count == 0;
        self.held.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(count))
    }

    /// The request at hand has been handed on, its answer has not: hyper only wants to know whether
    /// the peer is still there.
    fn poll_between(&mut self, stage: u8, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if stage == STREAMING {
            loop {
                self.behind_stream_bytes += self.held.len();
                self.held.clear();
                if self.behind_stream_bytes > BEHIND_STREAM_MAX {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                if std::task::ready!(self.poll_hold(context))? == 0 {
                    return Poll::Ready(Ok(()));
                }
            }
        }
        // A peer that has sent its request and ended its side still wants the answer. hyper would
        // drop it, so it hears of the end, or of the next request, once the answer is out: it asks
        // again then.
        while self.held.is_empty() && !self.ended {
            std::task::ready!(self.poll_hold(context))?;
        }
        Poll::Pending
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
        if self.span.is_over() {
            match self.stage.0.load(Ordering::Acquire) {
                // What was thrown away may have been half a request.
                IDLE if self.behind_stream_bytes > 0 => return Poll::Ready(Ok(())),
                IDLE => match self.poll_idle(context) {
                    Poll::Ready(Ok(())) if self.captured => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(())) => {}
                    other => return other,
                },
                stage => return self.poll_between(stage, context),
            }
        }
        if self.held.is_empty() {
            if self.ended {
                // A head or a body is cut short.
                return Poll::Ready(Ok(()));
            }
            if self.stage.0.load(Ordering::Acquire) == HEAD && self.is_late(context) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            let before = buffer.filled().len();
            std::task::ready!(Pin::new(&mut self.transport).poll_read(context, buffer))?;
            let this = &mut *self;
            let came = &buffer.filled()[before..];
            this.ended = came.is_empty();
            let passed = this.span.pass(came);
            this.held.extend_from_slice(&came[passed..]);
            buffer.set_filled(before + passed);
            return Poll::Ready(Ok(()));
        }
        let count = self.held.len().min(buffer.remaining());
        let this = &mut *self;
        let passed = this.span.pass(&this.held[..count]);
        buffer.put_slice(&this.held[..passed]);
        this.held.advance(passed);
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
