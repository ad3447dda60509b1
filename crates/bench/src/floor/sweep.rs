//! Reference (b): a ring of frames, a cursor for each socket, and one `writev` per visit of
//! everything that the socket has not had. A visit of all sockets goes in slices, with a look at
//! epoll between them, so that new events join a sweep that is under way.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::io::{Errno, writev};
use rustix::net::{self, SendFlags};

use super::frame::Frame;
use super::reference::{Fanout, Poll};
use super::slots::Slots;

/// Sockets visited between two looks at epoll.
const SLICE: usize = 256;
/// Most frames in one `writev`.
const FRAMES_MAX: usize = 64;
/// Frames kept; a subscriber that is further behind is cut off.
const RING: usize = 4096;

struct Subscriber {
    socket: OwnedFd,
    /// Number of the next frame.
    cursor: u64,
    /// Bytes of that frame that the socket has already.
    offset: usize,
    is_full: bool,
}

/// All sockets in a row, and the frames they may still need.
#[derive(Default)]
pub(super) struct Sweep {
    subscribers: Slots<Subscriber>,
    ring: VecDeque<Frame>,
    /// Number of the first frame in the ring.
    first: u64,
    /// Next socket to visit.
    at: usize,
    /// Sockets to visit until all have been since the last event.
    left: usize,
}

impl Fanout for Sweep {
    fn add(&mut self, socket: OwnedFd) -> usize {
        self.subscribers.add(Subscriber {
            socket,
            cursor: self.first + self.ring.len() as u64,
            offset: 0,
            is_full: false,
        })
    }

    fn socket(&self, id: usize) -> Option<&OwnedFd> {
        let subscriber = self.subscribers.get(id)?;
        Some(&subscriber.socket)
    }

    fn remove(&mut self, id: usize) {
        self.subscribers.remove(id);
    }

    fn publish(&mut self, frame: Frame, _poll: &Poll) {
        if self.ring.len() == RING {
            self.ring.pop_front();
            self.first += 1;
        }
        self.ring.push_back(frame);
        self.left = self.subscribers.len();
    }

    fn work(&mut self, poll: &Poll) -> bool {
        for _ in 0..SLICE.min(self.left) {
            if self.at >= self.subscribers.len() {
                self.at = 0;
            }
            self.visit(self.at, poll);
            self.at += 1;
            self.left -= 1;
        }
        self.left > 0
    }

    fn writable(&mut self, id: usize, poll: &Poll) {
        if let Some(subscriber) = self.subscribers.get_mut(id) {
            subscriber.is_full = false;
            poll.watch_subscribed(id, &subscriber.socket, false);
            self.visit(id, poll);
        }
    }
}

impl Sweep {
    /// Writes what a socket has not had, until there is no more of it or no more room.
    fn visit(&mut self, id: usize, poll: &Poll) {
        let Some(subscriber) = self.subscribers.get_mut(id) else {
            return;
        };
        if subscriber.is_full {
            return;
        }
        loop {
            let Some(behind) = subscriber.cursor.checked_sub(self.first) else {
                return self.remove(id);
            };
            let begin = usize::try_from(behind)
                .unwrap_or(usize::MAX)
                .min(self.ring.len());
            let end = (begin + FRAMES_MAX).min(self.ring.len());
            if begin == end {
                return;
            }
            match write(subscriber, &self.ring, begin..end) {
                Ok(true) => {}
                Ok(false) => {
                    subscriber.is_full = true;
                    return poll.watch_subscribed(id, &subscriber.socket, true);
                }
                // epoll tells of its end.
                Err(_) => return subscriber.cursor = self.first + self.ring.len() as u64,
            }
        }
    }
}

/// Writes those frames of the ring. Whether the socket took all of them.
fn write(
    subscriber: &mut Subscriber,
    ring: &VecDeque<Frame>,
    range: std::ops::Range<usize>,
) -> Result<bool, Errno> {
    let mut slices = [IoSlice::new(&[]); FRAMES_MAX];
    let mut total = 0;
    let count = range.len();
    for (slice, frame) in slices.iter_mut().zip(ring.range(range.clone())) {
        *slice = IoSlice::new(frame);
        total += frame.len();
    }
    let offset = subscriber.offset;
    slices[0].advance(offset);
    let sent = if count == 1 {
        net::send(&subscriber.socket, &slices[0], SendFlags::NOSIGNAL)
    } else {
        writev(&subscriber.socket, &slices[..count])
    };
    let mut sent = match sent {
        Ok(sent) => sent + offset,
        Err(Errno::AGAIN) => offset,
        Err(error) => return Err(error),
    };
    if sent == total {
        subscriber.cursor += count as u64;
        subscriber.offset = 0;
        return Ok(true);
    }
    for frame in ring.range(range) {
        if sent < frame.len() {
            break;
        }
        sent -= frame.len();
        subscriber.cursor += 1;
    }
    subscriber.offset = sent;
    Ok(false)
}
