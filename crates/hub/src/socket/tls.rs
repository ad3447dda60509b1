//! A TCP socket under TLS: the same as a bare one, with records between the frames and the kernel.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

use mio::Token;
use mio::net::TcpStream;
use rustls::ServerConnection;

use super::records::{Received, Records};
use super::tcp::{LAST_CHUNK, none_if_full, register, reset, set_user_timeout_ms};
use super::{DISCARDED_BYTES_MAX, Heard, Outgoing, WRITE_FRAMES_MAX, reason_of};
use crate::close::CloseReason;
use crate::frame::{Frame, Framing};

#[cfg(test)]
#[path = "tls/tests.rs"]
pub(crate) mod tests;

/// Most sealed bytes that are held for one subscriber because the kernel has not taken them, but
/// for a record that is begun below it.
const TLS_PENDING_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    /// Where records are put together: one for all streams of a shard, since it is empty again when
    /// a write is over.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A socket, its TLS state, and how its stream is framed.
#[derive(Debug)]
pub struct TlsSink {
    stream: TcpStream,
    layer: TlsLayer,
    framing: Framing,
}

/// What stands between the frames and the kernel.
#[derive(Debug)]
pub struct TlsLayer(Layer);

#[derive(Debug)]
enum Layer {
    /// The secrets alone, and sealed bytes that the kernel has not taken: none while it is idle.
    Lean(Records, Vec<u8>),
    /// rustls with its buffers: TLS 1.2, and connections on which a record has come in part.
    Whole(Box<ServerConnection>),
}

impl TlsLayer {
    /// Goes on with a connection after the handshake and the answer's head. `at_border`: nothing
    /// has been read of a record that has not come whole.
    ///
    /// # Errors
    ///
    /// rustls does not hand the connection over.
    pub fn after(mut connection: ServerConnection, at_border: bool) -> io::Result<Self> {
        if at_border && Records::can_take(&connection) {
            let records = Records::take(connection).map_err(io::Error::other)?;
            return Ok(Self(Layer::Lean(records, Vec::new())));
        }
        connection.set_buffer_limit(Some(TLS_PENDING_BYTES_MAX));
        Ok(Self(Layer::Whole(Box::new(connection))))
    }
}

impl TlsSink {
    /// Takes over a connected, non-blocking socket.
    #[must_use]
    pub fn new(stream: std::net::TcpStream, layer: TlsLayer, framing: Framing) -> Self {
        Self {
            stream: TcpStream::from_std(stream),
            layer,
            framing,
        }
    }

    pub(super) fn into_parts(self) -> (TcpStream, TlsLayer, Framing) {
        (self.stream, self.layer, self.framing)
    }

    pub(super) const fn framing(&self) -> Framing {
        self.framing
    }

