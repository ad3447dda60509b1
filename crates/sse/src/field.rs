//! Texts of one line: the `id` and `event` fields, and the topics that events are published under.
//!
//! They are types of their own so that a text that could forge a field in somebody else's stream,
//! or look like another one, cannot reach a log or the encoder by way of the hub. Each has one way
//! in, and that checks.

use std::fmt;

/// An event's id that may be sent: one line, no control or format characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Box<str>);

impl EventId {
    /// The longest id in bytes, inclusive. Ours: it bounds what one publisher can make every
    /// subscriber store and send back in a request head.
    pub const BYTES_MAX: usize = 1024;

    /// Checks an id that came from outside. Empty is `Ok(None)`: no id was given.
    ///
    /// Reads each byte at most twice; allocates only for a good, non-empty id.
    ///
    /// # Errors
    ///
    /// Every [`FieldError`]; always the fault of the peer, a retry does not help.
    ///
    /// # Source
    ///
    /// WHATWG HTML, "Server-sent events": NUL in an id is ignored by readers, CR and LF end it.
    /// The Mercure protocol keeps ids that begin with `#` for itself and gives `earliest` a
    /// meaning.
    ///
    /// ```
    /// use gush_sse::{EventId, FieldError};
    ///
    /// assert!(EventId::parse("urn:uuid:5e94").is_ok_and(|id| id.is_some()));
    /// assert_eq!(EventId::parse(""), Ok(None));
    /// assert_eq!(EventId::parse("a\ndata: forged"), Err(FieldError::Control));
    /// ```
    pub fn parse(raw: &str) -> Result<Option<Self>, FieldError> {
        Self::check(raw)?;
        Ok((!raw.is_empty()).then(|| Self(raw.into())))
    }

    /// As [`Self::parse`], for who keeps the text elsewhere: allocates nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`]; empty is good.
    pub fn check(raw: &str) -> Result<(), FieldError> {
        if raw.starts_with('#') {
            return Err(FieldError::Hash);
        }
        if raw == "earliest" {
            return Err(FieldError::Reserved);
        }
        check(raw, Self::BYTES_MAX)
    }

    /// The text.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

/// An event's type (the SSE `event` field) that may be sent: one line, no control or format
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Box<str>);

impl EventType {
    /// The longest type in bytes, inclusive. Ours.
    pub const BYTES_MAX: usize = 1024;

    /// Checks a type that came from outside. Empty is `Ok(None)`: readers then use `message`.
    ///
    /// # Errors
    ///
    /// [`FieldError::TooLong`], [`FieldError::Control`], [`FieldError::Format`]; always the fault
    /// of the peer, a retry does not help.
    pub fn parse(raw: &str) -> Result<Option<Self>, FieldError> {
        Self::check(raw)?;
        Ok((!raw.is_empty()).then(|| Self(raw.into())))
    }

    /// As [`Self::parse`], for who keeps the text elsewhere: allocates nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`]; empty is good.
    pub fn check(raw: &str) -> Result<(), FieldError> {
        check(raw, Self::BYTES_MAX)
    }

    /// The text.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an event is published under: one line, not empty, no control or format characters.
///
/// It is no field of a stream, but documents, logs and screens show it, and an invisible character
/// would make two topics that look the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Box<str>);

impl Topic {
    /// The longest topic in bytes, inclusive: what a record of a log has room for. The hub takes
    /// shorter ones only from publishers.
    pub const BYTES_MAX: usize = u16::MAX as usize;

    /// Checks a topic that came from outside.
    ///
    /// # Errors
    ///
    /// [`FieldError::Empty`], [`FieldError::TooLong`], [`FieldError::Control`],
    /// [`FieldError::Format`]; always the fault of the peer, a retry does not help.
    ///
    /// ```
    /// use gush_sse::{FieldError, Topic};
    ///
    /// assert!(Topic::parse("https://example.com/books/1").is_ok());
    /// assert_eq!(Topic::parse("a\u{202e}b"), Err(FieldError::Format));
    /// ```
    pub fn parse(raw: &str) -> Result<Self, FieldError> {
        Self::check(raw)?;
        Ok(Self(raw.into()))
    }

    /// As [`Self::parse`], for who keeps the text elsewhere: allocates nothing.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    pub fn check(raw: &str) -> Result<(), FieldError> {
        if raw.is_empty() {
            return Err(FieldError::Empty);
        }
        check(raw, Self::BYTES_MAX)
    }

    /// The text.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for EventId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for EventType {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Why a text cannot be an `id` or `event` field, or a topic. The text of each is fit for the peer:
/// it holds nothing of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// A topic of no bytes.
    Empty,
    /// More bytes than this, which are the most that the text may have.
    TooLong(usize),
    /// A control character: C0 (so also CR, LF, NUL, tab), DEL or C1.
    Control,
    /// A Unicode format character (category Cf): invisible, so two ids could look alike.
    Format,
    /// An id that begins with `#`, which the protocol keeps for itself.
    Hash,
    /// The id `earliest`, which the protocol gives a meaning of its own.
    Reserved,
}

