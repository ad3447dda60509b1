//! The open files of segments that are no longer written: a few, however many segments there are.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use crate::Offset;
use crate::host::{Host, LogFile};
use crate::lock::lock;
use crate::segment::{file_name, index_name};

/// So many files of sealed segments and of their indexes stay open. Ours: readers of a log in use
/// are near its end, so few are asked for at a time, and opening one costs microseconds; half of
/// the descriptors that the hub keeps for itself.
pub(crate) const OPEN_SEALED_MAX: usize = 64;

/// Which of the two files of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Records,
    Index,
}

/// Where a file is had from.
#[derive(Clone)]
pub(crate) enum Source {
    /// It stays open: it is still written.
    Held(Arc<dyn LogFile>),
    /// It is opened when somebody reads.
    Shared(Arc<Files>, Offset, Part),
}

impl Source {
    /// An error of the kind `NotFound`: the segment was trimmed meanwhile, or somebody else
    /// removed the file.
    pub(crate) fn open(&self) -> io::Result<Arc<dyn LogFile>> {
        match self {
            Self::Held(file) => Ok(Arc::clone(file)),
            Self::Shared(files, base, part) => files.get(*base, *part),
        }
    }

    /// The segment is trimmed: closes its files once nobody reads them.
    pub(crate) fn forget(&self) {
        if let Self::Shared(files, base, _) = self {
            files.forget(*base);
        }
    }
}

/// Opens files when they are asked for and closes the least recently used one. A reader keeps its
/// own reference while it reads.
pub(crate) struct Files {
    pub(crate) host: Arc<dyn Host>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    files: HashMap<(Offset, Part), Used>,
    /// Counts the uses.
    uses: u64,
}

struct Used {
    file: Arc<dyn LogFile>,
    /// The last one.
    at: u64,
}

impl Files {
    pub(crate) fn new(host: Arc<dyn Host>) -> Self {
        Self {
            host,
            open: Mutex::default(),
        }
    }

    /// A file of the segment that begins at `base`.
    pub(crate) fn get(&self, base: Offset, part: Part) -> io::Result<Arc<dyn LogFile>> {
        if let Some(file) = lock(&self.open).find((base, part)) {
            return Ok(file);
        }
        let name = match part {
            Part::Records => file_name(base),
            Part::Index => index_name(base),
        };
        // Outside the lock: two readers may open one file, and the second one's is kept.
        let file = self.host.open(&name)?;
        let replaced = lock(&self.open).keep((base, part), Arc::clone(&file));
        drop(replaced);
        Ok(file)
    }

    /// Closes a segment's files once nobody reads them. While one is open, its space on the disk is
    /// not free.
    fn forget(&self, base: Offset) {
        let mut open = lock(&self.open);
        let closed = [Part::Records, Part::Index].map(|part| open.files.remove(&(base, part)));
        drop(open);
        drop(closed);
    }
}

impl Open {
    fn find(&mut self, key: (Offset, Part)) -> Option<Arc<dyn LogFile>> {
        self.uses += 1;
        let used = self.files.get_mut(&key)?;
        used.at = self.uses;
        Some(Arc::clone(&used.file))
    }

    /// Gives what is to be closed, outside the lock.
    fn keep(&mut self, key: (Offset, Part), file: Arc<dyn LogFile>) -> [Option<Used>; 2] {
        let at = self.uses;
        let replaced = self.files.insert(key, Used { file, at });
        let mut oldest = None;
        if self.files.len() > OPEN_SEALED_MAX {
            let least = self.files.iter().filter(|(other, _)| **other != key);
            let least = least.min_by_key(|(_, used)| used.at).map(|(key, _)| *key);
            oldest = least.and_then(|key| self.files.remove(&key));
        }
        [replaced, oldest]
    }
}
