//! Reading a stretch of the log and framing it.

use std::sync::{Arc, Mutex, PoisonError};

use gush_log::{Flow, Log, Offset, ReadEnd, ReadError, ReadLimit, RecordRef, TopicsRef};
use gush_sse::{EventFields, Measured};
use memchr::memchr2;

use super::damage::{Damage, Gap};
use super::opening::Opening;
use super::pool::Pool;
use super::stretch::{Conflated, Gauge, Mark, Recent, Spot, Stretch};
use super::{Failure, Place, Read, Request};
use crate::conflate::{Conflation, Lens, Standing};
use crate::frame::{Framing, push_chunk};
use crate::selection::Selection;

/// Most log bytes looked at for one request: what keeps many replays fair to each other.
const SCAN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most events looked at for one request.
const SCAN_EVENTS_MAX: usize = 32 * 1024;

/// Most comparisons of an event with a matcher for one request.
const SCAN_COMPARISONS_MAX: usize = 256 * 1024;

/// What one helper thread reads with.
pub(super) struct Reader {
    pub(super) log: Arc<dyn Log>,
    pub(super) conflation: Arc<Conflation>,
    pub(super) damage: Arc<Damage>,
    pub(super) recent: Arc<Mutex<Recent>>,
    pub(super) gauge: Gauge,
    pub(super) pool: Pool,
}

/// What a read brought so far.
struct Framed {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    framing: Framing,
    opening: Opening,
    verdict: Verdict,
    conflated: Conflated,
}

impl Reader {
    /// Reads until the chunk is full, a limit, the head or the next gap. A gap is only reported at
    /// the start of a chunk, so that everything before it is delivered first.
    pub(super) fn read(&self, request: &Request) -> Read {
        let Place {
            from,
            selection,
            framing,
            is_begun,
        } = &request.place;
        let version = self.conflation.version();
        let spot = Spot {
            cursor: *from,
            is_begun: *is_begun,
            version,
        };
        if let Some(stretch) = lock(&self.recent).find(spot, selection, *framing) {
            return Read {
                outcome: Ok(stretch),
                gap: None,
            };
        }
        let mut framed = Framed {
            bytes: self.pool.take(),
            marks: Vec::new(),
            framing: *framing,
            opening: Opening::new(*framing),
            verdict: Verdict::default(),
            conflated: Conflated::default(),
        };
        let (start, next) = match self.fill(request, &mut framed) {
            Ok(range) => range,
            Err(error) => {
                tracing::error!(%error, "replay failed; the subscriber is closed and can resume");
                return Read {
                    outcome: Err(Failure::Log),
                    gap: None,
                };
            }
        };
        let bytes = self.pool.freeze(framed.bytes);
        let stretch = Stretch::new(bytes, framed.marks, (start, next), &self.gauge);
        let stretch = Arc::new(stretch.conflated(framed.conflated));
        if next > start {
            lock(&self.recent).keep(selection, *framing, &stretch);
        }
        Read {
            outcome: Ok(stretch),
            gap: (start > *from).then(|| self.gap(*from, start)),
        }
    }

