//! The generated ids of events that follow each other.

use gush_log::{GENERATED_ID_BYTES, Position};

/// The id made last. Neighbours differ in a digit or two, so the next one is counted up to.
#[derive(Debug)]
pub(super) struct Ids {
    last: Option<Position>,
    text: [u8; GENERATED_ID_BYTES],
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            last: None,
            text: [0; GENERATED_ID_BYTES],
        }
    }
}

impl Ids {
    /// The generated id of a position, as [`Position::id_bytes`] has it.
    pub(super) fn of(&mut self, position: Position) -> &str {
        let is_next = self.last.is_some_and(|last| {
            last.epoch == position.epoch && last.offset.plus(1) == position.offset
        });
        if !is_next || !count_up(&mut self.text) {
            self.text = position.id_bytes();
        }
        self.last = Some(position);
        std::str::from_utf8(&self.text).expect("hex digits are ASCII")
    }
}

/// Adds one to the number at the end; `false` where it goes beyond the last twelve digits, which
/// stand behind the last hyphen.
fn count_up(text: &mut [u8; GENERATED_ID_BYTES]) -> bool {
    for digit in text[GENERATED_ID_BYTES - 12..].iter_mut().rev() {
        match *digit {
            b'9' => *digit = b'a',
            b'f' => {
                *digit = b'0';
                continue;
            }
            _ => *digit += 1,
        }
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use gush_log::{Epoch, Offset};

    use super::*;

    #[test]
    fn counted_ids_are_those_of_their_positions() {
        let mut ids = Ids::default();
        let starts = [1, 0xfff0, 0xffff_ffff_fff0, 0x1234_ffff_ffff_fff8, 7];
        for (epoch, start) in [5, 5, 6, Epoch::MAX, 6].into_iter().zip(starts) {
            for number in (0..40).chain([90, 91, 91, 3]) {
                let position = Position {
                    epoch: Epoch::from_u64(epoch),
                    offset: Offset::from_u64(start + number),
                };
                assert_eq!(ids.of(position), position.to_string());
            }
        }
    }
}
