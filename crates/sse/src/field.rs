//! The two fields that hold one line: `id` and `event`.
//!
//! They are types of their own so that a text that could forge a field in somebody else's stream
//! cannot reach the encoder by way of the hub.

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
        if raw.starts_with('#') {
            return Err(FieldError::Hash);
        }
        if raw == "earliest" {
            return Err(FieldError::Reserved);
        }
        Ok(check(raw, Self::BYTES_MAX)?.map(Self))
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
        Ok(check(raw, Self::BYTES_MAX)?.map(Self))
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

/// Why a text cannot be an `id` or `event` field. The text of each is fit for the peer: it holds
/// nothing of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldError {
    /// More bytes than the field takes.
    TooLong,
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
            // Both fields have the same bound.
            Self::TooLong => write!(out, "is longer than {} bytes", EventId::BYTES_MAX),
            Self::Control => out.write_str("holds a control character"),
            Self::Format => out.write_str("holds an invisible format character"),
            Self::Hash => out.write_str("begins with '#', which is reserved"),
            Self::Reserved => out.write_str("is the reserved word 'earliest'"),
        }
    }
}

impl std::error::Error for FieldError {}

fn check(raw: &str, bytes_max: usize) -> Result<Option<Box<str>>, FieldError> {
    if raw.is_empty() {
        return Ok(None);
    }
    // Before the scan, so that a huge text costs nothing.
    if raw.len() > bytes_max {
        return Err(FieldError::TooLong);
    }
    if raw.chars().any(char::is_control) {
        return Err(FieldError::Control);
    }
    if !raw.is_ascii() && raw.chars().any(is_format) {
        return Err(FieldError::Format);
    }
    Ok(Some(raw.into()))
}

/// Unicode 17 general category Cf.
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
    }

    #[test]
    fn every_control_character_is_refused_everywhere() {
        for code in (0..0x20).chain(0x7f..0xa0) {
            let c = char::from_u32(code).expect("below the surrogates");
            for text in [format!("{c}a"), format!("a{c}"), format!("a{c}b")] {
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
    fn format_characters_are_refused() {
        for c in [
            '\u{ad}',
            '\u{200b}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
        ] {
            assert_eq!(
                EventId::parse(&format!("a{c}")),
                Err(FieldError::Format),
                "{c:?}"
            );
            assert_eq!(
                EventType::parse(&format!("a{c}")),
                Err(FieldError::Format),
                "{c:?}"
            );
        }
        assert!(EventId::parse("Zürich ✓ 東京 🦀").is_ok());
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
            Err(FieldError::TooLong)
        );
        assert_eq!(
            EventType::parse(&format!("{most}x")),
            Err(FieldError::TooLong)
        );
        assert_eq!(EventId::parse(&"é".repeat(513)), Err(FieldError::TooLong));
    }
}