impl fmt::Display for FieldError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => out.write_str("is empty"),
            Self::TooLong(bytes_max) => write!(out, "is longer than {bytes_max} bytes"),
            Self::Control => out.write_str("holds a control character"),
            Self::Format => out.write_str("holds an invisible format character"),
            Self::Hash => out.write_str("begins with '#', which is reserved"),
            Self::Reserved => out.write_str("is the reserved word 'earliest'"),
        }
    }
}

impl std::error::Error for FieldError {}

fn check(raw: &str, bytes_max: usize) -> Result<(), FieldError> {
    // Before the scan, so that a huge text costs nothing.
    if raw.len() > bytes_max {
        return Err(FieldError::TooLong(bytes_max));
    }
    if is_printable_ascii(raw.as_bytes()) {
        return Ok(());
    }
    if raw.chars().any(char::is_control) {
        return Err(FieldError::Control);
    }
    if raw.chars().any(is_format) {
        return Err(FieldError::Format);
    }
    Ok(())
}

/// Whether no byte is a control character or one of a longer character: then none of the checks
/// above can find anything. Eight bytes at a time, without a branch for each: every event that is
/// read from a log comes through here.
fn is_printable_ascii(bytes: &[u8]) -> bool {
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    const SPACES: u64 = u64::from_ne_bytes([b' '; 8]);
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut found = 0;
    for chunk in chunks {
        let word = u64::from_ne_bytes(*chunk);
        // The highest bit of a byte says: from 0x20 on; and: DEL, if none is above it.
        let from_space = (word | HIGHS) - SPACES;
        let is_del = word.wrapping_add(ONES);
        found |= word | !from_space | is_del;
    }
    found & HIGHS == 0 && rest.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Unicode 17 general category Cf. A log's reader goes by it as well: what a later Unicode adds
/// would make events unreadable that are stored already.
const fn is_format(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{2066}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_absent() {
        assert_eq!(EventId::parse(""), Ok(None));
        assert_eq!(EventType::parse(""), Ok(None));
        assert_eq!(Topic::parse(""), Err(FieldError::Empty));
    }

    #[test]
    fn every_control_character_is_refused_everywhere() {
        for code in (0..0x20).chain(0x7f..0xa0) {
            let c = char::from_u32(code).expect("below the surrogates");
            for text in [format!("{c}a"), format!("a{c}"), format!("a{c}é")] {
                assert_eq!(Topic::parse(&text), Err(FieldError::Control), "{text:?}");
                assert_eq!(EventId::parse(&text), Err(FieldError::Control), "{text:?}");
                assert_eq!(
                    EventType::parse(&text),
                    Err(FieldError::Control),
                    "{text:?}"
                );
            }
        }
    }

    #[test]
    fn printable_ascii_is_told_from_the_rest_at_every_place() {
        for length in 0..=17 {
            assert!(is_printable_ascii(&vec![b'a'; length]));
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    for others in *b" ~a" {
                        let mut bytes = vec![others; length];
                        bytes[place] = byte;
                        let is_printable = byte.is_ascii_graphic() || byte == b' ';
                        assert_eq!(is_printable_ascii(&bytes), is_printable, "{bytes:?}");
                    }
                }
            }
        }
        // What one byte does in a word does not hide its neighbour.
        for pair in 0..=u16::MAX {
            let [one, other] = pair.to_ne_bytes();
            let bytes = [b'a', b'a', b'a', one, other, b'a', b'a', b'a'];
            let is_printable = bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e));
            assert_eq!(is_printable_ascii(&bytes), is_printable, "{bytes:?}");
        }
    }

    #[test]
    fn format_characters_are_refused() {
        for c in [
            '\u{ad}',
            '\u{200b}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            let text = format!("a{c}");
            assert_eq!(EventId::parse(&text), Err(FieldError::Format), "{c:?}");
            assert_eq!(EventType::parse(&text), Err(FieldError::Format), "{c:?}");
            assert_eq!(Topic::parse(&text), Err(FieldError::Format), "{c:?}");
        }
        assert!(EventId::parse("Zürich ✓ 東京 🦀").is_ok());
        assert!(Topic::parse("Zürich ✓ 東京 🦀").is_ok());
    }

    #[test]
    fn reserved_ids_are_good_types() {
        assert_eq!(EventId::parse("#a"), Err(FieldError::Hash));
        assert_eq!(EventId::parse("earliest"), Err(FieldError::Reserved));
        assert!(EventId::parse("a#").is_ok());
        assert!(EventId::parse("Earliest").is_ok());
        assert!(EventType::parse("#a").is_ok_and(|kind| kind.is_some()));
        assert!(EventType::parse("earliest").is_ok_and(|kind| kind.is_some()));
    }

    #[test]
    fn the_bound_is_inclusive_and_counts_bytes() {
        let most = "x".repeat(EventId::BYTES_MAX);
        assert!(EventId::parse(&most).is_ok());
        assert_eq!(
            EventId::parse(&format!("{most}x")),
            Err(FieldError::TooLong(1024))
        );
        assert_eq!(
            EventType::parse(&format!("{most}x")),
            Err(FieldError::TooLong(1024))
        );
        let wide = "é".repeat(513);
        assert_eq!(EventId::parse(&wide), Err(FieldError::TooLong(1024)));
        assert!(Topic::parse(&"x".repeat(65_535)).is_ok());
        assert_eq!(
            Topic::parse(&"x".repeat(65_536)),
            Err(FieldError::TooLong(65_535))
        );
    }
}
