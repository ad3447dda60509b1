//! Why a run could not be made. What a run finds out is in its report, not here.

use std::fmt;
use std::io;

/// Why a run could not be made or finished.
#[derive(Debug)]
pub enum BenchError {
    /// An option makes no sense; the text says which and why. Exit code 2.
    Usage(String),
    /// The system refused something; the text says what was tried.
    Io {
        /// What was tried, in words that follow "cannot".
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server answered in a way that leaves nothing to measure.
    Server(String),
}

impl BenchError {
    /// An error of the system while trying `what` (words that follow "cannot").
    pub fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            what: what.into(),
            source: source.into(),
        }
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Server(text) => f.write_str(text),
            Self::Io { what, source } => write!(f, "cannot {what}: {source}"),
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Usage(_) | Self::Server(_) => None,
        }
    }
}
