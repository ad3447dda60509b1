//! What stands before the data of events that follow each other: nearly the same for each.

use gush_log::{Epoch, GENERATED_ID_BYTES, Offset, Position};
use gush_sse::{EventFields, Measured};

use crate::frame::Framing;

/// Most hex digits of a chunk's length.
const LENGTH_DIGITS_MAX: usize = 2 * size_of::<usize>();

/// What ends every event, and the chunk of one.
const ENDS: &[u8; 4] = b"\n\n\r\n";
const EVENT_END_BYTES: usize = 2;

/// The begin of an event that has one line of data and no fields of its own: the chunk's head, the
/// generated id, and the name of the data's line.
///
/// It is made by the encoder once. From one event to the next a digit or two of the id change, and
/// the length of the chunk.
#[derive(Debug)]
pub(super) struct Opening {
    framing: Framing,
    /// Room for the digits of a chunk's length, the end of their line, then the event's begin.
    text: Vec<u8>,
    /// Where the event's begin stands, and its id.
    event_at: usize,
    id_at: usize,
    /// Where the digits begin, and for how many bytes of data; nothing is that long at first.
    begin: usize,
    data_bytes: usize,
    /// Whose id it is.
    position: Option<Position>,
}

impl Opening {
    pub(super) fn new(framing: Framing) -> Self {
        let mut text = vec![b'0'; LENGTH_DIGITS_MAX];
        text.extend_from_slice(b"\r\n");
        let event_at = text.len();
        let any = Position {
            epoch: Epoch::from_u64(0),
            offset: Offset::FIRST,
        };
        let id = any.to_string();
        let event = Measured::new(&EventFields {
            id: Some(&id),
            ..EventFields::default()
        });
        event.append(&mut text);
        text.truncate(text.len() - EVENT_END_BYTES);
        let id_at = memchr::memmem::find(&text, id.as_bytes()).expect("the encoder writes the id");
        Self {
            framing,
            text,
            event_at,
            id_at,
            begin: event_at,
            data_bytes: usize::MAX,
            position: None,
        }
    }

    /// Appends an event whose data has no line end, as the encoder would.
    #[inline]
    pub(super) fn append(&mut self, position: Position, line: &[u8], out: &mut Vec<u8>) {
        self.turn_to(position);
        let ends = match self.framing {
            Framing::Raw => &ENDS[..EVENT_END_BYTES],
            Framing::Chunked => {
                if self.data_bytes != line.len() {
                    self.set_length(line.len());
                }
                &ENDS[..]
            }
        };
        let begin = &self.text[self.begin..];
        out.reserve(begin.len() + line.len() + ends.len());
        out.extend_from_slice(begin);
        out.extend_from_slice(line);
        out.extend_from_slice(ends);
    }

    /// The generated id of a position, as [`Position::id_bytes`] has it.
    pub(super) fn id(&mut self, position: Position) -> &str {
        self.turn_to(position);
        let id = &self.text[self.id_at..][..GENERATED_ID_BYTES];
        std::str::from_utf8(id).expect("hex digits are ASCII")
    }

    fn turn_to(&mut self, position: Position) {
        let is_next = self.position.is_some_and(|last| {
            last.epoch == position.epoch && last.offset.plus(1) == position.offset
        });
        let id = &mut self.text[self.id_at..][..GENERATED_ID_BYTES];
        if !is_next || !count_up(id) {
            id.copy_from_slice(&position.id_bytes());
        }
        self.position = Some(position);
    }

    /// Writes the head of a chunk with so many bytes of data.
    fn set_length(&mut self, data_bytes: usize) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut rest = self.text.len() - self.event_at + data_bytes + EVENT_END_BYTES;
        let mut at = LENGTH_DIGITS_MAX;
        while rest > 0 {
            at -= 1;
            self.text[at] = HEX[rest & 0xf];
            rest >>= 4;
        }
        self.begin = at;
        self.data_bytes = data_bytes;
    }
}

/// Adds one to the number at the end of an id; `false` where it goes beyond the last twelve digits,
/// which stand behind the last hyphen.
fn count_up(id: &mut [u8]) -> bool {
    for digit in id[GENERATED_ID_BYTES - 12..].iter_mut().rev() {
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
    use super::*;

    #[test]
    fn counted_ids_are_those_of_their_positions() {
        let mut opening = Opening::new(Framing::Raw);
        let starts = [1, 0xfff0, 0xffff_ffff_fff0, 0x1234_ffff_ffff_fff8, 7];
        for (epoch, start) in [5, 5, 6, Epoch::MAX, 6].into_iter().zip(starts) {
            for number in (0..40).chain([90, 91, 91, 3]) {
                let position = Position {
                    epoch: Epoch::from_u64(epoch),
                    offset: Offset::from_u64(start + number),
                };
                assert_eq!(opening.id(position), position.to_string());
            }
        }
    }
}
