//! Subscribers that are behind: from their cursor through log and window until they are up to
//! date. The switch from replay to live is in [`Shard::go_live`] and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use gush_log::Offset;

use super::Shard;
use super::behind::Behind;
use super::inbox::SubscriberKey;
use super::subscriber::{NEVER, Phase, Sent, Subscriber};
use crate::close::CloseReason;
use crate::dialect;
use crate::frame::{Frame, Framing};
use crate::replay::stretch::{Conflated, Gauge, Mark, Stretch};
use crate::replay::{Asker, Chunk, Gap, Place, Request};
use crate::socket::{Outgoing, SinkKind};
use crate::window::Entry;

/// Time given to subscribers that are behind between two looks at the poll, beyond the turn that
/// crosses it. Ours: beside 1,000 replays live events have one and a half times their quiet p99
/// with 250 µs, twice with 400; replays get a third less (`bench/runs/2026-11-30-slices`).
const SLICE_TIME: Duration = Duration::from_micros(250);

/// Turns that send or read given where a sweep is under way: live events go first, not alone.
const TURNS_BESIDE_SWEEP: usize = 4;

/// Subscribers waiting for a read that are looked after between two looks at the poll.
const WAITING_VISITS: usize = 64;

/// Window entries looked at in one turn of one subscriber; then others have theirs.
const TURN_ENTRIES: usize = 256;

/// Most bytes of one write, and of a stretch made from the window (a larger event is a stretch of
/// its own): what the default `send_buffer` takes at once.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Framed bytes of the first read for a subscriber: few, so that its first byte comes soon.
const FIRST_CHUNK_BYTES: usize = 16 * 1024;

/// Framed bytes of later reads: a way to a helper and back costs little against it.
const CHUNK_BYTES: usize = 256 * 1024;

/// The same while much is held, and where a stream of hyper's may keep it alive for a few bytes.
const SMALL_CHUNK_BYTES: usize = 64 * 1024;

/// Stretches framed ahead at a time: with few of them the helper sleeps after each one until the
/// shard has begun with it.
const AHEAD_STRETCHES: u32 = 4;

/// Stretches ahead at which the helper goes on: enough to send meanwhile. With none left the shard
/// would wait while it frames, and it while the shard sends.
const AHEAD_STRETCHES_MIN: usize = 2;

/// What a subscriber is sent from.
enum Source {
    /// Framed by a helper: kept until it is sent.
    Log(Arc<Stretch>),
    /// Made from the window, and made again from it at need.
    Window(Arc<Stretch>),
}

impl Shard {
    /// Puts a subscriber that is behind in line for its next turn.
    pub(super) fn make_ready(&mut self, index: u32) {
        let generation = self.subscribers.generation(index);
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        subscriber.phase = Phase::Ready;
        self.ready.push_back(SubscriberKey { index, generation });
    }

    /// Gives the subscribers in line a turn each, as long as a slice lasts.
    pub(super) fn catch_up_slice(&mut self) {
        self.ask_for_waiting();
        if self.ready.is_empty() {
            self.behind.rest();
            return;
        }
        // Nobody has caught up in this turn yet, so this counts live deliveries only.
        let Some(begun) = self.behind.begin_slice(self.tally.events > 0) else {
            return;
        };
        let is_sweeping = self.jobs.get(self.sweep.job).is_some();
        let turns = if is_sweeping {
            TURNS_BESIDE_SWEEP
        } else {
            usize::MAX
        };
        let is_over = self.give_turns(turns, || begun.elapsed() >= SLICE_TIME);
        if is_over && !self.ready.is_empty() {
            self.behind.pause();
        }
    }

    /// Gives so many turns that send or read something, and any number of others: whoever only has
    /// to be told that it is live, or has left, keeps nobody waiting. Whether the time was over.
    pub(super) fn give_turns(&mut self, turns: usize, is_over: impl Fn() -> bool) -> bool {
        let mut given = 0;
        while given < turns
            && let Some(key) = self.ready.pop_front()
        {
            given += usize::from(self.catch_up(key));
            if is_over() {
                return true;
            }
        }
        false
    }

    /// One subscriber's turn. `false` when there was nothing to send or to read for it.
    pub(super) fn catch_up(&mut self, key: SubscriberKey) -> bool {
        let subscriber = self.subscribers.of_key(key);
        let Some(subscriber) = subscriber.filter(|found| found.phase == Phase::Ready) else {
            return false;
        };
        self.visit.subject = key.index;
        let shared = &self.shared;
        let lag = subscriber.note_lag(shared.window.next());
        if lag > 0 {
            self.metrics.lags(lag);
        }
        let is_owed = subscriber.owed > 0;
        if is_owed && !self.pay_owed(key.index) {
            return true;
        }
        if self.go_live(key) {
            return is_owed;
        }
        match self.source_for(key) {
            Some(source) => self.send_from(key, source),
            None => self.ask_for_chunk(key),
        }
        true
    }

