//! The error of this crate: a text for a person.

use std::fmt;

/// What went wrong, in words. `Debug` prints the same as `Display`, so that a test that returns
/// `Outcome<()>` shows it with its line breaks.
pub struct Failure(String);

/// What the functions of this crate return.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The same failure, with where it happened in front.
    #[must_use]
    pub fn within(self, place: impl fmt::Display) -> Self {
        Self(format!("{place}: {}", self.0))
    }

    /// `Err` of a failure that shows both sides.
    pub fn mismatch<T>(
        what: impl fmt::Display,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Outcome<T> {
        let (expected, got) = (clip(&expected.to_string()), clip(&got.to_string()));
        Err(Self(format!(
            "{what}\n  expected: {expected}\n  got:      {got}"
        )))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(format!("input/output: {error}"))
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Longest text shown of one side of a comparison, in bytes.
const SHOWN: usize = 4000;

/// The text, with its middle left out when it is long.
pub(crate) fn clip(text: &str) -> String {
    if text.len() <= SHOWN {
        return text.to_owned();
    }
    let start: String = text.chars().take(SHOWN * 3 / 8).collect();
    let end: String = text
        .chars()
        .skip(text.chars().count() - SHOWN * 3 / 8)
        .collect();
    format!("{start} … {} bytes in all … {end}", text.len())
}
