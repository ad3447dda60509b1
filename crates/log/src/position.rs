//! Where an event stands in a log, and the wire id that carries it.

use std::fmt;

/// Which life of a log an offset belongs to.
///
/// 60 bits: 48 bits of milliseconds since 1970 when the life began, 12 random ones. A log gets a
/// new epoch whenever offsets could be given out twice: when it is created, and when it was not
/// closed cleanly. Clients store ids for a long time, so an offset alone would lie after a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The largest value: 60 bits.
    pub const MAX: u64 = (1 << 60) - 1;

    /// A fresh epoch for a life that begins at `time_ms` (since 1970).
    #[must_use]
    pub fn begin(time_ms: u64) -> Self {
        Self(((time_ms << 12) | fastrand::u64(0..1 << 12)) & Self::MAX)
    }

    /// From a stored number; bits above the 60th are dropped.
    #[must_use]
    pub const fn from_u64(raw: u64) -> Self {
        Self(raw & Self::MAX)
    }

    /// The number, at most [`Self::MAX`].
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// Position in one log: dense, from 1. The first event ever appended has offset 1.
///
/// At most 62 bits, so that it fits a generated id; at a million events a second that is enough
/// for 146,000 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// The offset of the first event of a log.
    pub const FIRST: Self = Self(1);
    /// The largest value: 62 bits.
    pub const MAX: u64 = (1 << 62) - 1;

    /// From a stored number; bits above the 62nd are dropped.
    #[must_use]
    pub const fn from_u64(raw: u64) -> Self {
        Self(raw & Self::MAX)
    }

    /// The number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The offset `count` further on.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }

    /// How many events lie in `[earlier, self)`; zero when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// An offset and the epoch it belongs to: what a generated event id says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life of the log.
    pub epoch: Epoch,
    /// The place in it.
    pub offset: Offset,
}

/// Bytes of a generated id: `urn:uuid:` and 36 characters.
pub const GENERATED_ID_BYTES: usize = 45;

const PREFIX: &str = "urn:uuid:";

impl Position {
    /// Reads a generated id back. `None` for every other text, so also for ids that publishers
    /// chose.
    ///
    /// No allocation, one pass.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        let hex = id.strip_prefix(PREFIX)?.as_bytes();
        if hex.len() != 36 {
            return None;
        }
        // The high half holds the epoch, the low one the offset.
        let mut halves = [0_u64; 2];
        let mut digits = 0;
        for (index, byte) in hex.iter().enumerate() {
            if matches!(index, 8 | 13 | 18 | 23) {
                if *byte != b'-' {
                    return None;
                }
                continue;
            }
            // Only the lower-case form is ours: one position has one id.
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return None,
            };
            halves[digits / 16] = (halves[digits / 16] << 4) | u64::from(digit);
            digits += 1;
        }
        let [high, low] = halves;
        let version = (high >> 12) & 0xf;
        let variant = low >> 62;
        if version != 8 || variant != 0b10 {
            return None;
        }
        Some(Self {
            epoch: Epoch::from_u64(((high >> 16) << 12) | (high & 0xfff)),
            offset: Offset::from_u64(low),
        })
    }
}

impl Position {
    /// The generated id, as ASCII: an RFC 9562 version 8 UUID as a URN, which looks like the
    /// reference hub's `urn:uuid:` ids and sorts by time. 60 bits hold the epoch, 62 the offset, so
    /// that finding the event again needs no search.
    ///
    /// No allocation: every event sent and every publish answered has one.
    #[must_use]
    pub fn id_bytes(&self) -> [u8; GENERATED_ID_BYTES] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let (epoch, offset) = (self.epoch.as_u64(), self.offset.as_u64());
        let high = ((epoch >> 12) << 16) | 0x8000 | (epoch & 0xfff);
        let low = (0b10 << 62) | offset;
        let mut id = [b'-'; GENERATED_ID_BYTES];
        id[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        let bytes = high.to_be_bytes().into_iter().chain(low.to_be_bytes());
        for (byte, at) in bytes.zip(BYTE_PLACES) {
            let at = PREFIX.len() + at;
            id[at] = HEX[usize::from(byte >> 4)];
            id[at + 1] = HEX[usize::from(byte & 0xf)];
        }
        id
    }
}

/// Where the two digits of each byte stand in a UUID.
const BYTE_PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// The generated id; see [`Position::id_bytes`].
impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(std::str::from_utf8(&self.id_bytes()).expect("hex digits are ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_generated_id_looks_like_a_version_8_uuid() {
        let position = Position {
            epoch: Epoch::from_u64(0x0012_3456_789a_bcde),
            offset: Offset::from_u64(0x1234_5678_9abc_def0),
        };
        assert_eq!(
            position.to_string(),
            "urn:uuid:01234567-89ab-8cde-9234-56789abcdef0"
        );
        assert_eq!(position.to_string().len(), GENERATED_ID_BYTES);
    }

    #[test]
    fn other_texts_are_no_generated_ids() {
        for text in [
            "",
            "urn:uuid:",
            "01234567-89ab-8cde-9234-56789abcdef0",
            "urn:uuid:01234567-89AB-8cde-9234-56789abcdef0",
            "urn:uuid:01234567-89ab-4cde-9234-56789abcdef0",
            "urn:uuid:01234567-89ab-8cde-4234-56789abcdef0",
            "urn:uuid:01234567-89ab-8cde-d234-56789abcdef0",
            "urn:uuid:01234567089ab-8cde-9234-56789abcdef0",
            "urn:uuid:01234567-89ab-8cde-9234-56789abcdef",
            "urn:uuid:01234567-89ab-8cde-9234-56789abcdef00",
            "urn:uuid:01234567-89ab-8cde-9234-56789abcde+0",
        ] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_id_names_its_position(epoch in 0..=Epoch::MAX, offset in 0..=Offset::MAX) {
            let position =
                Position { epoch: Epoch::from_u64(epoch), offset: Offset::from_u64(offset) };
            prop_assert_eq!(Position::parse(&position.to_string()), Some(position));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,60}", hex in "[0-9a-f-]{36}") {
            let _ = Position::parse(&text);
            let id = format!("urn:uuid:{hex}");
            if let Some(position) = Position::parse(&id) {
                prop_assert_eq!(position.to_string(), id);
            }
        }
    }
}
