//! What a shard keeps for the subscribers that are behind, beyond their places.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::inbox::SubscriberKey;
use crate::replay::stretch::{Gauge, Recent, Stretch};

/// Reads of the log asked for at once by one shard. Ours: as many as keep the helpers busy; more
/// would only frame sooner what is sent later.
const READS_MAX: usize = 16;

/// Bytes of all stretches of the hub at which nothing more is read before some of it is sent.
const HELD_BYTES_MAX: usize = 64 << 20;

/// Up to this many bytes of all stretches a subscriber whose socket is full keeps what it is in
/// the middle of; past it that is read again once there is room. Half of the bound above, so that
/// peers who do not read never stop the reads for those who do.
const KEPT_BYTES_MAX: usize = HELD_BYTES_MAX / 2;

/// Where more than this many replay, nothing is read ahead: the helpers are busy anyway, and what
/// they framed would be gone before it is needed.
const READ_AHEAD_MAX: usize = 4;

/// Stretches of the window kept for the next subscriber, and their bytes.
const RECENT_MAX: usize = 8;
const RECENT_BYTES_MAX: usize = 1 << 20;

/// How soon to ask again when other shards' stretches stood in the way.
const ASK_AGAIN: Duration = Duration::from_millis(1);

/// How long subscribers that are behind pause after a slice that did not suffice them, where live
/// events come: whoever takes those in, this shard or another thread, gets the core meanwhile.
/// Ours: on two cores shared with a generator a pause of 1 ms left live events at four times their
/// quiet p99, 3 ms at one and a half, and replays at no less than they had without pauses.
const PAUSE: Duration = Duration::from_millis(3);

/// Live events are taken to come while the last one is no older than this.
const LIVE_LATELY: Duration = Duration::from_secs(1);

/// Where a subscriber that reads the log stands.
#[derive(Debug)]
enum Replay {
    /// A helper reads for it; the claim goes with the subscriber.
    Reading(#[expect(dead_code, reason = "held for its weak references")] Arc<()>),
    /// It is being sent this.
    Sending(Arc<Stretch>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Behind {
    /// By place.
    replays: HashMap<u32, Replay>,
    /// How many of them are being read for.
    reads: usize,
    /// Who waits until something may be read for it, in order.
    waiting: VecDeque<SubscriberKey>,
    /// Made from the window last.
    pub(super) recent: Recent,
    pause_until: Option<Instant>,
    live_at: Option<Instant>,
}

impl Default for Behind {
    fn default() -> Self {
        Self {
            replays: HashMap::new(),
            reads: 0,
            waiting: VecDeque::new(),
            recent: Recent::new(RECENT_MAX, RECENT_BYTES_MAX),
            pause_until: None,
            live_at: None,
        }
    }
}

impl Behind {
    /// Whether one more read may be asked for.
    pub(super) fn may_read(&self, gauge: &Gauge) -> bool {
        self.reads < READS_MAX && gauge.bytes() < HELD_BYTES_MAX
    }

    /// Whether something may be read that nobody waits for yet.
    pub(super) fn may_read_ahead(&self, gauge: &Gauge) -> bool {
        self.replays.len() <= READ_AHEAD_MAX && !Self::is_short(gauge)
    }

    /// Whether what a full socket did not take is kept.
    pub(super) fn may_keep(gauge: &Gauge) -> bool {
        gauge.bytes() <= KEPT_BYTES_MAX
    }

    /// Whether so much is kept that chunks should be small.
    pub(super) fn is_short(gauge: &Gauge) -> bool {
        gauge.bytes() > KEPT_BYTES_MAX / 2
    }

    /// A read begins for a subscriber. What it gives says whether the subscriber still waits.
    pub(super) fn begin_read(&mut self, index: u32) -> Weak<()> {
        self.forget(index);
        let claim = Arc::new(());
        let weak = Arc::downgrade(&claim);
        self.replays.insert(index, Replay::Reading(claim));
        self.reads += 1;
        weak
    }

    /// A read has ended; `false` when nobody waited for it.
    pub(super) fn end_read(&mut self, index: u32) -> bool {
        let is_reading = matches!(self.replays.get(&index), Some(Replay::Reading(_)));
        if is_reading {
            self.forget(index);
        }
        is_reading
    }

    /// The subscriber goes on with this.
    pub(super) fn keep(&mut self, index: u32, stretch: Arc<Stretch>) {
        self.forget(index);
        self.replays.insert(index, Replay::Sending(stretch));
    }

    /// What the subscriber is in the middle of.
    pub(super) fn take(&mut self, index: u32) -> Option<Arc<Stretch>> {
        match self.replays.remove(&index)? {
            Replay::Sending(stretch) => Some(stretch),
            reading @ Replay::Reading(_) => {
                self.replays.insert(index, reading);
                None
            }
        }
    }

    /// The subscriber has left or is up to date. A read for it is withdrawn.
    pub(super) fn forget(&mut self, index: u32) {
        if let Some(Replay::Reading(_)) = self.replays.remove(&index) {
            self.reads -= 1;
        }
    }

    pub(super) fn wait(&mut self, key: SubscriberKey) {
        self.waiting.push_back(key);
    }

    /// Who waits for a read longest.
    pub(super) fn first_waiting(&self) -> Option<SubscriberKey> {
        self.waiting.front().copied()
    }

    pub(super) fn pop_waiting(&mut self) {
        self.waiting.pop_front();
    }

    /// How soon there is something to do for those who are behind.
    pub(super) fn timeout(&self, is_line_empty: bool) -> Option<Duration> {
        if !is_line_empty {
            return Some(self.pause_until.map_or(Duration::ZERO, |until| {
                until.saturating_duration_since(Instant::now())
            }));
        }
        // Otherwise the read that ends wakes the shard.
        (self.reads == 0 && !self.waiting.is_empty()).then_some(ASK_AGAIN)
    }

    /// Told at the begin of a slice. `None`: there is a pause; else when it begins.
    pub(super) fn begin_slice(&mut self, has_sent_live: bool) -> Option<Instant> {
        let now = Instant::now();
        if has_sent_live {
            self.live_at = Some(now);
        }
        if self.pause_until.is_some_and(|until| now < until) {
            return None;
        }
        self.pause_until = None;
        Some(now)
    }

    /// Told when a slice's time was over with subscribers still in line.
    pub(super) fn pause(&mut self) {
        let now = Instant::now();
        if self
            .live_at
            .is_some_and(|at| now.duration_since(at) < LIVE_LATELY)
        {
            self.pause_until = Some(now + PAUSE);
        }
    }

    /// Told when nobody is in line: memory goes back after a crowd.
    pub(super) fn rest(&mut self) {
        if self.replays.is_empty() && self.waiting.is_empty() {
            if !self.recent.is_empty() {
                self.recent.clear();
            }
            if self.replays.capacity() > 64 {
                self.replays = HashMap::new();
            }
            if self.waiting.capacity() > 64 {
                self.waiting = VecDeque::new();
            }
        }
    }
}
