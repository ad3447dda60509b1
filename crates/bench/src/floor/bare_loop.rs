//! Reference (a): for each event, the same bytes with one `send()` to every socket.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{self, SendFlags};

use super::frame::Frame;
use super::reference::{Fanout, Poll};
use super::slots::Slots;

/// Most bytes kept for a socket that is full; a subscriber that far behind is cut off.
const KEPT_BYTES_MAX: usize = 1 << 20;

struct Subscriber {
    socket: OwnedFd,
    /// What the socket had no room for.
    kept: Vec<u8>,
}

/// All sockets, in a row.
#[derive(Default)]
pub(super) struct BareLoop {
    subscribers: Slots<Subscriber>,
}

impl Fanout for BareLoop {
    fn add(&mut self, socket: OwnedFd) -> usize {
        let kept = Vec::new();
        self.subscribers.add(Subscriber { socket, kept })
    }

    fn socket(&self, id: usize) -> Option<&OwnedFd> {
        let subscriber = self.subscribers.get(id)?;
        Some(&subscriber.socket)
    }

    fn remove(&mut self, id: usize) {
        self.subscribers.remove(id);
    }

    fn publish(&mut self, frame: Frame, poll: &Poll) {
        for id in 0..self.subscribers.len() {
            let Some(subscriber) = self.subscribers.get_mut(id) else {
                continue;
            };
            if subscriber.kept.is_empty() {
                match net::send(&subscriber.socket, &frame, SendFlags::NOSIGNAL) {
                    Ok(sent) if sent == frame.len() => continue,
                    Ok(sent) => subscriber.kept.extend_from_slice(&frame[sent..]),
                    Err(Errno::AGAIN) => subscriber.kept.extend_from_slice(&frame),
                    // epoll tells of its end.
                    Err(_) => continue,
                }
                poll.watch_subscribed(id, &subscriber.socket, true);
            } else if subscriber.kept.len() > KEPT_BYTES_MAX {
                self.remove(id);
            } else {
                subscriber.kept.extend_from_slice(&frame);
            }
        }
    }

    fn work(&mut self, _poll: &Poll) -> bool {
        false
    }

    fn writable(&mut self, id: usize, poll: &Poll) {
        let Some(subscriber) = self.subscribers.get_mut(id) else {
            return;
        };
        match net::send(&subscriber.socket, &subscriber.kept, SendFlags::NOSIGNAL) {
            Ok(sent) => drop(subscriber.kept.drain(..sent)),
            Err(Errno::AGAIN) => {}
            Err(_) => subscriber.kept.clear(),
        }
        if subscriber.kept.is_empty() {
            subscriber.kept = Vec::new();
            poll.watch_subscribed(id, &subscriber.socket, false);
        }
    }
}
