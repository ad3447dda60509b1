//! A program at a path that can be made to lead to another one while it runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::Outcome;

/// A link to a program, in a directory that goes with it.
#[derive(Debug)]
pub struct ProgramLink {
    path: PathBuf,
    directory: tempfile::TempDir,
}

impl ProgramLink {
    /// Leads to this program.
    pub fn to(program: &str) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("gush");
        symlink(program, &path)?;
        Ok(Self { path, directory })
    }

    /// What to start.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path beside it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a shell script in the place of the program, at once and whole.
    pub fn replace(&self, script: &str) -> Outcome<()> {
        let new = self.path.with_extension("new");
        fs::write(&new, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&new, Permissions::from_mode(0o755))?;
        fs::rename(&new, &self.path)?;
        Ok(())
    }

    /// Nothing is there any more.
    pub fn remove(&self) -> Outcome<()> {
        Ok(fs::remove_file(&self.path)?)
    }
}
