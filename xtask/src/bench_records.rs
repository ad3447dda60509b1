//! `cargo xtask bench-records`: from the raw data of `make bench-peers` to tables and charts, in
//! the run's folder and between the markers in `README.md`. No figure is typed by hand.

mod charts;
mod runs;
mod scenarios;
mod table;

use std::io;
use std::path::{Path, PathBuf};

use crate::Outcome;
use runs::Run;

/// Where the block in `README.md` begins and ends.
const BEGIN: &str = "<!-- peers:begin -->";
const END: &str = "<!-- peers:end -->";

/// Writes the records of the run in `folder`, or of the newest one.
pub(crate) fn write(root: &Path, folder: Option<&str>) -> io::Result<Outcome> {
    let folder = match folder {
        Some(folder) => root.join(folder),
        None => newest(root)?.ok_or_else(|| io::Error::other("no bench/runs/*-peers"))?,
    };
    let mut lines = vec![];
    for (path, text) in records(root, &folder)? {
        std::fs::write(&path, text)?;
        lines.push(format!("wrote {}", path.display()));
    }
    Ok(Outcome { lines, is_ok: true })
}

/// Fails when a page that was written from the newest run says something else than the run. Charts
/// may be drawn otherwise than when the run was made.
pub(crate) fn check(root: &Path) -> io::Result<Outcome> {
    let Some(folder) = newest(root)? else {
        let lines = vec!["bench-records: no run yet".to_owned()];
        return Ok(Outcome { lines, is_ok: true });
    };
    let mut lines = vec![];
    for (path, text) in records(root, &folder)? {
        let is_page = path.extension().is_some_and(|extension| extension == "md");
        if is_page && std::fs::read_to_string(&path).unwrap_or_default() != text {
            lines.push(format!("stale: {}", path.display()));
        }
    }
    let is_ok = lines.is_empty();
    let word = if is_ok { "match" } else { "do not match" };
    lines.push(format!("bench-records: {word} {}", folder.display()));
    Ok(Outcome { lines, is_ok })
}

/// The folder with the latest date in its name.
fn newest(root: &Path) -> io::Result<Option<PathBuf>> {
    let mut folders = vec![];
    for entry in std::fs::read_dir(root.join("bench/runs"))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with("-peers") {
            folders.push(entry.path());
        }
    }
    Ok(folders.into_iter().max())
}

/// Every file that is written from a run, with its text.
fn records(root: &Path, folder: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let run = Run::read(folder)?;
    let mut records = vec![(folder.join("README.md"), table::page(&run))];
    for (name, chart) in charts::all(&run) {
        records.push((folder.join(name), chart.file()));
    }
    // A trial run elsewhere leaves the front page alone.
    if let Ok(place) = folder.strip_prefix(root) {
        let path = root.join("README.md");
        let text = std::fs::read_to_string(&path)?;
        let block = table::front(&run, &place.display().to_string());
        records.push((path, replace_block(&text, &block)?));
    }
    Ok(records)
}

/// `text` with the lines between the markers replaced.
fn replace_block(text: &str, block: &str) -> io::Result<String> {
    let missing = || io::Error::other(format!("README.md lacks {BEGIN} or {END}"));
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n{block}{END}{after}"))
}

#[cfg(test)]
mod tests;
