//! What a shard writes to. The only code that makes system calls on a subscriber's descriptor.

use std::io::{self, IoSlice};

use std::os::fd::{BorrowedFd, OwnedFd};

use mio::Token;
use mio::net::TcpStream;

use crate::close::CloseReason;
use crate::frame::{Frame, Framing};

// A bare TCP socket: no buffer of its own.
mod tcp;

// Several bare sockets that are written the same bytes.
pub(crate) mod volley;

// TLS after the handshake, of which a stream needs little.
pub(crate) mod records;

// A TCP socket under TLS: it holds what the kernel has not taken yet.
pub(crate) mod tls;

// A body that hyper sends: HTTP/2 streams, and subscribes that reached hyper's connection.
mod pipe;

// Sinks that panic where a test wants them to.
#[cfg(test)]
pub(crate) mod faults;

// Descriptor tables of their own for shards.
pub(crate) mod table;

// Descriptors that the process was started with.
pub(crate) mod given;

pub use pipe::{PIPE_BYTES_MAX, PipeBody, PipeSink, pipe};
pub use table::Ticket;
pub use tcp::{SocketOptions, TcpSink};
pub use tls::{TlsLayer, TlsSink};

/// Most frames in one write: a vectored call takes 1,024 at most (`IOV_MAX`), and past a few dozen
/// the cost per frame no longer falls.
pub const WRITE_FRAMES_MAX: usize = 64;

/// Where a subscriber's bytes go.
///
/// Every kind takes what it can at once and never waits; what it does not take stays in the log,
/// remembered by the subscriber's cursor.
#[derive(Debug)]
pub enum Sink {
    /// HTTP/1.x without TLS.
    Tcp(TcpSink),
    /// HTTP/1.x under TLS.
    Tls(Box<TlsSink>),
    /// A stream inside hyper.
    Pipe(PipeSink),
}

/// A sink on its way into a shard.
#[derive(Debug)]
pub enum Arriving {
    /// Usable as it is.
    Here(Sink),
    /// Its socket has been sent into the shard's own descriptor table.
    Sent(Ticket, Wrapping),
}

/// What is around a socket.
#[derive(Debug)]
pub enum Wrapping {
    /// Nothing.
    Plain(Framing),
    /// TLS.
    Tls(Box<TlsLayer>, Framing),
}

impl Sink {
    /// The socket and what is around it; a pipe has none and comes back.
    ///
    /// # Errors
    ///
    /// The sink itself.
    pub fn into_socket(self) -> Result<(TcpStream, Wrapping), Self> {
        match self {
            Self::Tcp(sink) => {
                let (stream, framing) = sink.into_parts();
                Ok((stream, Wrapping::Plain(framing)))
            }
            Self::Tls(sink) => {
                let (stream, layer, framing) = sink.into_parts();
                Ok((stream, Wrapping::Tls(Box::new(layer), framing)))
            }
            Self::Pipe(sink) => Err(Self::Pipe(sink)),
        }
    }

    /// A sink around a socket.
    #[must_use]
    pub fn around(socket: OwnedFd, wrapping: Wrapping) -> Self {
        match wrapping {
            Wrapping::Plain(framing) => Self::Tcp(TcpSink::new(socket.into(), framing)),
            Wrapping::Tls(layer, framing) => {
                Self::Tls(Box::new(TlsSink::new(socket.into(), *layer, framing)))
            }
        }
    }
}

/// What reading from a subscriber, who has nothing more to say, brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing, or bytes that were thrown away.
    Nothing,
    /// The stream is over for this reason.
    End(CloseReason),
}

/// Most bytes thrown away per stream that arrive behind a subscribe. A pipelined request or two is
/// tolerated; more is a peer that does not speak the protocol.
pub const DISCARDED_BYTES_MAX: u32 = 64 * 1024;

/// What one write sends.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The frames, in order.
    pub frames: &'a [Frame],
    /// The same bytes in one piece and in the sink's framing, if somebody has joined them.
    pub joined: Option<&'a [u8]>,
}

