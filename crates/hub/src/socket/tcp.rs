//! A bare TCP socket: what the kernel does not take stays in the log.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Token};
use rustix::io::Errno;
use rustix::net::{self, SendFlags};
use socket2::SockRef;

use super::volley::Taken;
use super::{DISCARDED_BYTES_MAX, Heard, Outgoing, WRITE_FRAMES_MAX, reason_of};
use crate::close::CloseReason;
use crate::config::Settings;
use crate::frame::{Frame, Framing};

/// Kernel settings of a subscriber's socket.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// Longest time sent bytes may stay unacknowledged; zero leaves the kernel's (15 min or more).
    pub user_timeout: Duration,
    /// `SO_SNDBUF` in bytes (the kernel doubles it); 0 leaves the kernel's, which grows to 4 MB
    /// for a peer that never reads.
    pub send_buffer_bytes: usize,
}

impl SocketOptions {
    /// As the operator wants them.
    pub(crate) const fn of(settings: &Settings) -> Self {
        Self {
            user_timeout: settings.tcp_user_timeout,
            send_buffer_bytes: settings.send_buffer,
        }
    }

    /// Applies the settings. Failures are ignored: a kernel that refuses one still serves.
    pub fn apply(self, socket: &SockRef<'_>) {
        let _ = socket.set_tcp_nodelay(true);
        if !self.user_timeout.is_zero() {
            let _ = socket.set_tcp_user_timeout(Some(self.user_timeout));
        }
        if self.send_buffer_bytes > 0 {
            let _ = socket.set_send_buffer_size(self.send_buffer_bytes);
        }
    }
}

/// A socket and how its stream is framed.
#[derive(Debug)]
pub struct TcpSink {
    stream: TcpStream,
    framing: Framing,
}

impl TcpSink {
    /// Takes over a connected, non-blocking socket whose answer head has been sent.
    #[must_use]
    pub fn new(stream: std::net::TcpStream, framing: Framing) -> Self {
        Self {
            stream: TcpStream::from_std(stream),
            framing,
        }
    }

    pub(super) fn into_parts(self) -> (TcpStream, Framing) {
        (self.stream, self.framing)
    }

    #[cfg(test)]
    pub(super) fn descriptor(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.stream)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn let_go(mut self, registry: &mio::Registry) {
        // The poll watches the open socket, not the descriptor: it would go on after this is
        // closed, for as long as the other process has it.
        let _ = registry.deregister(&mut self.stream);
    }

    pub(super) const fn framing(&self) -> Framing {
        self.framing
    }

    #[inline]
    pub(super) fn write(&mut self, outgoing: &Outgoing<'_>, skip: usize) -> io::Result<usize> {
        if let Some(piece) = outgoing.piece(self.framing) {
            return Ok(self.send(&piece[skip..])?);
        }
        self.write_slices(outgoing, skip)
    }

    // send(2) is a little cheaper than writev(2) for one piece, and the system's own call than the
    // C library's, which makes every send a place where a thread may be cancelled.
    #[inline]
    pub(super) fn send(&self, piece: &[u8]) -> Taken {
        match net::send(&self.stream, piece, SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            taken => taken,
        }
    }

    // Apart: the room for its slices would be the sweep's.
    #[inline(never)]
    fn write_slices(&mut self, outgoing: &Outgoing<'_>, skip: usize) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); WRITE_FRAMES_MAX];
        let count = outgoing.slices(self.framing, skip, &mut slices);
        if count == 0 {
            return Ok(0);
        }
        none_if_full(self.stream.write_vectored(&slices[..count]))
    }

    pub(super) fn register(&mut self, registry: &mio::Registry, token: Token) -> io::Result<()> {
        register(&mut self.stream, registry, token)
    }

    pub(super) fn hear(&mut self, discarded: &mut u32) -> Heard {
        hear_and_discard(&mut self.stream, discarded)
    }

    pub(super) fn set_user_timeout_ms(&self, timeout_ms: u32) {
        set_user_timeout_ms(&self.stream, timeout_ms);
    }

    pub(super) fn close(mut self, reason: CloseReason, words: Option<&Frame>, at_border: bool) {
        if reason.resets() {
            reset(&self.stream);
            return;
        }
        let mut farewell = Vec::new();
        if let Some(words) = words {
            farewell.extend_from_slice(words.framed(self.framing));
        }
        if at_border && self.framing == Framing::Chunked {
            farewell.extend_from_slice(LAST_CHUNK);
        }
        // Best effort: a full socket means the peer is behind and resumes by id.
        let _ = self.stream.write(&farewell);
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// The end of a chunked body.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

pub(super) fn register(
    stream: &mut TcpStream,
    registry: &mio::Registry,
    token: Token,
) -> io::Result<()> {
    // Both directions once: with edge triggering the kernel reports room only after a write came
    // up short, so nothing has to be armed later.
    registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
}

pub(super) fn set_user_timeout_ms(stream: &TcpStream, timeout_ms: u32) {
    let timeout = Duration::from_millis(u64::from(timeout_ms));
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(timeout));
}

/// Drops the socket with a reset, so that unread megabytes do not linger in the kernel.
pub(super) fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// "Would block" is not an error here: nothing was taken.
pub(super) fn none_if_full(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(0)
        }
        other => other,
    }
}

pub(super) fn hear_and_discard(stream: &mut TcpStream, discarded: &mut u32) -> Heard {
    let mut scratch = [0_u8; 4096];
    // Edge-triggered: read until the kernel has no more, or until the peer has sent too much.
    loop {
        match stream.read(&mut scratch) {
            Ok(0) => return Heard::End(CloseReason::PeerLeft),
            Ok(count) => {
                *discarded = discarded.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
                if *discarded > DISCARDED_BYTES_MAX {
                    return Heard::End(CloseReason::ProtocolError);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Heard::End(reason_of(&error)),
        }
    }
}