    /// Ends the replay of a subscriber that has everything before the shard's head; `false` when it
    /// has not.
    fn go_live(&mut self, key: SubscriberKey) -> bool {
        let head = self.head;
        let subscriber = self.subscribers.of_key(key);
        let is_current = |found: &&mut Subscriber| found.cursor >= head && found.partial == 0;
        let Some(subscriber) = subscriber.filter(is_current) else {
            return false;
        };
        // Everything before the head is out, everything from it on comes as jobs, and jobs below
        // the cursor are passed over: no gap, no repeat.
        subscriber.phase = Phase::Live;
        self.behind.forget(key.index);
        self.metrics.behind.sub(1);
        self.unstall(key.index);
        self.set_timer(key.index, self.now);
        true
    }

    /// Where a subscriber's next events are at hand; `None`: in the log only.
    fn source_for(&mut self, key: SubscriberKey) -> Option<Source> {
        let kept = self.behind.take(key.index);
        let subscriber = self.subscribers.of_key(key)?;
        let spot = subscriber.spot(self.shared.conflation.version());
        let framing = subscriber.sink.framing();
        if let Some(stretch) = kept.filter(|stretch| stretch.covers(spot.cursor)) {
            return Some(Source::Log(stretch));
        }
        let selection = &subscriber.selection;
        if let Some(stretch) = self.behind.recent.find(spot, selection, framing) {
            return Some(Source::Window(stretch));
        }
        if let Some(stretch) = self.frame_window(key) {
            return Some(Source::Window(stretch));
        }
        let selection = &self.subscribers.of_key(key)?.selection;
        let recent = self.shared.replayer.recent(spot, selection, framing);
        recent.map(Source::Log)
    }

    /// Makes a stretch of the window's entries from a subscriber's cursor on, if it has any. Small
    /// events are copied into one; a large one is shared.
    pub(super) fn frame_window(&mut self, key: SubscriberKey) -> Option<Arc<Stretch>> {
        let subscriber = self.subscribers.of_key(key)?;
        let (from, framing) = (subscriber.cursor, subscriber.sink.framing());
        let conflation = &self.shared.conflation;
        let version = conflation.version();
        let mut conflated = Conflated::default();
        let entries = &mut self.entries;
        entries.clear();
        self.shared.window.take(from, TURN_ENTRIES, entries);
        let mut next = from;
        let mut bytes = Vec::new();
        let mut marks: Vec<Mark> = Vec::new();
        for entry in entries.drain(..) {
            if bytes.len() >= WRITE_BYTES_MAX {
                break;
            }
            if subscriber.selection.wants(entry.topics(), entry.is_private) {
                if let Some(slot) = entry.slot {
                    conflated.made_at = Some(version);
                    // What is half out has to be finished.
                    let is_begun = subscriber.partial > 0 && entry.offset() == from;
                    if !is_begun && conflation.is_superseded(slot, entry.offset()) {
                        conflated.passed.push(entry.offset());
                        next = entry.offset().plus(1);
                        continue;
                    }
                }
                let framed = entry.frame.framed(framing);
                if framed.len() >= WRITE_BYTES_MAX && marks.is_empty() {
                    return Some(lone_stretch(&entry, framing, from, conflated));
                }
                if framed.len() >= WRITE_BYTES_MAX {
                    // It goes alone, in the next stretch.
                    break;
                }
                bytes.extend_from_slice(framed);
                marks.push((entry.offset(), bytes.len()));
            }
            next = entry.offset().plus(1);
        }
        if next == from {
            return None;
        }
        let gauge = &self.shared.replayer.gauge;
        let stretch = Stretch::new(bytes.into(), marks, (from, next), gauge);
        let stretch = Arc::new(stretch.conflated(conflated));
        let selection = &subscriber.selection;
        self.behind.recent.keep(selection, framing, &stretch);
        Some(stretch)
    }

