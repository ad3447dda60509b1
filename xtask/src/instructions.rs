//! How many instructions the hot functions take, against the recorded numbers.
//!
//! A time says something about the machine and its other work; a count says something about the
//! code. It is the same in every run, so that 3 % more are seen in the commit that brings them.

use std::io;
use std::path::Path;

use crate::Outcome;

// Running callgrind.
mod count;

// The recorded numbers, and the comparison with them.
mod record;

use record::{Record, Verdict};

/// Where the numbers stand.
const RECORD: &str = "bench/instructions/record.toml";

/// Counts and compares.
pub(crate) fn check(root: &Path) -> io::Result<Outcome> {
    let record = Record::parse(&std::fs::read_to_string(root.join(RECORD))?)?;
    let environment = count::environment()?;
    let counts = count::all(root)?;
    let mut lines = Vec::new();
    let mut is_ok = true;
    if record.environment == environment {
        for (line, verdict) in record.compare(&counts) {
            lines.push(line);
            is_ok &= verdict != Verdict::Worse;
        }
        if !is_ok {
            lines.push(format!(
                "more than {} % up: make it cheaper, or say why it has to be so with \
                 `cargo xtask instructions --record \"reason\"` in the same commit",
                record::ALLOWANCE_PERCENT
            ));
        }
    } else {
        lines.extend(
            counts
                .iter()
                .map(|(name, count)| format!("{name}: {count}")),
        );
        lines.push(format!(
            "not compared: {RECORD} is of {}; here is {environment}",
            record.environment
        ));
    }
    Ok(Outcome { lines, is_ok })
}

/// Counts and writes the record, with a reason for what has changed.
pub(crate) fn record(root: &Path, reason: &str) -> io::Result<Outcome> {
    if reason.trim().is_empty() {
        return Err(io::Error::other("a change of the record needs a reason"));
    }
    let path = root.join(RECORD);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let environment = count::environment()?;
    let counts = count::all(root)?;
    let (text, changes) = record::write(&text, &environment, &counts, reason)?;
    std::fs::create_dir_all(path.parent().unwrap_or(root))?;
    std::fs::write(&path, text)?;
    let mut lines = changes;
    lines.push(format!("written: {RECORD}"));
    Ok(Outcome { lines, is_ok: true })
}
