//! A Rust file, line by line, with its comments and the contents of its texts blanked out, so
//! that rules look at code only.

use std::path::{Path, PathBuf};

/// One file.
pub(super) struct Source {
    /// Relative to the root, with `/`.
    pub(super) path: PathBuf,
    /// As written.
    pub(super) raw: Vec<String>,
    /// The same lines, comments and texts blanked.
    pub(super) code: Vec<String>,
    /// Whether the line belongs to tests.
    pub(super) is_test: Vec<bool>,
}

impl Source {
    pub(super) fn new(path: &Path, text: &str) -> Self {
        let blanked = blank(text);
        let code: Vec<String> = blanked.lines().map(str::to_owned).collect();
        let is_test = if is_test_file(path) {
            vec![true; code.len()]
        } else {
            test_lines(&code)
        };
        let raw = text.lines().map(str::to_owned).collect();
        Self {
            path: path.to_owned(),
            raw,
            code,
            is_test,
        }
    }

    /// Whether the file lies below `folder`.
    pub(super) fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }

    /// Lines of code outside tests, with their numbers from 1.
    pub(super) fn product(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code.iter().zip(&self.is_test).enumerate();
        lines
            .filter(|(_, (_, is_test))| !**is_test)
            .map(|(at, (line, _))| (at + 1, line.as_str()))
    }

    /// All lines of code, with their numbers from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code
            .iter()
            .enumerate()
            .map(|(at, line)| (at + 1, line.as_str()))
    }
}

/// Whether the whole file is test code, or exists for tests only.
fn is_test_file(path: &Path) -> bool {
    let is_test_name = path.file_name().is_some_and(|name| name == "tests.rs");
    let in_folder = path.components().any(|part| {
        ["tests", "benches", "examples"]
            .iter()
            .any(|name| part.as_os_str() == *name)
    });
    let top = ["conformance", "fuzz", "crates/testkit"]
        .iter()
        .any(|top| path.starts_with(top));
    is_test_name || in_folder || top
}

/// Marks `#[cfg(test)] mod … { … }`.
fn test_lines(code: &[String]) -> Vec<bool> {
    let mut marks = vec![false; code.len()];
    let mut at = 0;
    while at < code.len() {
        if code[at].trim() != "#[cfg(test)]" {
            at += 1;
            continue;
        }
        let end = block_end(code, at + 1);
        marks[at..=end].fill(true);
        at = end + 1;
    }
    marks
}

/// The line on which the block or statement that begins at line `from` ends.
pub(super) fn block_end(code: &[String], from: usize) -> usize {
    let (mut depth, mut nested) = (0_i32, 0_i32);
    for (at, line) in code.iter().enumerate().skip(from) {
        for c in line.chars() {
            match c {
                '(' | '[' => nested += 1,
                ')' | ']' => nested -= 1,
                '{' => depth += 1,
                '}' => depth -= 1,
                ';' if depth == 0 && nested == 0 => return at,
                _ => continue,
            }
            if c == '}' && depth == 0 && nested == 0 {
                return at;
            }
        }
    }
    code.len().saturating_sub(1)
}

/// Blanks comments and the contents of texts and characters; line ends stay.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let previous = out.chars().next_back();
        let is_word = previous.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let taken = comment_len(rest)
            .or_else(|| raw_text_len(rest).filter(|_| !is_word))
            .or_else(|| text_len(rest))
            .or_else(|| character_len(rest));
        let Some(taken) = taken else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (gone, after) = rest.split_at(taken);
        out.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = after;
    }
    out
}

fn comment_len(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        let step = if here.starts_with(b"/*") {
            depth += 1;
            2
        } else if here.starts_with(b"*/") {
            depth -= 1;
            2
        } else {
            1
        };
        at += step;
        if depth == 0 {
            return Some(at);
        }
    }
    Some(rest.len())
}

/// `r"…"`, `r#"…"#`, `br#"…"#`, `cr"…"`.
fn raw_text_len(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix("cr"));
    let after = after.or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let close = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(rest.len() - body.len() + close)
}

fn text_len(rest: &str) -> Option<usize> {
    quoted_len(rest, b'"')
}

/// A character, not a lifetime.
fn character_len(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let first = body.chars().next()?;
    if first != '\\' && !body[first.len_utf8()..].starts_with('\'') {
        return None;
    }
    quoted_len(rest, b'\'')
}

fn quoted_len(rest: &str, quote: u8) -> Option<usize> {
    let bytes = rest.as_bytes();
    if bytes.first() != Some(&quote) {
        return None;
    }
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    Some(rest.len())
}
