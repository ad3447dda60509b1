//! A log in memory: what it drops is gone, and so is everything when the process ends.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gush_sse::Topic;

use crate::hash::hash_id;
use crate::host::now_ms;
use crate::lock::lock;
use crate::{
    AppendError, AppendErrorKind, Appended, AtOnce, BatchReply, Bounds, Conflation, Draft, Epoch,
    Flow, Located, Log, Offset, Position, ReadEnd, ReadError, ReadLimit, RecordRef, Reply, Tail,
    WireId,
};

/// How much a [`MemoryLog`] keeps. At either bound the oldest events are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Bytes of events kept, inclusive, with what the allocator needs for each (estimated).
    pub bytes_max: usize,
    /// Events kept, inclusive; 0 counts as 1.
    pub events_max: usize,
}

/// What an event takes besides its texts: the shared allocation, the boxes, the place in the
/// list. An estimate, on the safe side.
const EVENT_OVERHEAD_BYTES: usize = 256;

/// Places of dropped events that an appending thread keeps for new ones.
const SPARE_MAX: usize = 1024;

/// How many events a read takes over under one lock.
const READ_CHUNK_EVENTS: usize = 256;

/// A bounded log in memory.
///
/// An append is done on the caller's thread: it takes its place, the tail is told, then the reply
/// is called. Appends wait for each other for that long, which is why a tail must be quick.
pub struct MemoryLog {
    config: MemoryConfig,
    epoch: Epoch,
    /// Held from an event's place to the end of the tail's call: calls never overlap and come in
    /// offset order.
    order: Mutex<()>,
    state: Mutex<State>,
    /// One for each append that was ever under way at the same time as others.
    desks: Mutex<Vec<Desk>>,
    tail: OnceLock<Arc<dyn Tail>>,
}

/// An event with its place in the log.
struct Event {
    position: Position,
    time_ms: u64,
    draft: Draft,
}

impl Event {
    fn as_record(&self) -> RecordRef<'_> {
        self.draft.as_record(self.position, self.time_ms)
    }

    fn id(&self) -> WireId<'_> {
        self.as_record().wire_id()
    }
}

/// What one append works with, kept from one to the next: once the log is full, each event takes
/// the place of one that it pushes out, and nothing is taken from the heap.
#[derive(Default)]
struct Desk {
    /// Empty.
    spare: Vec<Arc<Event>>,
    /// New, oldest first.
    added: Vec<Arc<Event>>,
    /// Dropped by the log. Their texts are freed after its locks: other publishers need not wait
    /// for it.
    trimmed: Vec<Arc<Event>>,
}

impl Desk {
    fn place(&mut self, event: Event) -> Arc<Event> {
        if let Some(mut place) = self.spare.pop()
            && let Some(free) = Arc::get_mut(&mut place)
        {
            *free = event;
            return place;
        }
        Arc::new(event)
    }

    fn clear(&mut self) {
        self.added.clear();
        for mut place in self.trimmed.drain(..) {
            // One that is being read is not ours alone.
            if self.spare.len() < SPARE_MAX
                && let Some(event) = Arc::get_mut(&mut place)
            {
                event.draft = Draft {
                    topics: Box::default(),
                    is_private: false,
                    id: None,
                    kind: None,
                    retry_ms: None,
                    conflation: Conflation::default(),
                    data: Box::default(),
                };
                self.spare.push(place);
            }
        }
    }
}

struct State {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    next: Offset,
    /// `(hash of a publisher's id, offset)` of the held events that have one.
    own_ids: BTreeSet<(u64, u64)>,
    is_closed: bool,
}

impl MemoryLog {
    /// An empty log in a new epoch.
    #[must_use]
    pub fn new(config: MemoryConfig) -> Self {
        let state = State {
            events: VecDeque::new(),
            bytes: 0,
            next: Offset::FIRST,
            own_ids: BTreeSet::new(),
            is_closed: false,
        };
        Self {
            config: MemoryConfig {
                events_max: config.events_max.max(1),
                ..config
            },
            epoch: Epoch::begin(now_ms()),
            order: Mutex::new(()),
            state: Mutex::new(state),
            desks: Mutex::default(),
            tail: OnceLock::new(),
        }
    }

