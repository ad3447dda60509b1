//! What the threads saw, each with its time, and how it is counted.

use std::time::Duration;

use super::super::tally::{GivenUp, Tally};

/// Something that happened to one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Its stream is gone, and it knows.
    Notices,
    /// It connects.
    Tries,
    /// Its attempt is through.
    IsBack,
    /// 200, a delay and the end.
    Softly,
    /// Another status.
    Hard,
    /// No answer at all.
    NoAnswer,
    /// There will be no further attempt.
    GivesUp(GivenUp),
}

/// When, and what.
pub(super) type Note = (u64, What);

/// Counts notes, in the order of their times, from the drop on.
pub(super) fn count(notes: &[Note], dropped_ns: u64, tally: &mut Tally) {
    let mut notes = notes.to_vec();
    notes.sort_by_key(|(at_ns, _)| *at_ns);
    for (at_ns, what) in notes {
        let now = Duration::from_nanos(at_ns.saturating_sub(dropped_ns));
        match what {
            What::Notices => {}
            What::Tries => {
                tally.attempt(now);
                tally.served(now);
            }
            What::IsBack => {
                tally.admitted(now);
                tally.is_back(now);
            }
            What::Softly => {
                tally.refused_softly += 1;
                tally.leaves(now);
            }
            What::Hard => {
                tally.refused_hard += 1;
                tally.leaves(now);
            }
            What::NoAnswer => {
                tally.unanswered += 1;
                tally.leaves(now);
            }
            What::GivesUp(why) => tally.gives_up(why),
        }
    }
}
