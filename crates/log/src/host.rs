//! The machine under the disk log: files and the clock, behind traits so that tests can break
//! them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Bytes that can be read at a place.
pub(crate) trait ReadAt {
    /// As `pread`: may give fewer bytes than asked for; 0 only at the end.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
}

/// A file of the log.
pub(crate) trait LogFile: ReadAt + Send + Sync {
    /// As `pwrite`: may take fewer bytes than offered.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    /// As `fdatasync`. After an error nothing is known of what was written since the last
    /// success, and a second call may lie.
    fn sync(&self) -> io::Result<()>;
}

/// One directory and a clock. Names are plain file names.
pub(crate) trait Host: Send + Sync {
    fn names(&self) -> io::Result<Vec<String>>;
    /// A new, empty file; one that has the name is replaced.
    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_names(&self) -> io::Result<()>;
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
}

/// Writes all of `bytes` at `at`.
pub(crate) fn write_all_at(file: &dyn LogFile, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until `buffer` is full or the end is reached; gives the count.
pub(crate) fn read_full_at(
    source: &(impl ReadAt + ?Sized),
    buffer: &mut [u8],
    at: u64,
) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match source.read_at(&mut buffer[count..], at + count as u64) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Reads a whole small file; `None` when there is none, or when it is larger than `bytes_max`.
pub(crate) fn read_small(
    host: &dyn Host,
    name: &str,
    bytes_max: usize,
) -> io::Result<Option<Vec<u8>>> {
    let file = match host.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    let count = read_full_at(&*file, &mut bytes, 0)?;
    bytes.truncate(count);
    Ok(Some(bytes))
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let rest = usize::try_from(at)
            .ok()
            .and_then(|at| self.get(at..))
            .unwrap_or(&[]);
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// A directory of the operating system.
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Host for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // Names that are not text are none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(options.open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(name))?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn now_ms(&self) -> u64 {
        now_ms()
    }
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, at)
    }
}

impl LogFile for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        Self::set_len(self, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The wall clock in milliseconds since 1970; 0 when it stands before that.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
