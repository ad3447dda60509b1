//! What an event's data begins with, so that every delivery can be checked and timed.
//!
//! Fixed width, of characters that no format escapes, so that it survives JSON and forms and can be
//! found wherever a server puts the data: `gush~GGGGGGGG~SSSSSSSS~TTTTTTTTTTTTTTTT~` with the
//! group, the sequence number and the time of sending in lower-case hex; then padding.

use std::fmt::Write as _;

/// What a stamp begins with.
pub const MARK: &[u8; 5] = b"gush~";
/// Bytes of a stamp.
pub const STAMP_BYTES: usize = 5 + 9 + 9 + 17;

/// The identity of one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Which topic, as a number; events are counted for each group apart.
    pub group: u32,
    /// Which event of its group, from 0.
    pub sequence: u32,
    /// When it was sent, or should have been: nanoseconds of the monotonic clock.
    pub sent_ns: u64,
}

impl Stamp {
    /// Appends event data of `size` bytes, at least [`STAMP_BYTES`].
    pub fn push_data(&self, size: usize, out: &mut String) {
        let begin = out.len();
        write!(
            out,
            "gush~{:08x}~{:08x}~{:016x}~",
            self.group, self.sequence, self.sent_ns
        )
        .expect("writing to a String cannot fail");
        while out.len() - begin < size {
            let missing = size - (out.len() - begin);
            out.push_str(&PADDING[..missing.min(PADDING.len())]);
        }
    }
}

/// Text that neither compresses to nothing nor needs escaping anywhere.
const PADDING: &str = "The.quick.brown.fox.jumps.over.the.lazy.dog_0123456789-";

/// Finds stamps in data that comes in pieces of any size. 24 bytes, no allocation.
#[derive(Clone, Copy, Debug, Default)]
pub struct StampScanner {
    stamp: Stamp,
    /// Bytes matched so far.
    matched: u8,
}

impl StampScanner {
    /// Forgets a stamp that was begun. One that was completed is kept for [`StampScanner::last`].
    pub fn reset(&mut self) {
        self.matched = 0;
    }

    /// The stamp that [`StampScanner::feed`] gave back last.
    pub fn last(&self) -> Stamp {
        self.stamp
    }

    /// Takes the next piece of data; a stamp that is complete with it is given back, and what
    /// comes after it in this piece is not looked at.
    pub fn feed(&mut self, mut data: &[u8]) -> Option<Stamp> {
        while !data.is_empty() {
            if self.matched == 0 {
                // Nothing begun: the first byte of the mark, or nothing at all.
                data = &data[memchr::memchr(MARK[0], data)?..];
                if let Some(stamp) = whole(data) {
                    self.stamp = stamp;
                    return Some(stamp);
                }
            }
            if self.step(data[0]) {
                self.matched = 0;
                return Some(self.stamp);
            }
            data = &data[1..];
        }
        None
    }

    /// Whether this byte ends a stamp.
    fn step(&mut self, byte: u8) -> bool {
        let at = usize::from(self.matched);
        let hex = || char::from(byte).to_digit(16);
        let is_fit = match at {
            0..=4 => byte == MARK[at],
            13 | 22 | 39 => byte == b'~',
            5..=12 => hex().is_some_and(|digit| {
                self.stamp.group = self.stamp.group << 4 | digit;
                true
            }),
            14..=21 => hex().is_some_and(|digit| {
                self.stamp.sequence = self.stamp.sequence << 4 | digit;
                true
            }),
            _ => hex().is_some_and(|digit| {
                self.stamp.sent_ns = self.stamp.sent_ns << 4 | u64::from(digit);
                true
            }),
        };
        if is_fit {
            self.matched += 1;
        } else {
            // `g` occurs only once in the mark and is no hex digit.
            self.matched = u8::from(byte == MARK[0]);
        }
        usize::from(self.matched) == STAMP_BYTES
    }
}

/// A stamp that `data` begins with and that lies in it whole.
fn whole(data: &[u8]) -> Option<Stamp> {
    let data: &[u8; STAMP_BYTES] = data.first_chunk()?;
    if &data[..5] != MARK || data[13] != b'~' || data[22] != b'~' || data[39] != b'~' {
        return None;
    }
    Some(Stamp {
        group: u32::try_from(hex_value(&data[5..13])?).ok()?,
        sequence: u32::try_from(hex_value(&data[14..22])?).ok()?,
        sent_ns: hex_value(&data[23..39])?,
    })
}

fn hex_value(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, &byte| {
        let digit = char::from(byte).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn data(stamp: Stamp, size: usize) -> String {
        let mut out = String::new();
        stamp.push_data(size, &mut out);
        out
    }

    #[test]
    fn data_has_the_size_asked_for() {
        for size in [STAMP_BYTES, STAMP_BYTES + 1, 200, 100_000] {
            assert_eq!(data(Stamp::default(), size).len(), size);
        }
        assert_eq!(data(Stamp::default(), 0).len(), STAMP_BYTES);
    }

    proptest! {
        #[test]
        fn a_stamp_is_found_however_it_is_split(
            group: u32, sequence: u32, sent_ns: u64,
            before in "[ -~]{0,60}", cuts in proptest::collection::vec(1usize..50, 0..40),
        ) {
            let stamp = Stamp { group, sequence, sent_ns };
            let text = format!("{}{}", before.replace("gush~", "gush-"), data(stamp, 200));
            let mut rest = text.as_bytes();
            let mut scanner = StampScanner::default();
            let mut found = Vec::new();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                found.extend(scanner.feed(piece));
                rest = after;
            }
            found.extend(scanner.feed(rest));
            prop_assert_eq!(found, vec![stamp]);
        }
    }
}
