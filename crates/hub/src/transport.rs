//! The byte stream under HTTP: TCP with or without TLS, and the look at what comes next on it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::frame::Framing;
use crate::socket::{Sink, TcpSink, TlsSink};

/// A connection from a peer.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Takes the bare socket out of the runtime: nothing of this connection stays behind in it.
    pub(crate) fn into_sink(self, framing: Framing) -> io::Result<Sink> {
        Ok(match self {
            Self::Plain(stream) => Sink::Tcp(TcpSink::new(stream.into_std()?, framing)),
            Self::Tls(stream) => {
                let (stream, connection) = stream.into_inner();
                Sink::Tls(Box::new(TlsSink::new(stream.into_std()?, connection, framing)))
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

/// Whether bytes are, or may still become, the head of a subscribe that the fast path serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// They are not.
    Other,
    /// Too few to tell.
    More,
    /// A whole head.
    Subscribe,
}

/// How every subscribe of the fast path begins. Other spellings of the same request (absolute
/// form, no query) are served by hyper.
const SUBSCRIBE_BEGIN: &[u8] = b"GET /.well-known/mercure?";

/// Most bytes of a request head.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Looks at the first bytes of a request.
pub(crate) fn look(bytes: &[u8]) -> Look {
    let common = bytes.len().min(SUBSCRIBE_BEGIN.len());
    if bytes[..common] != SUBSCRIBE_BEGIN[..common] {
        return Look::Other;
    }
    if memchr::memmem::find(bytes, b"\r\n\r\n").is_some() {
        return Look::Subscribe;
    }
    // hyper answers heads that are too large, or that end their lines in other ways.
    if bytes.len() >= HEAD_BYTES_MAX { Look::Other } else { Look::More }
}

/// A transport under hyper that keeps subscribes from it.
///
/// Browsers and proxies send a subscribe on a connection that has served other requests. Between
/// two requests, when hyper asks for bytes, this looks at them first: the head of a subscribe is
/// held back and hyper is told that the peer has finished, so that it lets go of the connection.
#[derive(Debug)]
pub(crate) struct Sniffed {
    transport: Transport,
    /// Read, but not handed to hyper yet.
    held: BytesMut,
    /// A request is being read or answered: what comes now belongs to it.
    busy: Arc<AtomicBool>,
    captured: bool,
}

impl Sniffed {
    /// `first` are the bytes read before, known to be no subscribe.
    pub(crate) fn new(transport: Transport, first: BytesMut) -> Self {
        let busy = Arc::new(AtomicBool::new(!first.is_empty()));
        Self { transport, held: first, busy, captured: false }
    }

    /// A transport that is never looked at: HTTP/2 has no place between requests.
    pub(crate) fn new_busy(transport: Transport, first: BytesMut) -> Self {
        Self { transport, held: first, busy: Arc::new(AtomicBool::new(true)), captured: false }
    }

    /// The mark that requests hold while they are served.
    pub(crate) fn busy(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.busy)
    }

    /// The transport and the subscribe's bytes, if one was held back.
    pub(crate) fn into_captured(self) -> Option<(Transport, BytesMut)> {
        self.captured.then_some((self.transport, self.held))
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match look(&self.held) {
                Look::Subscribe => {
                    self.captured = true;
                    return Poll::Ready(Ok(()));
                }
                Look::Other => {
                    self.busy.store(true, Ordering::Release);
                    return Poll::Ready(Ok(()));
                }
                Look::More => {}
            }
            let mut scratch = [0_u8; 2048];
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.transport).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    // The peer is done; half a head is hyper's to judge.
                    self.busy.store(true, Ordering::Release);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(())) => self.held.extend_from_slice(buffer.filled()),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
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
        if !self.busy.load(Ordering::Acquire) {
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
        Pin::new(&mut self.transport).poll_read(context, buffer)
    }
}

impl AsyncWrite for Sniffed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_subscribe_heads_are_taken() {
        let table: [(&[u8], Look); 8] = [
            (b"", Look::More),
            (b"GET /.we", Look::More),
            (b"GET /.well-known/mercure?topic=a HTTP/1.1\r\n", Look::More),
            (b"GET /.well-known/mercure?topic=a HTTP/1.1\r\nHost: h\r\n\r\n", Look::Subscribe),
            (b"GET /.well-known/mercure HTTP/1.1\r\n\r\n", Look::Other),
            (b"HEAD /.well-known/mercure?topic=a HTTP/1.1\r\n\r\n", Look::Other),
            (b"POST /.well-known/mercure", Look::Other),
            (b"PRI * HTTP/2.0\r\n\r\n", Look::Other),
        ];
        for (bytes, expected) in table {
            assert_eq!(look(bytes), expected, "{}", String::from_utf8_lossy(bytes));
        }
        let long = [SUBSCRIBE_BEGIN, &[b'a'; HEAD_BYTES_MAX]].concat();
        assert_eq!(look(&long), Look::Other);
    }
}
