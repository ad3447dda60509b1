//! The files of the repository: what would be in a checkout, without asking git.

use std::io;
use std::path::{Path, PathBuf};

/// Folders that hold what is built, fetched or private. `.gitignore` names the same.
const SKIPPED: [&str; 8] = [
    "target",
    "data",
    "node_modules",
    "corpus",
    "artifacts",
    "__pycache__",
    "venv",
    "dist",
];

/// Folders that begin with a dot and are ours all the same.
const DOTTED: [&str; 3] = [".ci", ".cargo", ".github"];

/// Top folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent()
        .expect("xtask lies one level below the root")
        .to_owned()
}

/// Every file below `root`, sorted, as paths relative to it.
pub(crate) fn list(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![];
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                let is_hidden = name.starts_with('.') && !DOTTED.contains(&name.as_ref());
                if !is_hidden && !SKIPPED.contains(&name.as_ref()) {
                    folders.push(entry.path());
                }
            } else if kind.is_file() && name != ".git" {
                // A linked worktree of git has a file of that name.
                let path = entry.path();
                found.push(
                    path.strip_prefix(root)
                        .expect("found below root")
                        .to_owned(),
                );
            }
        }
    }
    found.sort();
    Ok(found)
}
