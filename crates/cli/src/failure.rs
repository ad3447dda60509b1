//! How a subcommand ends when it does not end well: the text, and the exit code.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use gush_hub::config::{ConfigError, Origin};

/// Why a subcommand stops.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It did not work. The text says why and names the option to change. Exit code 1.
    Failed(String),
    /// The arguments make no sense together. Exit code 2.
    Usage(String),
    /// clap's own word: help, version or a usage error.
    Clap(clap::Error),
    /// Whoever read our output has enough. Exit code 0, as for `head`.
    OutputClosed,
}

impl Failure {
    pub(crate) fn failed(text: impl Display) -> Self {
        Self::Failed(text.to_string())
    }

    pub(crate) fn usage(text: impl Display) -> Self {
        Self::Usage(text.to_string())
    }

    /// A configuration that cannot be used: a usage error if a flag's value is wrong, a failure if
    /// the file or the environment is.
    pub(crate) fn config(error: &ConfigError) -> Self {
        let is_value =
            |origin: &Origin| matches!(origin, Origin::Flag(flag) if !flag.starts_with("--config"));
        if error
            .problems
            .iter()
            .any(|problem| is_value(&problem.origin))
        {
            return Self::usage(error);
        }
        Self::failed(error)
    }

    /// An error of writing to stdout.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            return Self::OutputClosed;
        }
        Self::Failed(format!("cannot write to stdout: {error}"))
    }

    /// Says it on stderr and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::OutputClosed => ExitCode::SUCCESS,
            Self::Clap(error) => {
                // Nothing is left to tell a user whose terminal is gone.
                let _ = error.print();
                u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
            }
            Self::Usage(text) => say(&text, 2),
            Self::Failed(text) => say(&text, 1),
        }
    }
}

fn say(text: &str, code: u8) -> ExitCode {
    note(text);
    ExitCode::from(code)
}

/// One line (or more) on stderr, for the person at the terminal. A closed stderr is no reason to
/// stop.
pub(crate) fn note(text: &str) {
    let mut stderr = io::stderr().lock();
    for line in text.lines() {
        let _ = writeln!(stderr, "gush: {line}");
    }
}

/// Writes `text` and a line end to stdout and flushes: a reader at a pipe sees it at once.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    written.map_err(|error| Failure::output(&error))
}
