//! A bounded pipe into a response body that hyper sends: HTTP/2 streams, and the rare subscribe
//! that reached hyper's HTTP/1 connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame as BodyFrame};

use super::Outgoing;
use crate::close::CloseReason;
use crate::frame::{Frame, Framing};
use crate::shard::{Command, Inbox, SubscriberKey};

/// Most bytes that wait in one pipe for HTTP/2's flow control; what does not fit stays in the log.
pub const PIPE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
struct State {
    pending: VecDeque<Bytes>,
    pending_bytes: usize,
    /// The shard came up short and wants to hear of room.
    wants_room: bool,
    ended: bool,
    /// hyper dropped the body: the peer left.
    left: bool,
    reader: Option<Waker>,
    /// Whom to tell; set once the shard has given the subscriber its place.
    owner: Option<(Arc<Inbox>, SubscriberKey)>,
}

type Shared = Arc<Mutex<State>>;

/// The shard's end.
#[derive(Debug)]
pub struct PipeSink(Shared);

/// hyper's end.
#[derive(Debug)]
pub struct PipeBody(Shared);

/// A pipe with `first` already in it: the comment and `retry:` that every stream begins with.
#[must_use]
pub fn pipe(first: Bytes) -> (PipeSink, PipeBody) {
    let state = State {
        pending_bytes: first.len(),
        pending: VecDeque::from([first]),
        ..State::default()
    };
    let shared = Arc::new(Mutex::new(state));
    (PipeSink(Arc::clone(&shared)), PipeBody(shared))
}

impl PipeSink {
    /// Names the shard and subscriber that hear of room and of the peer's leaving.
    pub(crate) fn set_owner(&self, inbox: Arc<Inbox>, key: SubscriberKey) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.left {
            // Once the shard has ended nobody needs to know.
            let _ = inbox.send(Command::PipeLeft(key));
        }
        state.owner = Some((inbox, key));
    }

    pub(super) fn write(&mut self, outgoing: &Outgoing<'_>, skip: usize) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.left {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut taken = 0;
        let mut skip = skip;
        for frame in outgoing.frames {
            let mut piece = frame.framed_bytes(Framing::Raw);
            let passed = skip.min(piece.len());
            piece.advance(passed);
            skip -= passed;
            let room = PIPE_BYTES_MAX.saturating_sub(state.pending_bytes);
            let whole = piece.len() <= room;
            piece.truncate(room);
            if !piece.is_empty() {
                taken += piece.len();
                state.pending_bytes += piece.len();
                // A frame keeps the block alive that it was cut from. A reader that is behind could
                // hold hundreds of them with a few bytes each; it gets a copy.
                let is_behind = !state.pending.is_empty();
                state.pending.push_back(if is_behind {
                    Bytes::copy_from_slice(&piece)
                } else {
                    piece
                });
            }
            if !whole {
                state.wants_room = true;
                break;
            }
        }
        if taken > 0
            && let Some(reader) = state.reader.take()
        {
            reader.wake();
        }
        Ok(taken)
    }

    pub(super) fn close(self, reason: CloseReason, words: Option<&Frame>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(words) = words {
            state.pending.push_back(words.framed_bytes(Framing::Raw));
        }
        if reason.resets() {
            state.pending.clear();
        }
        state.ended = true;
        state.owner = None;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

impl Body for PipeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Infallible>>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(piece) = state.pending.pop_front() {
            state.pending_bytes = state.pending_bytes.saturating_sub(piece.len());
            // Half empty: asking earlier would cost a wake-up per frame.
            if state.wants_room && state.pending_bytes <= PIPE_BYTES_MAX / 2 {
                state.wants_room = false;
                if let Some((inbox, key)) = &state.owner {
                    // Once the shard has ended nobody needs to know.
                    let _ = inbox.send(Command::PipeRoom(*key));
                }
            }
            return Poll::Ready(Some(Ok(BodyFrame::data(piece))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.left = true;
        if let Some((inbox, key)) = state.owner.take() {
            // Once the shard has ended nobody needs to know.
            let _ = inbox.send(Command::PipeLeft(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reader of a pipe is slow, and each frame lies in another block.
    #[test]
    fn a_slow_reader_keeps_one_block_alive() {
        let (mut sink, _body) = pipe(Bytes::from_static(b"first"));
        let mut blocks = vec![];
        for _ in 0..100 {
            let block = Bytes::from(vec![b'x'; 64 * 1024]);
            let frame = Frame::of_framed(block.slice(..200));
            let taken = sink.write(&Outgoing::one(&frame), 0).expect("room");
            assert_eq!(taken, 200);
            drop(frame);
            blocks.push(block);
        }
        let kept = blocks.iter().filter(|block| !block.is_unique()).count();
        assert_eq!(kept, 0, "the first piece was there before");
    }
}
