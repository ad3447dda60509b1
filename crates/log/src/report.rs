//! What is told to the operator when a disk log is opened.

use std::fmt;

use crate::Offset;
use crate::segment::{Hole, file_name};

/// How many places of damage are kept by name; more are only counted.
const DAMAGE_MAX: usize = 64;

/// What was found when a disk log was opened. Its text is one line for the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// There was no log before.
    pub is_new: bool,
    /// The log had been closed cleanly: nothing was scanned, the epoch goes on.
    pub was_clean: bool,
    /// Segments held.
    pub segments: usize,
    /// Whole events held. In segments that were not scanned, as their index says.
    pub events: u64,
    /// Bytes of the held segments.
    pub bytes: u64,
    /// The end of the newest segment that held no whole record and was cut off: usually the last
    /// write before a crash, which nobody got an answer for.
    pub cut: Option<Cut>,
    /// Damage that is not at the end: events that were stored are lost. The first
    /// 64 places.
    pub damaged: Vec<Damage>,
    /// All places of damage, also those not listed.
    pub damaged_count: usize,
    /// Index files that had to be made again.
    pub indexes_rebuilt: usize,
}

/// A cut end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub segment: String,
    /// How much was cut.
    pub bytes: u64,
    /// The offset that the first cut event had or would have had.
    pub from: Offset,
    /// What was there instead of a whole record.
    pub reason: &'static str,
}

/// A damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub segment: String,
    /// Where it begins in the file.
    pub at_bytes: u64,
    /// How long it is; 0 when bytes are missing.
    pub bytes: u64,
    /// The first event lost.
    pub from: Offset,
    /// Events lost, as far as is known; 0 when a copy was good.
    pub events: u64,
}

impl Recovery {
    pub(crate) fn damage(&mut self, damage: Damage) {
        self.damaged_count += 1;
        if self.damaged.len() < DAMAGE_MAX {
            self.damaged.push(damage);
        }
    }

    pub(crate) fn hole(&mut self, base: Offset, hole: Hole) {
        let Hole {
            at,
            bytes,
            from,
            events,
        } = hole;
        self.damage(Damage {
            segment: file_name(base),
            at_bytes: at,
            bytes,
            from,
            events,
        });
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_new {
            return out.write_str("a new log");
        }
        let Self {
            events,
            segments,
            bytes,
            ..
        } = self;
        write!(
            out,
            "{events} events in {segments} segments, {bytes} bytes, "
        )?;
        out.write_str(if self.was_clean {
            "closed cleanly"
        } else {
            "not closed cleanly"
        })?;
        if let Some(Cut {
            segment,
            bytes,
            from,
            reason,
        }) = &self.cut
        {
            let from = from.as_u64();
            write!(
                out,
                "; cut {bytes} bytes at the end of {segment} from offset {from} on ({reason})"
            )?;
        }
        for Damage {
            segment,
            at_bytes,
            bytes,
            from,
            events,
        } in &self.damaged
        {
            let from = from.as_u64();
            write!(
                out,
                "; DAMAGED {segment} at byte {at_bytes} ({bytes} bytes): {events} events lost from \
                 offset {from} on"
            )?;
        }
        if self.damaged_count > self.damaged.len() {
            write!(
                out,
                "; {} more damaged places",
                self.damaged_count - self.damaged.len()
            )?;
        }
        if self.indexes_rebuilt > 0 {
            write!(out, "; {} index files made again", self.indexes_rebuilt)?;
        }
        Ok(())
    }
}