    /// A log that goes on where another one stood, empty so far: [`Self::restore`] fills it.
    #[must_use]
    pub fn resumed(config: MemoryConfig, epoch: Epoch, first: Offset) -> Self {
        let mut log = Self::new(config);
        log.epoch = epoch;
        let state = log.state.get_mut();
        state.unwrap_or_else(PoisonError::into_inner).next = first;
        log
    }

    /// Takes an event over at its old place, before anything is appended. Events come in order.
    /// The tail is not told.
    ///
    /// # Errors
    ///
    /// It is larger than this log takes ([`AppendErrorKind::TooLarge`]), or not the next one
    /// ([`AppendErrorKind::Failed`]). The log is as before.
    pub fn restore(&self, offset: Offset, time_ms: u64, draft: Draft) -> Result<(), AppendError> {
        let mut state = lock(&self.state);
        let cost = self.checked_cost(&draft)?;
        if state.next != offset {
            return Err(AppendError {
                kind: AppendErrorKind::Failed,
                detail: format!("the next one is {}", state.next.as_u64()),
            });
        }
        let position = Position {
            epoch: self.epoch,
            offset,
        };
        let event = Arc::new(Event {
            position,
            time_ms,
            draft,
        });
        state.push(event, cost, self.config, &mut Vec::new());
        Ok(())
    }

    fn try_append(&self, draft: Draft) -> Result<Appended, AppendError> {
        let own_id = draft.id.clone();
        self.at_a_desk(|desk| {
            let _in_order = lock(&self.order);
            let position = {
                let mut state = lock(&self.state);
                self.take_in(draft, now_ms(), &mut state, desk)?
            };
            self.tell(desk);
            Ok(Appended { position, own_id })
        })
    }

    fn try_append_all(&self, drafts: Vec<Draft>) -> Vec<Result<Position, AppendError>> {
        let mut outcomes = Vec::with_capacity(drafts.len());
        self.at_a_desk(|desk| {
            let _in_order = lock(&self.order);
            {
                let mut state = lock(&self.state);
                let time_ms = now_ms();
                for draft in drafts {
                    outcomes.push(self.take_in(draft, time_ms, &mut state, desk));
                }
            }
            self.tell(desk);
        });
        outcomes
    }

    fn at_a_desk<T>(&self, work: impl FnOnce(&mut Desk) -> T) -> T {
        let mut desk = lock(&self.desks).pop().unwrap_or_default();
        let done = work(&mut desk);
        desk.clear();
        lock(&self.desks).push(desk);
        done
    }

    fn take_in(
        &self,
        draft: Draft,
        time_ms: u64,
        state: &mut State,
        desk: &mut Desk,
    ) -> Result<Position, AppendError> {
        if state.is_closed {
            return Err(closed());
        }
        let cost = self.checked_cost(&draft)?;
        let position = Position {
            epoch: self.epoch,
            offset: state.next,
        };
        let event = desk.place(Event {
            position,
            time_ms,
            draft,
        });
        state.push(Arc::clone(&event), cost, self.config, &mut desk.trimmed);
        desk.added.push(event);
        Ok(position)
    }

    fn tell(&self, desk: &Desk) {
        if let Some(tail) = self.tail.get().filter(|_| !desk.added.is_empty()) {
            tail.committed(&mut desk.added.iter().map(|event| event.as_record()));
        }
    }

    fn checked_cost(&self, draft: &Draft) -> Result<usize, AppendError> {
        let cost = cost_bytes(draft);
        let bytes_max = self.config.bytes_max;
        if cost <= bytes_max {
            return Ok(cost);
        }
        Err(AppendError {
            kind: AppendErrorKind::TooLarge,
            detail: format!("{cost} bytes, the memory log takes {bytes_max}"),
        })
    }
}

