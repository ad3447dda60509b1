//! The same bytes to several bare sockets, one right after the other.

use rustix::io::Errno;

use super::tcp::TcpSink;
use super::{Outgoing, Sink};
use crate::frame::Framing;

/// Most sockets of a volley. Ours: a rough comparison saw no difference between 8 and 256 (decision
/// 0033), and of 16 there is little to keep until it is noted what became of the writes.
pub(crate) const SHOTS_MAX: usize = 16;

/// What one socket made of it: bytes taken, 0 when it can take none now.
pub(crate) type Taken = Result<usize, Errno>;

/// Sockets that are written to with nothing in between but the calls (decision 0033).
#[derive(Debug)]
pub(crate) struct Volley<'a> {
    framing: Framing,
    piece: &'a [u8],
    sinks: [Option<&'a TcpSink>; SHOTS_MAX],
    count: usize,
}

impl<'a> Volley<'a> {
    /// Nobody yet. `None` when these bytes in this framing are not one piece.
    pub(crate) fn of(outgoing: &Outgoing<'a>, framing: Framing) -> Option<Self> {
        Some(Self {
            framing,
            piece: outgoing.piece(framing)?,
            sinks: [None; SHOTS_MAX],
            count: 0,
        })
    }

    /// Takes a socket in, unless there is no room, or it is not a bare one in this framing.
    #[inline]
    pub(crate) fn add(&mut self, sink: &'a Sink) -> bool {
        let Sink::Tcp(sink) = sink else {
            return false;
        };
        if sink.framing() != self.framing || self.count == SHOTS_MAX {
            return false;
        }
        #[cfg(test)]
        super::faults::strike(Some(sink.descriptor()), super::faults::Place::Write);
        self.sinks[self.count] = Some(sink);
        self.count += 1;
        true
    }

    /// Writes to all of them, in the order in which they were added. Nothing here can panic.
    #[inline]
    pub(crate) fn fire(self, taken: &mut [Taken; SHOTS_MAX]) {
        for (sink, taken) in self.sinks.iter().flatten().zip(taken) {
            *taken = sink.send(self.piece);
        }
    }
}