    /// Where what was read begins and ends: all between is there.
    fn fill(&self, request: &Request, framed: &mut Framed) -> Result<(Offset, Offset), ReadError> {
        let Place {
            from,
            selection,
            is_begun,
            ..
        } = &request.place;
        let from = *from;
        let mut expected = from;
        let mut first_found = None;
        let comparisons = selection.matchers.len() + selection.grants.len();
        let limit = ReadLimit {
            events_max: (SCAN_COMPARISONS_MAX / comparisons.max(1)).clamp(64, SCAN_EVENTS_MAX),
            bytes_max: SCAN_BYTES_MAX,
        };
        // Before the first look at what is known: what changes later makes the stretch too old, not
        // too fresh.
        let version = self.conflation.version();
        let lens = self.conflation.lens(self.log.bounds().next);
        loop {
            // The event from which on it is not known what came later.
            let mut unknown_from = None;
            let end: ReadEnd = self.log.read(expected, limit, &mut |record| {
                let offset = record.offset();
                if offset > expected && expected > from {
                    return Flow::StopBefore;
                }
                if framed.verdict.on(selection, record) {
                    let has_to_be_finished = *is_begun && offset == from;
                    match framed.weigh(record, &lens, version) {
                        Standing::Superseded if !has_to_be_finished => {
                            framed.conflated.passed.push(offset);
                        }
                        Standing::Unknown => {
                            unknown_from = Some(offset);
                            return Flow::StopBefore;
                        }
                        _ => framed.append(record),
                    }
                }
                first_found.get_or_insert(offset);
                expected = offset.plus(1);
                if framed.bytes.len() >= request.bytes_max {
                    Flow::Stop
                } else {
                    Flow::Continue
                }
            })?;
            if let Some(offset) = unknown_from {
                self.conflation.look_back(&*self.log, offset);
                continue;
            }
            // What is missing at the end is the next chunk's gap, unless this one has nothing else.
            return Ok(match first_found {
                Some(first) => (first, expected),
                None => (end.next, end.next),
            });
        }
    }

    /// Whether stretches are kept that [`Self::forget`] would let go of.
    pub(super) fn keeps_any(&self) -> bool {
        !lock(&self.recent).is_empty()
    }

    pub(super) fn forget(&self) {
        lock(&self.recent).clear();
        self.pool.clear();
    }

    fn gap(&self, from: Offset, until: Offset) -> Gap {
        let first = self.log.bounds().first;
        let is_trimmed = until <= first;
        let gap = Gap {
            from,
            until,
            is_trimmed,
        };
        if !is_trimmed {
            self.damage.remember(gap, first);
        }
        gap
    }
}

impl Framed {
    /// How an event stands to those that may stand for it.
    fn weigh(&mut self, record: &RecordRef<'_>, lens: &Lens<'_>, version: u64) -> Standing {
        let Some(slot) = lens.slot_of(record) else {
            return Standing::Newest;
        };
        self.conflated.made_at = Some(version);
        lens.standing(slot, record.offset())
    }

    /// Appends an event exactly as [`crate::frame::FramePool::encode`] has it: a subscriber that
    /// stopped in the middle of one goes on in the other.
    fn append(&mut self, record: &RecordRef<'_>) {
        let data = record.data.as_bytes();
        let has_fields = record.id.is_some() || record.kind.is_some() || record.retry_ms.is_some();
        if !has_fields && memchr2(b'\n', b'\r', data).is_none() {
            self.opening.append(record.position, data, &mut self.bytes);
        } else {
            self.encode(record);
        }
        self.marks.push((record.offset(), self.bytes.len()));
    }

    fn encode(&mut self, record: &RecordRef<'_>) {
        let id = match record.id {
            Some(own) => own,
            None => self.opening.id(record.position),
        };
        let event = Measured::new(&EventFields {
            kind: record.kind,
            retry_ms: record.retry_ms,
            id: Some(id),
            data: record.data,
        });
        match self.framing {
            Framing::Chunked => {
                push_chunk(&event, &mut self.bytes);
            }
            Framing::Raw => event.append(&mut self.bytes),
        }
    }
}

/// Whether the event before was for a selection: the next one often has the same topics.
#[derive(Debug, Default)]
struct Verdict {
    /// Packed as in the log; empty at first, which no event's are.
    topics: Vec<u8>,
    is_private: bool,
    is_wanted: bool,
}

impl Verdict {
    fn on(&mut self, selection: &Selection, record: &RecordRef<'_>) -> bool {
        let judge = || selection.wants(record.topics.iter(), record.is_private);
        let TopicsRef::Packed(topics) = record.topics else {
            return judge();
        };
        if self.is_private != record.is_private || self.topics != topics {
            self.is_wanted = judge();
            self.is_private = record.is_private;
            self.topics.clear();
            self.topics.extend_from_slice(topics);
        }
        self.is_wanted
    }
}

fn lock(recent: &Mutex<Recent>) -> std::sync::MutexGuard<'_, Recent> {
    recent.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