impl State {
    /// Takes an event in; what it pushes out goes to `trimmed`.
    fn push(
        &mut self,
        event: Arc<Event>,
        cost: usize,
        config: MemoryConfig,
        trimmed: &mut Vec<Arc<Event>>,
    ) {
        if let Some(id) = &event.draft.id {
            self.own_ids
                .insert((hash_id(id.as_str()), self.next.as_u64()));
        }
        self.next = self.next.plus(1);
        self.bytes += cost;
        self.events.push_back(event);
        while self.bytes > config.bytes_max || self.events.len() > config.events_max {
            let Some(oldest) = self.events.pop_front() else {
                return;
            };
            self.bytes -= cost_bytes(&oldest.draft);
            if let Some(id) = &oldest.draft.id {
                self.own_ids
                    .remove(&(hash_id(id.as_str()), oldest.position.offset.as_u64()));
            }
            trimmed.push(oldest);
        }
    }

    fn first(&self) -> Offset {
        self.events
            .front()
            .map_or(self.next, |event| event.position.offset)
    }

    fn find_own(&self, id: &str) -> Option<Offset> {
        let hash = hash_id(id);
        let first = self.first();
        self.own_ids
            .range((hash, 0)..=(hash, u64::MAX))
            .map(|(_, offset)| Offset::from_u64(*offset))
            .find(|offset| {
                let index = usize::try_from(offset.since(first)).unwrap_or(usize::MAX);
                let event = self.events.get(index);
                event
                    .and_then(|event| event.draft.id.as_ref())
                    .is_some_and(|own| own.as_str() == id)
            })
    }

    /// Takes over up to `count` events from `from` on; what was dropped before it is counted.
    fn take(&self, from: Offset, count: usize, chunk: &mut Vec<Arc<Event>>) -> u64 {
        let first = self.first();
        let start = usize::try_from(from.since(first)).unwrap_or(usize::MAX);
        chunk.extend(self.events.iter().skip(start).take(count).cloned());
        first.since(from)
    }
}

impl Log for MemoryLog {
    fn append(&self, draft: Draft, reply: Reply) {
        // Outside every lock, for a reply may append again.
        let outcome = self.try_append(draft);
        reply(outcome);
    }

    fn append_at_once(&self, draft: Draft) -> AtOnce {
        AtOnce::Done(self.try_append(draft))
    }

    fn append_batch(&self, drafts: Vec<Draft>, reply: BatchReply) {
        let outcomes = self.try_append_all(drafts);
        reply(outcomes);
    }

    fn set_waiting_max(&self, _events: usize, _bytes: usize) {}

    fn waiting(&self) -> (usize, usize) {
        (0, 0)
    }

    fn set_tail(&self, tail: Arc<dyn Tail>) {
        // A second tail is a fault of the caller; the first one stays.
        let _ = self.tail.set(tail);
    }

    fn bounds(&self) -> Bounds {
        let state = lock(&self.state);
        Bounds {
            epoch: self.epoch,
            first: state.first(),
            next: state.next,
            last_id: state.events.back().map(|event| (*event.id()).into()),
        }
    }

    fn locate(&self, id: &str) -> Located {
        let state = lock(&self.state);
        if let Some(Position { epoch, offset }) = Position::parse(id)
            && epoch == self.epoch
        {
            let is_known = (Offset::FIRST..state.next).contains(&offset);
            return match offset.plus(1) {
                after if is_known && after >= state.first() => Located::After(after),
                _ => Located::Unknown,
            };
        }
        // Nothing here blocks, so that a search on another thread is never needed.
        state
            .find_own(id)
            .map_or(Located::Unknown, |offset| Located::After(offset.plus(1)))
    }

    fn search(&self, id: &str) -> Result<Option<Offset>, ReadError> {
        Ok(lock(&self.state).find_own(id).map(|offset| offset.plus(1)))
    }

