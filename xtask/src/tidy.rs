//! House rules that need no compiler. What clippy or rustc can check is theirs (`clippy.toml`,
//! `[workspace.lints]`); here is the rest. Each rule says why in its message.

mod layers;
mod markdown;
mod rust;
mod source;

use std::io;
use std::path::{Path, PathBuf};

use crate::{Outcome, files};
use source::Source;

/// Largest file, in bytes: larger ones make every clone slow for ever.
const FILE_BYTES_MAX: u64 = 512 << 10;
/// Largest image, in bytes.
const IMAGE_BYTES_MAX: u64 = 1 << 20;

/// What was found, by severity.
#[derive(Debug, Default)]
struct Findings {
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn error(&mut self, path: &Path, line: usize, text: impl AsRef<str>) {
        self.errors
            .push(format!("{}:{line}: {}", path.display(), text.as_ref()));
    }

    fn warn(&mut self, path: &Path, line: usize, text: impl AsRef<str>) {
        self.warnings
            .push(format!("{}:{line}: {}", path.display(), text.as_ref()));
    }
}

/// Checks every file below `root`.
pub(crate) fn run(root: &Path) -> io::Result<Outcome> {
    let paths = files::list(root)?;
    let findings = findings(root, &paths)?;
    let is_ok = findings.errors.is_empty();
    let warnings = findings
        .warnings
        .iter()
        .map(|text| format!("warning: {text}"));
    let errors = findings.errors.iter().map(|text| format!("error: {text}"));
    let mut lines: Vec<String> = warnings.chain(errors).collect();
    let (bad, odd) = (findings.errors.len(), findings.warnings.len());
    lines.push(format!(
        "tidy: {} files, {bad} errors, {odd} warnings",
        paths.len()
    ));
    Ok(Outcome { lines, is_ok })
}

fn findings(root: &Path, paths: &[PathBuf]) -> io::Result<Findings> {
    let mut findings = Findings::default();
    for path in paths {
        check_size(root, path, &mut findings)?;
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        if !is_text(path, extension) {
            continue;
        }
        let text = std::fs::read_to_string(root.join(path))?;
        check_markers(path, &text, &mut findings);
        match extension {
            "rs" => {
                let source = Source::new(path, &text);
                rust::check(&source, &mut findings);
                layers::check(&source, &mut findings);
            }
            "md" => markdown::check(root, path, &text, &mut findings),
            _ => {}
        }
    }
    Ok(findings)
}

fn is_text(path: &Path, extension: &str) -> bool {
    const TEXT: [&str; 12] = [
        "rs", "md", "toml", "sh", "js", "mjs", "ts", "py", "html", "yml", "yaml", "css",
    ];
    TEXT.contains(&extension) || path.file_name().is_some_and(|name| name == "Makefile")
}

fn check_size(root: &Path, path: &Path, findings: &mut Findings) -> io::Result<()> {
    let bytes = root.join(path).metadata()?.len();
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    let is_image = ["png", "jpg", "jpeg", "svg", "webp", "gif"].contains(&extension);
    let max = if is_image {
        IMAGE_BYTES_MAX
    } else {
        FILE_BYTES_MAX
    };
    if bytes > max {
        findings.error(
            path,
            1,
            format!("{bytes} bytes, more than {max}: every clone carries it"),
        );
    }
    Ok(())
}

/// Marks of unfinished work. A plan belongs into an issue, where somebody sees it.
fn check_markers(path: &Path, text: &str, findings: &mut Findings) {
    // Put together here, or this file would find itself.
    let markers = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    for (index, line) in text.lines().enumerate() {
        for marker in markers {
            let is_issue = line.contains(&format!("{marker}(#"));
            let is_rule =
                path.ends_with("CONTRIBUTING.md") && line.contains(&format!("`{marker}`"));
            if has_word(line, marker) && !is_issue && !is_rule {
                findings.error(path, index + 1, format!("{marker} without an issue number"));
            }
        }
    }
}

/// Whether `word` stands in `line` with no letter, digit or underscore next to it.
fn has_word(line: &str, word: &str) -> bool {
    find_word(line, word).is_some()
}

fn find_word(line: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = line[..*at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests;
