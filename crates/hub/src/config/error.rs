//! What is wrong with a configuration: where, which key, which value, why, and what to write
//! instead.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// `--dev` turned it on.
    Dev,
    /// A line of the file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable of this name.
    Environment(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Dev => f.write_str("--dev"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong. Shown as `gush.toml:7: heartbeat = "25": a duration needs a unit; write
/// "25s"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the value came from.
    pub origin: Origin,
    /// Key as in the file; empty when the place says it all.
    pub key: String,
    /// The value as written, `(hidden)` for a secret; `None` when it is not about one value.
    pub value: Option<String>,
    /// What is wrong and how to put it right.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_deref().map(printable);
        match (&self.origin, value) {
            (Origin::Default | Origin::Dev, _) => write!(f, "{}", self.key)?,
            (Origin::Flag(name), Some(value)) => write!(f, "{name} {value}")?,
            (Origin::Environment(name), Some(value)) => write!(f, "{name}={value}")?,
            (Origin::Flag(_) | Origin::Environment(_), None) => write!(f, "{}", self.origin)?,
            (Origin::File { .. }, _) if self.key.is_empty() => write!(f, "{}", self.origin)?,
            (Origin::File { .. }, Some(value)) => {
                write!(f, "{}: {} = {value}", self.origin, self.key)?;
            }
            (Origin::File { .. }, None) => write!(f, "{}: {}", self.origin, self.key)?,
        }
        write!(f, ": {}", self.reason)
    }
}

/// Longest value that is repeated in an error, in characters.
const VALUE_MAX: usize = 80;

fn printable(value: &str) -> String {
    let mut text: String = value.chars().take(VALUE_MAX).collect();
    if text.len() < value.len() {
        text.push('…');
    }
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Everything that is wrong with a configuration; at least one [`Problem`]. No value is in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong, file first, in the order of the sources.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