    fn read(
        &self,
        from: Offset,
        limit: ReadLimit,
        visit: &mut dyn FnMut(&RecordRef<'_>) -> Flow,
    ) -> Result<ReadEnd, ReadError> {
        let mut end = ReadEnd {
            next: from,
            lost: 0,
        };
        let mut chunk: Vec<Arc<Event>> = Vec::new();
        let mut events_left = limit.events_max.max(1);
        let mut bytes = 0;
        while events_left > 0 {
            chunk.clear();
            let count = events_left.min(READ_CHUNK_EVENTS);
            let lost = lock(&self.state).take(end.next, count, &mut chunk);
            end.lost += lost;
            end.next = end.next.plus(lost);
            if chunk.is_empty() {
                break;
            }
            for event in &chunk {
                let flow = visit(&event.as_record());
                if flow == Flow::StopBefore {
                    return Ok(end);
                }
                end.next = event.position.offset.plus(1);
                events_left -= 1;
                bytes += text_bytes(&event.draft);
                if flow == Flow::Stop || bytes >= limit.bytes_max {
                    return Ok(end);
                }
            }
        }
        Ok(end)
    }

    fn writable(&self) -> Result<(), String> {
        if lock(&self.state).is_closed {
            Err("the memory log is closed".into())
        } else {
            Ok(())
        }
    }

    fn close(&self) -> Result<(), AppendError> {
        // After the append that is under way, if any.
        let _in_order = lock(&self.order);
        lock(&self.state).is_closed = true;
        Ok(())
    }

    fn describe(&self) -> String {
        let MemoryConfig {
            bytes_max,
            events_max,
        } = self.config;
        format!("memory, at most {events_max} events or {bytes_max} bytes, lost at exit")
    }
}

fn closed() -> AppendError {
    AppendError {
        kind: AppendErrorKind::Closed,
        detail: "the memory log is closed".into(),
    }
}

fn text_bytes(draft: &Draft) -> usize {
    let topics: usize = draft.topics.iter().map(|topic| topic.as_str().len()).sum();
    let id = draft.id.as_ref().map_or(0, |id| id.as_str().len());
    let kind = draft.kind.as_ref().map_or(0, |kind| kind.as_str().len());
    topics + id + kind + draft.data.len()
}

fn cost_bytes(draft: &Draft) -> usize {
    text_bytes(draft) + draft.topics.len() * size_of::<Topic>() + EVENT_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Backend, check};

    struct Memory;

    impl Backend for Memory {
        fn fresh(&self) -> Arc<dyn Log> {
            let config = MemoryConfig {
                bytes_max: 64 << 20,
                events_max: 100_000,
            };
            Arc::new(MemoryLog::new(config))
        }

        fn keeping_few(&self) -> Arc<dyn Log> {
            let config = MemoryConfig {
                bytes_max: 64 << 20,
                events_max: 700,
            };
            Arc::new(MemoryLog::new(config))
        }
    }

    #[test]
    fn the_contract_holds() {
        check(&Memory);
    }

    #[test]
    fn both_bounds_hold_and_what_cannot_fit_is_refused() {
        let log = MemoryLog::new(MemoryConfig {
            bytes_max: 4096,
            events_max: 1000,
        });
        let draft = |bytes: usize| Draft {
            topics: [Topic::parse("a").expect("a topic")].into(),
            is_private: false,
            id: None,
            kind: None,
            retry_ms: None,
            conflation: Conflation::default(),
            data: "x".repeat(bytes).into(),
        };
        for _ in 0..100 {
            log.try_append(draft(100)).expect("it fits");
        }
        let state = lock(&log.state);
        assert!(
            state.bytes <= 4096 && state.events.len() >= 8,
            "{}",
            state.events.len()
        );
        drop(state);
        let refused = log.try_append(draft(4096)).map_err(|error| error.kind);
        assert_eq!(refused, Err(AppendErrorKind::TooLarge));
        assert_eq!(
            log.bounds().next,
            Offset::from_u64(101),
            "a refused event has no place"
        );
    }
}