    /// What is taken is bounded, and only then does the kernel make room for the next or say that
    /// it is full.
    pub(super) fn write(&mut self, outgoing: &Outgoing<'_>, skip: usize) -> io::Result<usize> {
        let mut reached = skip;
        self.flush()?;
        while !self.layer.is_holding() {
            let mut slices = [IoSlice::new(&[]); WRITE_FRAMES_MAX];
            let count = if let Some(piece) = outgoing.piece(self.framing) {
                slices[0] = IoSlice::new(&piece[reached..]);
                1
            } else {
                outgoing.slices(self.framing, reached, &mut slices)
            };
            let taken = match &mut self.layer.0 {
                Layer::Lean(records, pending) => SCRATCH.with_borrow_mut(|sealed| {
                    sealed.clear();
                    let taken = records.seal(&slices[..count], TLS_PENDING_BYTES_MAX, sealed)?;
                    let sent = write_all_it_takes(&mut self.stream, sealed)?;
                    pending.extend_from_slice(&sealed[sent..]);
                    io::Result::Ok(taken)
                })?,
                Layer::Whole(connection) => {
                    let taken = connection.writer().write_vectored(&slices[..count])?;
                    self.flush()?;
                    taken
                }
            };
            if taken == 0 {
                break;
            }
            reached += taken;
        }
        Ok(reached - skip)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer.0 {
            Layer::Lean(_, pending) if pending.is_empty() => {}
            Layer::Lean(_, pending) => {
                let sent = write_all_it_takes(&mut self.stream, pending)?;
                if sent > 0 {
                    // Also gives the memory back.
                    *pending = pending[sent..].to_vec();
                }
            }
            Layer::Whole(connection) => {
                while connection.wants_write() {
                    if none_if_full(connection.write_tls(&mut self.stream))? == 0 {
                        break;
                    }
                }
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
            let read = match &mut self.layer.0 {
                Layer::Lean(..) => self.stream.read(&mut scratch),
                Layer::Whole(connection) => connection.read_tls(&mut self.stream),
            };
            let count = match read {
                Ok(0) => return Heard::End(CloseReason::PeerLeft),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Heard::End(reason_of(&error)),
            };
            let received = match &mut self.layer.0 {
                Layer::Lean(records, _) => records.receive(&scratch[..count]).ok(),
                Layer::Whole(connection) => take_in(connection, &mut scratch),
            };
            let Some(received) = received else {
                // rustls has queued the alert that says why.
                let _ = self.flush();
                return Heard::End(CloseReason::ProtocolError);
            };
            match received {
                Received::End => return Heard::End(CloseReason::PeerLeft),
                Received::Bytes(count) => {
                    *discarded = discarded.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
                    if *discarded > DISCARDED_BYTES_MAX {
                        return Heard::End(CloseReason::ProtocolError);
                    }
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
        let words = words.map_or(&[][..], |words| words.framed(self.framing));
        let is_chunked = at_border && self.framing == Framing::Chunked;
        let last = if is_chunked { LAST_CHUNK } else { &[] };
        // Best effort: a full socket means the peer is behind and resumes by id.
        match &mut self.layer.0 {
            Layer::Lean(records, pending) => {
                let slices = [IoSlice::new(words), IoSlice::new(last)];
                let _ = records.seal(&slices, usize::MAX, pending);
                let _ = records.seal_close_notify(pending);
            }
            Layer::Whole(connection) => {
                let _ = connection.writer().write(words);
                let _ = connection.writer().write(last);
                connection.send_close_notify();
            }
        }
        let _ = self.flush();
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

// For another process that goes on with the stream.
impl TlsSink {
    /// The socket, if the secrets are here.
    pub(super) fn socket_to_give(&self) -> Option<BorrowedFd<'_>> {
        match &self.layer.0 {
            Layer::Lean(..) => Some(self.stream.as_fd()),
            Layer::Whole(_) => None,
        }
    }

    /// The suite, and how many bytes [`Self::give_layer`] appends.
    pub(super) fn layer_to_give(&self) -> Option<(u16, usize)> {
        match &self.layer.0 {
            Layer::Lean(records, pending) => {
                Some((records.suite()?, records.state_bytes() + pending.len()))
            }
            Layer::Whole(_) => None,
        }
    }

    /// As [`Records::give`], and what the kernel has not taken.
    pub(super) fn give_layer(&mut self, out: &mut Vec<u8>) {
        if let Layer::Lean(records, pending) = &mut self.layer.0 {
            records.give(out);
            out.extend_from_slice(pending);
        }
    }

    /// As [`Records::keep`].
    pub(super) fn keep_layer(&mut self) {
        if let Layer::Lean(records, _) = &mut self.layer.0 {
            records.keep();
        }
    }

    pub(super) fn let_go(mut self, registry: &mio::Registry) {
        let _ = registry.deregister(&mut self.stream);
    }
}

impl TlsLayer {
    /// Goes on with what another process gave. `None` for what no process of this version gives.
    pub(crate) fn taken_over(suite: u16, state: &[u8]) -> Option<Self> {
        let (records, pending) = Records::taken_over(suite, state)?;
        Some(Self(Layer::Lean(records, pending.to_vec())))
    }

    /// Whether there is something that the kernel has not taken.
    fn is_holding(&self) -> bool {
        match &self.0 {
            Layer::Lean(_, pending) => !pending.is_empty(),
            Layer::Whole(connection) => connection.wants_write(),
        }
    }
}

/// What rustls makes of what it has read; `None`: the peer does not keep to the protocol.
fn take_in(connection: &mut ServerConnection, scratch: &mut [u8]) -> Option<Received> {
    let state = connection.process_new_packets().ok()?;
    if state.peer_has_closed() {
        return Some(Received::End);
    }
    let mut all = 0;
    while let Ok(count @ 1..) = connection.reader().read(scratch) {
        all += count;
    }
    Some(Received::Bytes(all))
}

/// Writes until the kernel takes no more.
fn write_all_it_takes(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match none_if_full(stream.write(&bytes[sent..]))? {
            0 => break,
            count => sent += count,
        }
    }
    Ok(sent)
}
