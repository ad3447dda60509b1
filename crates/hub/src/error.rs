//! Errors of the server as a whole: whose fault, and what the operator reads.

use std::fmt;

/// Why `gush serve` could not start or had to end. Always the operator's to mend.
#[derive(Debug)]
pub struct ServeError {
    text: String,
}

impl ServeError {
    /// A failure told in a sentence that names the option to change.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// The value of an option cannot be used.
    pub fn setting(option: &str, reason: &dyn fmt::Display) -> Self {
        Self::new(format!("{option}: {reason}"))
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl std::error::Error for ServeError {}
