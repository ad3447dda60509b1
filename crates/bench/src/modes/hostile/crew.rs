//! The hostile peers and the thread that gives each its turns.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::peer::{Peer, Requests, Tally};
use crate::clock::now_ns;
use crate::error::BenchError;

/// Longest sleep, after which the thread looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);
/// The first turns are spread over this time: everybody at once would be one burst, not an attack
/// that lasts.
const SPREAD_NS: u64 = 1_000_000_000;

/// Hostile peers at work. Dropping it closes all they have open.
#[derive(Debug)]
pub(super) struct Crew {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Tally>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_over: AtomicBool,
    /// Peers that have had a turn.
    begun: AtomicU64,
}

impl Crew {
    /// Sends `count` peers off, and waits until each has had its first turn.
    ///
    /// # Errors
    /// [`BenchError::Io`] when the thread cannot be started.
    pub(super) fn start(
        count: u64,
        requests: Arc<Requests>,
        patience: Duration,
    ) -> Result<Self, BenchError> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("hostile".into())
            .spawn(move || work(count, &requests, &of_thread))
            .map_err(|error| BenchError::io("start the thread of the hostile peers", error))?;
        let begin = Instant::now();
        while shared.begun.load(Ordering::Acquire) < count && begin.elapsed() < patience {
            std::thread::park_timeout(LOOK);
        }
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Ends it all and tells what was done.
    pub(super) fn finish(mut self) -> Tally {
        self.end()
    }

    fn end(&mut self) -> Tally {
        self.shared.is_over.store(true, Ordering::Release);
        let ended = self.thread.take().map(JoinHandle::join);
        // A panic there has been printed; a tally of nothing then fails the run.
        ended.and_then(Result::ok).unwrap_or_default()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.end();
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A turn that is due: when, whose, and whether it is the peer's first.
type Turn = Reverse<(u64, usize, bool)>;

fn work(count: u64, requests: &Requests, shared: &Shared) -> Tally {
    let mut tally = Tally::default();
    let mut peers: Vec<Peer> = (0..count)
        .map(|number| Peer::new(number, requests.subscribe_at))
        .collect();
    let (start, step) = (now_ns(), SPREAD_NS / count.max(1));
    let first = (0..).zip(0..peers.len());
    let first = first.map(|(place, number)| Reverse((start + place * step, number, true)));
    let mut turns: BinaryHeap<Turn> = first.collect();
    while !shared.is_over.load(Ordering::Acquire) {
        let now = now_ns();
        let Some(Reverse((due, number, is_first))) = turns.peek().copied() else {
            break;
        };
        if due > now {
            std::thread::park_timeout(Duration::from_nanos(due - now).min(LOOK));
            continue;
        }
        turns.pop();
        let peer = &mut peers[number];
        peer.act(requests, &mut tally);
        // A turn that was late is not made good for by a burst.
        turns.push(Reverse((now + nanos(peer.period()), number, false)));
        shared
            .begun
            .fetch_add(u64::from(is_first), Ordering::Release);
    }
    tally
}