    fn ask_for_chunk(&mut self, key: SubscriberKey) {
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return;
        };
        subscriber.phase = Phase::Reading;
        if self.behind.may_read(&self.shared.replayer.gauge) {
            self.ask(key);
        } else {
            self.behind.wait(key);
        }
    }

    fn ask(&mut self, key: SubscriberKey) {
        let replayer = &self.shared.replayer;
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return;
        };
        let is_pipe = subscriber.sink.kind() == SinkKind::Pipe;
        let bytes_max = if subscriber.bytes == 0 {
            FIRST_CHUNK_BYTES
        } else if is_pipe || Behind::is_short(&replayer.gauge) {
            SMALL_CHUNK_BYTES
        } else {
            CHUNK_BYTES
        };
        self.metrics.replay_reads.add(1);
        replayer.ask(Request {
            place: Place {
                from: subscriber.cursor,
                is_begun: subscriber.partial > 0,
                selection: Arc::clone(&subscriber.selection),
                framing: subscriber.sink.framing(),
            },
            bytes_max,
            asker: Some(Asker {
                inbox: Arc::clone(&self.inbox),
                key,
                claim: self.behind.begin_read(key.index),
            }),
            ahead: 0,
        });
    }

    /// Has what follows a stretch framed while the stretch is being sent, where few replay.
    fn read_ahead(&mut self, key: SubscriberKey, stretch: &Stretch) {
        let replayer = &self.shared.replayer;
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return;
        };
        if !self.behind.may_read_ahead(&replayer.gauge) || subscriber.sink.kind() == SinkKind::Pipe
        {
            return;
        }
        if !stretch.begin() {
            return;
        }
        let place = (&subscriber.selection, subscriber.sink.framing());
        let from = replayer.lead(stretch, place, AHEAD_STRETCHES_MIN);
        let Some(from) = from.filter(|from| *from < self.head) else {
            return;
        };
        replayer.ask(Request {
            place: Place {
                from,
                is_begun: false,
                selection: Arc::clone(&subscriber.selection),
                framing: subscriber.sink.framing(),
            },
            bytes_max: CHUNK_BYTES,
            asker: None,
            ahead: AHEAD_STRETCHES - 1,
        });
    }

    /// Those who wait for a read get it as soon as one is allowed, or what was read for another.
    fn ask_for_waiting(&mut self) {
        for _ in 0..WAITING_VISITS {
            let Some(key) = self.behind.first_waiting() else {
                return;
            };
            let subscriber = self.subscribers.of_key(key);
            let Some(subscriber) = subscriber.filter(|found| found.phase == Phase::Reading) else {
                self.behind.pop_waiting();
                continue;
            };
            self.visit.subject = key.index;
            let replayer = &self.shared.replayer;
            let framing = subscriber.sink.framing();
            let spot = subscriber.spot(self.shared.conflation.version());
            let recent = replayer.recent(spot, &subscriber.selection, framing);
            if let Some(stretch) = recent {
                self.behind.keep(key.index, stretch);
                self.make_ready(key.index);
            } else if self.behind.may_read(&replayer.gauge) {
                self.ask(key);
            } else {
                return;
            }
            self.behind.pop_waiting();
        }
    }

    /// Takes what a helper read, if the subscriber is still there.
    pub(super) fn on_chunk(&mut self, chunk: Chunk) {
        let key = chunk.key;
        if self.subscribers.of_key(key).is_none() || !self.behind.end_read(key.index) {
            return;
        }
        self.visit.subject = key.index;
        let gap = chunk.read.gap;
        let stretch = match chunk.read.outcome {
            Ok(stretch) => stretch,
            Err(failure) => {
                self.close(key.index, failure.reason());
                return;
            }
        };
        if let Some(gap) = gap
            && !self.tell_gap(key, gap)
        {
            return;
        }
        let head = self.head;
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return;
        };
        if let Some(gap) = gap {
            subscriber.cursor = subscriber.cursor.max(gap.until);
        }
        if stretch.covers(subscriber.cursor) {
            self.behind.keep(key.index, stretch);
        } else if gap.is_none() && head > subscriber.cursor {
            // Neither an event nor a gap where there is something: asking again would not help.
            self.close(key.index, CloseReason::InternalError);
            return;
        }
        self.make_ready(key.index);
    }

    /// Events the subscriber needed are gone: it hears of it, or is closed so that the next
    /// answer's header tells. `false` when it is gone.
    fn tell_gap(&mut self, key: SubscriberKey, gap: Gap) -> bool {
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return false;
        };
        if subscriber.at_border() && subscriber.selection.told_until >= Some(gap.until) {
            return true;
        }
        if !subscriber.selection.wants_gap || !subscriber.at_border() {
            self.count_gap(gap);
            self.close(key.index, CloseReason::Gap);
            return false;
        }
        let notice = Frame::of_text(dialect::gap_lost(gap).as_bytes());
        let length = notice.framed(subscriber.sink.framing()).len();
        match subscriber.sink.write(&Outgoing::one(&notice), 0) {
            Ok(taken) if taken == length => {
                self.count_gap(gap);
                true
            }
            Ok(0) => {
                // The loss is found again by the next read.
                self.block(key.index, false);
                false
            }
            Ok(_) => {
                self.close(key.index, CloseReason::Gap);
                false
            }
            Err(error) => {
                self.fail(key.index, &error);
                false
            }
        }
    }

    fn count_gap(&self, gap: Gap) {
        self.metrics.gaps.add(1);
        self.metrics.evicted.add(gap.until.since(gap.from));
    }

    /// Writes a part of a stretch; if all of it went out and was not the last, another turn comes.
    fn send_from(&mut self, key: SubscriberKey, source: Source) {
        let (Source::Log(stretch) | Source::Window(stretch)) = &source;
        let now = self.now;
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return;
        };
        let partial = subscriber.partial as usize;
        let Some(piece) = stretch.piece(subscriber.cursor, partial, WRITE_BYTES_MAX) else {
            // The event that is half out is no longer there to be finished.
            self.close(key.index, CloseReason::Gap);
            return;
        };
        let mut taken = 0;
        if piece.len() > 0 {
            let frame = stretch.frame(&piece);
            match subscriber.sink.write(&Outgoing::one(&frame), 0) {
                Ok(count) => taken = count,
                Err(error) => {
                    self.fail(key.index, &error);
                    return;
                }
            }
        }
        let reached = stretch.reached(&piece, taken);
        let passed = stretch.passed((subscriber.cursor, reached.cursor));
        if passed > 0 {
            self.metrics.conflated.add(passed as u64);
        }
        subscriber.cursor = reached.cursor;
        subscriber.partial = u32::try_from(reached.partial).expect("frames are under 4 GiB");
        subscriber.events += reached.whole as u64;
        subscriber.bytes += taken as u64;
        if taken > 0 {
            subscriber.last_write_at = now;
        }
        let is_whole = taken == piece.len();
        self.tally.add(Sent {
            events: reached.whole as u64,
            bytes: taken as u64,
            is_whole,
        });
        if is_whole && taken > 0 {
            self.unstall(key.index);
        }
        if let Source::Log(stretch) = &source {
            self.read_ahead(key, stretch);
        }
        if let Source::Log(stretch) = source
            && stretch.covers(reached.cursor)
            // Until there is room a newer event may stand for one of it.
            && (is_whole
                || (!stretch.may_age() && Behind::may_keep(&self.shared.replayer.gauge)))
        {
            self.behind.keep(key.index, stretch);
        }
        if !is_whole {
            self.block(key.index, taken > 0);
        } else if !self.go_live(key) {
            self.make_ready(key.index);
        }
    }

    /// Finishes a line that went out in part; `false` when the socket is still full.
    fn pay_owed(&mut self, index: u32) -> bool {
        let line = self.cut_lines.get(&index).unwrap_or(&self.heartbeat);
        let line = line.clone();
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return false;
        };
        let length = line.framed(subscriber.sink.framing()).len();
        let skip = length - usize::from(subscriber.owed);
        match subscriber.sink.write(&Outgoing::one(&line), skip) {
            Ok(taken) => {
                subscriber.owed -= u8::try_from(taken).expect("such a line has a few bytes");
                if subscriber.owed == 0 {
                    self.cut_lines.remove(&index);
                    self.unstall(index);
                    return true;
                }
                self.block(index, taken > 0);
                false
            }
            Err(error) => {
                self.fail(index, &error);
                false
            }
        }
    }

    /// The socket took everything: the write timeout stops. What the subscriber waits for from now
    /// on, if anything, is the hub.
    fn unstall(&mut self, index: u32) {
        let policy = self.shared.policy.load();
        let now = self.shared.clock.tick();
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        if subscriber.stalled_since != NEVER {
            subscriber.stalled_since = NEVER;
            let timeout = policy.settings.tcp_user_timeout.as_millis();
            subscriber
                .sink
                .set_user_timeout_ms(u32::try_from(timeout).unwrap_or(u32::MAX));
            self.set_timer(index, now);
        }
    }
}

/// A stretch that ends with an event of the window and has no other. It shares the event's bytes: a
/// copy in each turn of a slow subscriber would cost more than the write. Nor is it kept for
/// others, for whom it would drive out what took work to make.
fn lone_stretch(
    entry: &Entry,
    framing: Framing,
    from: Offset,
    conflated: Conflated,
) -> Arc<Stretch> {
    let bytes = entry.frame.framed_bytes(framing);
    let marks = vec![(entry.offset(), bytes.len())];
    let range = (from, entry.offset().plus(1));
    // Counted by nobody: it lasts for a turn, and its bytes are the window's.
    Arc::new(Stretch::new(bytes, marks, range, &Gauge::default()).conflated(conflated))
}