impl<'a> Outgoing<'a> {
    /// A single frame.
    #[must_use]
    pub const fn one(frame: &'a Frame) -> Self {
        Self {
            frames: std::slice::from_ref(frame),
            joined: None,
        }
    }

    /// The bytes as one piece, if they are one.
    fn piece(&self, framing: Framing) -> Option<&'a [u8]> {
        match (self.joined, self.frames) {
            (Some(bytes), _) => Some(bytes),
            (None, [frame]) => Some(frame.framed(framing)),
            (None, _) => None,
        }
    }

    /// Fills `slices` with what is left after the first `skip` bytes; how many were filled.
    fn slices(
        &self,
        framing: Framing,
        skip: usize,
        slices: &mut [IoSlice<'a>; WRITE_FRAMES_MAX],
    ) -> usize {
        let mut count = 0;
        let mut passed = 0;
        let pieces = self.frames.iter().map(|frame| frame.framed(framing));
        for bytes in pieces {
            if let Some(rest) = bytes.get(skip.saturating_sub(passed)..)
                && !rest.is_empty()
                && count < WRITE_FRAMES_MAX
            {
                slices[count] = IoSlice::new(rest);
                count += 1;
            }
            passed += bytes.len();
        }
        count
    }
}

impl Sink {
    #[cfg(test)]
    pub(crate) fn descriptor(&self) -> Option<std::os::fd::RawFd> {
        match self {
            Self::Tcp(sink) => Some(sink.descriptor()),
            Self::Tls(_) | Self::Pipe(_) => None,
        }
    }

    /// How frames are wrapped for this sink.
    #[must_use]
    pub fn framing(&self) -> Framing {
        match self {
            Self::Tcp(sink) => sink.framing(),
            Self::Tls(sink) => sink.framing(),
            Self::Pipe(_) => Framing::Raw,
        }
    }

    /// The word for metrics.
    #[must_use]
    pub const fn kind(&self) -> SinkKind {
        match self {
            Self::Tcp(_) => SinkKind::Tcp,
            Self::Tls(_) => SinkKind::Tls,
            Self::Pipe(_) => SinkKind::Pipe,
        }
    }

    /// Writes the framed bytes of at most [`WRITE_FRAMES_MAX`] frames, leaving out the first
    /// `skip`; one call for TCP. Returns how many bytes were taken beyond `skip`, 0 when none can
    /// be taken now.
    ///
    /// # Errors
    ///
    /// The socket's error: the stream is over.
    #[inline]
    pub fn write(&mut self, outgoing: &Outgoing<'_>, skip: usize) -> io::Result<usize> {
        #[cfg(test)]
        faults::strike(self.descriptor(), faults::Place::Write);
        let taken = match self {
            Self::Tcp(sink) => sink.write(outgoing, skip),
            _ => self.write_wrapped(outgoing, skip),
        };
        #[cfg(test)]
        if taken.is_ok() {
            faults::strike(self.descriptor(), faults::Place::Wrote);
        }
        taken
    }

    // Apart, so that the bare socket's write becomes part of the sweep.
    #[inline(never)]
    fn write_wrapped(&mut self, outgoing: &Outgoing<'_>, skip: usize) -> io::Result<usize> {
        match self {
            Self::Tcp(sink) => sink.write(outgoing, skip),
            Self::Tls(sink) => sink.write(outgoing, skip),
            Self::Pipe(sink) => sink.write(outgoing, skip),
        }
    }

    /// Starts telling the shard's poll about this sink.
    ///
    /// # Errors
    ///
    /// The kernel refused the registration (out of memory).
    pub fn register(&mut self, registry: &mio::Registry, token: Token) -> io::Result<()> {
        #[cfg(test)]
        faults::strike(self.descriptor(), faults::Place::Register);
        match self {
            Self::Tcp(sink) => sink.register(registry, token),
            Self::Tls(sink) => sink.register(registry, token),
            Self::Pipe(_) => Ok(()),
        }
    }

