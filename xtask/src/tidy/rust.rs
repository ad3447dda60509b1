//! Rules for one Rust file: width, length, unsafe, banned names.

use super::source::{Source, block_end};
use super::{Findings, find_word, has_word};

/// Longest line, in characters.
const WIDTH_MAX: usize = 100;
/// Most lines of code in a file, tests apart: past it nobody reads it whole.
const FILE_LINES_MAX: usize = 500;
/// From here on a file should think of splitting.
const FILE_LINES_WARN: usize = 350;
/// Most lines of code in a function, its signature included.
const FUNCTION_LINES_MAX: usize = 70;

/// The one folder of the hub with `unsafe`, and the files elsewhere, each by a decision record.
const UNSAFE_PLACES: [&str; 5] = [
    "crates/hub/src/socket",
    "crates/hub/src/pressure/crowd_gone.rs", // 0030
    "crates/bench/src/descriptors.rs",       // 0011
    "crates/hub/tests/allocations.rs",       // 0021
    "bench/experiments/src/raw.rs",          // not part of the product: bench/experiments/README.md
];

pub(super) fn check(source: &Source, findings: &mut Findings) {
    check_width(source, findings);
    check_length(source, findings);
    check_functions(source, findings);
    check_unsafe(source, findings);
    check_names(source, findings);
}

fn check_width(source: &Source, findings: &mut Findings) {
    for (index, line) in source.raw.iter().enumerate() {
        let width = line.chars().count();
        // rustfmt breaks no text: an address has to stay whole, and a table of test data reads
        // better with long rows.
        let is_data = source.is_test[index] && line.contains('"');
        if width > WIDTH_MAX && !is_data && !line.contains("://") {
            let text = format!("{width} columns, more than {WIDTH_MAX}");
            findings.error(&source.path, index + 1, text);
        }
    }
}

fn check_length(source: &Source, findings: &mut Findings) {
    let count = source
        .product()
        .filter(|(_, line)| !line.trim().is_empty())
        .count();
    if count > FILE_LINES_MAX {
        findings.error(
            &source.path,
            1,
            format!("{count} lines of code, more than {FILE_LINES_MAX}"),
        );
    } else if count > FILE_LINES_WARN {
        findings.warn(
            &source.path,
            1,
            format!("{count} lines of code, more than {FILE_LINES_WARN}"),
        );
    }
}

fn check_functions(source: &Source, findings: &mut Findings) {
    for (number, line) in source.product() {
        let Some(at) = find_word(line, "fn") else {
            continue;
        };
        let name: String = line[at + 2..]
            .trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        // A type such as `fn(&str)`, not a function.
        if name.is_empty() {
            continue;
        }
        let end = block_end(&source.code, number - 1);
        let body = &source.code[number - 1..=end];
        let count = body.iter().filter(|line| !line.trim().is_empty()).count();
        if count > FUNCTION_LINES_MAX {
            let text = format!("fn {name}: {count} lines of code, more than {FUNCTION_LINES_MAX}");
            findings.error(&source.path, number, text);
        }
    }
}

fn check_unsafe(source: &Source, findings: &mut Findings) {
    for (number, line) in source.lines().filter(|(_, line)| has_word(line, "unsafe")) {
        if !UNSAFE_PLACES.iter().any(|place| source.is_in(place)) {
            findings.error(
                &source.path,
                number,
                format!("unsafe outside {}", UNSAFE_PLACES.join(", ")),
            );
        } else if !has_safety_comment(&source.raw, number - 1) && !line.contains("unsafe_") {
            findings.error(
                &source.path,
                number,
                "unsafe without a // SAFETY: that says why it holds",
            );
        }
    }
}

/// Whether the line or the comment right above it has `SAFETY:`.
fn has_safety_comment(raw: &[String], at: usize) -> bool {
    let above = raw[..at].iter().rev().take_while(|line| {
        let line = line.trim_start();
        line.starts_with("//") || line.starts_with("#[")
    });
    raw[at..=at]
        .iter()
        .chain(above)
        .any(|line| line.contains("SAFETY:"))
}

fn check_names(source: &Source, findings: &mut Findings) {
    // Put together here, or this file would find itself.
    let anywhere = [
        (
            concat!("unboun", "ded"),
            "every queue has a named bound and a named behaviour at it",
        ),
        (concat!("to", "do!"), "finish it, or open an issue"),
        (concat!("unimplemen", "ted!"), "finish it, or open an issue"),
        (concat!("db", "g!"), "left over from looking for something"),
    ];
    let ignored = concat!("#[ig", "nore");
    for (number, line) in source.lines() {
        for (name, why) in anywhere {
            if line.contains(name) {
                findings.error(&source.path, number, format!("{name} is banned: {why}"));
            }
        }
        if line.contains(ignored) {
            let text = "an ignored test is no test: make it pass or remove it";
            findings.error(&source.path, number, text);
        }
    }
    let is_library = ["crates/sse", "crates/log", "crates/hub"]
        .iter()
        .any(|top| source.is_in(top));
    for (number, line) in source.product().filter(|_| is_library) {
        for name in ["println!", "eprintln!", "print!", "eprint!"] {
            if has_word(line, name.trim_end_matches('!')) && line.contains(name) {
                let text = format!("{name} in a library: return it, or use tracing");
                findings.error(&source.path, number, text);
            }
        }
    }
}
