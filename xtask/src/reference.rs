//! `docs/reference/`: one page per table of the code. Nobody edits these by hand.

mod pages;

use std::io;
use std::path::Path;

use crate::Outcome;

const FOLDER: &str = "docs/reference";

/// A page and what it should hold.
struct Page {
    name: &'static str,
    text: String,
}

/// Writes every page.
pub(crate) fn write(root: &Path) -> io::Result<Outcome> {
    let folder = root.join(FOLDER);
    std::fs::create_dir_all(&folder)?;
    let mut lines = vec![];
    for page in pages::all() {
        std::fs::write(folder.join(page.name), page.text)?;
        lines.push(format!("wrote {FOLDER}/{}", page.name));
    }
    Ok(Outcome { lines, is_ok: true })
}

/// Compares every page with what is there, and looks for pages nobody writes any more.
pub(crate) fn check(root: &Path) -> io::Result<Outcome> {
    let folder = root.join(FOLDER);
    let pages = pages::all();
    let mut lines = vec![];
    for page in &pages {
        let there = std::fs::read_to_string(folder.join(page.name)).unwrap_or_default();
        if there != page.text {
            let line = first_difference(&there, &page.text);
            lines.push(format!(
                "{FOLDER}/{}:{line}: stale; run `cargo xtask reference`",
                page.name
            ));
        }
    }
    for entry in std::fs::read_dir(&folder)? {
        let name = entry?.file_name();
        if !pages.iter().any(|page| name == page.name) {
            let name = name.to_string_lossy();
            lines.push(format!(
                "{FOLDER}/{name}: not written by the code; move it to another folder"
            ));
        }
    }
    let is_ok = lines.is_empty();
    if is_ok {
        lines.push(format!("reference: {} pages match the code", pages.len()));
    }
    Ok(Outcome { lines, is_ok })
}

/// Line, from 1, where two texts begin to differ.
fn first_difference(left: &str, right: &str) -> usize {
    1 + left
        .lines()
        .zip(right.lines())
        .take_while(|(left, right)| left == right)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_pages_match_the_code() {
        let outcome = check(&crate::files::root()).unwrap();
        assert!(outcome.is_ok, "{}", outcome.lines.join("\n"));
    }

    #[test]
    fn a_stale_page_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(folder.path()).unwrap().is_ok);
        assert!(check(folder.path()).unwrap().is_ok);
        let page = folder.path().join(FOLDER).join("options.md");
        let text = std::fs::read_to_string(&page).unwrap();
        std::fs::write(&page, text.replacen("heartbeat", "hartbeat", 1)).unwrap();
        std::fs::write(folder.path().join(FOLDER).join("extra.md"), "# Extra\n").unwrap();
        let outcome = check(folder.path()).unwrap();
        assert!(
            !outcome.is_ok && outcome.lines.len() == 2,
            "{:?}",
            outcome.lines
        );
        assert!(outcome.lines[0].contains("options.md:") && outcome.lines[1].contains("extra.md"));
    }
}