    /// The socket, if another process can go on with it.
    pub(crate) fn socket_to_give(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tcp(sink) => Some(sink.as_fd()),
            Self::Tls(sink) => sink.socket_to_give(),
            Self::Pipe(_) => None,
        }
    }

    /// What that needs beyond the socket: the TLS suite by its number, and how many bytes
    /// [`Self::give_layer`] appends. `None`: nothing.
    pub(crate) fn layer_to_give(&self) -> Option<(u16, usize)> {
        match self {
            Self::Tls(sink) => sink.layer_to_give(),
            Self::Tcp(_) | Self::Pipe(_) => None,
        }
    }

    /// Appends it; `out` has room. From now on nothing is written here.
    pub(crate) fn give_layer(&mut self, out: &mut Vec<u8>) {
        if let Self::Tls(sink) = self {
            sink.give_layer(out);
        }
    }

    /// It has not reached the other process: the stream goes on here.
    pub(crate) fn keep_layer(&mut self) {
        if let Self::Tls(sink) = self {
            sink.keep_layer();
        }
    }

    /// The socket is another process's: no more is told about it here, and nothing is said to the
    /// peer.
    pub(crate) fn let_go(self, registry: &mio::Registry) {
        match self {
            Self::Tcp(sink) => sink.let_go(registry),
            Self::Tls(sink) => sink.let_go(registry),
            Self::Pipe(_) => {}
        }
    }

    /// Reads and throws away what the peer sends, and notices its end. `discarded` counts on.
    pub fn hear(&mut self, discarded: &mut u32) -> Heard {
        #[cfg(test)]
        faults::strike(self.descriptor(), faults::Place::Hear);
        match self {
            Self::Tcp(sink) => sink.hear(discarded),
            Self::Tls(sink) => sink.hear(discarded),
            Self::Pipe(_) => Heard::Nothing,
        }
    }

    /// Pushes out what the sink itself still holds (TLS only), after the socket became writable.
    ///
    /// # Errors
    ///
    /// The socket's error: the stream is over.
    pub fn flush(&mut self) -> io::Result<()> {
        #[cfg(test)]
        faults::strike(self.descriptor(), faults::Place::Flush);
        match self {
            Self::Tls(sink) => sink.flush(),
            Self::Tcp(_) | Self::Pipe(_) => Ok(()),
        }
    }

    /// A subscriber that is behind answers the kernel's zero-window probes and must not be taken
    /// for a vanished one, so the kernel's own timeout is lengthened meanwhile (decision 0009).
    pub fn set_user_timeout_ms(&self, timeout_ms: u32) {
        match self {
            Self::Tcp(sink) => sink.set_user_timeout_ms(timeout_ms),
            Self::Tls(sink) => sink.set_user_timeout_ms(timeout_ms),
            Self::Pipe(_) => {}
        }
    }

    /// Ends the stream. `last_words` (unframed text) are sent if there is room and the reason
    /// allows; `at_border` says whether the bytes so far end with a whole frame.
    pub fn close(self, reason: CloseReason, last_words: Option<&Frame>, at_border: bool) {
        #[cfg(test)]
        faults::strike(self.descriptor(), faults::Place::Close);
        let words = if reason.resets() || !at_border {
            None
        } else {
            last_words
        };
        match self {
            Self::Tcp(sink) => sink.close(reason, words, at_border),
            Self::Tls(sink) => sink.close(reason, words, at_border),
            Self::Pipe(sink) => sink.close(reason, words),
        }
    }
}

/// The kinds of sinks, for gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SinkKind {
    /// A bare socket.
    Tcp,
    /// A socket under TLS.
    Tls,
    /// A stream inside hyper.
    Pipe,
}

impl SinkKind {
    /// Every kind, in the order of the metric's label values.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Tls, Self::Pipe];

    /// Whether there is a descriptor behind it that the shard holds.
    #[must_use]
    pub const fn has_socket(self) -> bool {
        match self {
            Self::Tcp | Self::Tls => true,
            Self::Pipe => false,
        }
    }

    /// The label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Pipe => "h2",
        }
    }
}

/// The reason behind a socket error.
#[must_use]
pub fn reason_of(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => CloseReason::PeerVanished,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => CloseReason::PeerLeft,
        _ => CloseReason::SocketError,
    }
}
