//! A TCP socket under TLS: the same as a bare one, with rustls between the frames and the kernel.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::Token;
use mio::net::TcpStream;
use rustls::ServerConnection;

use super::tcp::{LAST_CHUNK, none_if_full, register, reset, set_user_timeout_ms};
use super::{DISCARDED_BYTES_MAX, Heard, Outgoing, WRITE_FRAMES_MAX, reason_of};
use crate::close::CloseReason;
use crate::frame::{Frame, Framing};

/// Most encrypted bytes rustls may hold for one subscriber that the kernel has not taken.
const TLS_PENDING_BYTES_MAX: usize = 64 * 1024;

/// A socket, its TLS state, and how its stream is framed.
#[derive(Debug)]
pub struct TlsSink {
    stream: TcpStream,
    connection: ServerConnection,
    framing: Framing,
}

impl TlsSink {
    /// Takes over a connected, non-blocking socket after the handshake and the answer head.
    #[must_use]
    pub fn new(
        stream: std::net::TcpStream,
        mut connection: ServerConnection,
        framing: Framing,
    ) -> Self {
        connection.set_buffer_limit(Some(TLS_PENDING_BYTES_MAX));
        Self {
            stream: TcpStream::from_std(stream),
            connection,
            framing,
        }
    }

    pub(super) fn into_parts(self) -> (TcpStream, ServerConnection, Framing) {
        (self.stream, self.connection, self.framing)
    }

    pub(super) const fn framing(&self) -> Framing {
        self.framing
    }

    pub(super) fn write(&mut self, outgoing: &Outgoing<'_>, skip: usize) -> io::Result<usize> {
        let mut reached = skip;
        // rustls takes a bounded part, as few records as hold it; then the kernel makes room for
        // the next or says that it is full.
        loop {
            self.flush()?;
            if self.connection.wants_write() {
                break;
            }
            let mut writer = self.connection.writer();
            let taken = if let Some(piece) = outgoing.piece(self.framing) {
                writer.write(&piece[reached..])?
            } else {
                let mut slices = [IoSlice::new(&[]); WRITE_FRAMES_MAX];
                let count = outgoing.slices(self.framing, reached, &mut slices);
                writer.write_vectored(&slices[..count])?
            };
            if taken == 0 {
                break;
            }
            reached += taken;
        }
        Ok(reached - skip)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            if none_if_full(self.connection.write_tls(&mut self.stream))? == 0 {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn register(&mut self, registry: &mio::Registry, token: Token) -> io::Result<()> {
        register(&mut self.stream, registry, token)
    }

    pub(super) fn hear(&mut self, discarded: &mut u32) -> Heard {
        let mut scratch = [0_u8; 4096];
        loop {
            match self.connection.read_tls(&mut self.stream) {
                Ok(0) => return Heard::End(CloseReason::PeerLeft),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Heard::End(reason_of(&error)),
            }
            let Ok(state) = self.connection.process_new_packets() else {
                // rustls has queued the alert that says why.
                let _ = self.flush();
                return Heard::End(CloseReason::ProtocolError);
            };
            if state.peer_has_closed() {
                return Heard::End(CloseReason::PeerLeft);
            }
            while let Ok(count) = self.connection.reader().read(&mut scratch) {
                if count == 0 {
                    break;
                }
                *discarded = discarded.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
                if *discarded > DISCARDED_BYTES_MAX {
                    return Heard::End(CloseReason::ProtocolError);
                }
            }
        }
    }

    pub(super) fn set_user_timeout_ms(&self, timeout_ms: u32) {
        set_user_timeout_ms(&self.stream, timeout_ms);
    }

    pub(super) fn close(mut self, reason: CloseReason, words: Option<&Frame>, at_border: bool) {
        if reason.resets() {
            reset(&self.stream);
            return;
        }
        if let Some(words) = words {
            let _ = self.connection.writer().write(words.framed(self.framing));
        }
        if at_border && self.framing == Framing::Chunked {
            let _ = self.connection.writer().write(LAST_CHUNK);
        }
        self.connection.send_close_notify();
        let _ = self.flush();
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
