//! A log on a disk of this machine: what was answered is still there after a crash.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::catalog::Catalog;
use crate::committer::{Committer, Sealing};
use crate::files::Files;
use crate::hash::hash_id;
use crate::host::{Directory, Host};
use crate::intake::{Answer, Gathering, Intake, IntakeLimits, Pending};
use crate::lock::{lock, read};
use crate::record::{RECORD_BYTES_MAX, Raw, record_len};
use crate::recovery::{self, Opened};
use crate::report::Recovery;
use crate::segment::{HEADER_BYTES, Segment};
use crate::{
    AppendError, AppendErrorKind, BatchReply, Bounds, Draft, Flow, Located, Log, Offset, ReadEnd,
    ReadError, ReadLimit, RecordRef, Reply, Tail,
};

/// When written events are forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before they become visible and before the publisher gets its answer; what waits meanwhile
    /// shares the next sync.
    Batch,
    /// This often. A power loss may take events that were answered and delivered.
    Interval(Duration),
    /// Never, but at a clean close. As `Interval`, with no bound.
    Off,
}

impl fmt::Display for Sync {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch => out.write_str("batch"),
            Self::Interval(interval) => write!(out, "{interval:?}"),
            Self::Off => out.write_str("off"),
        }
    }
}

/// How a [`DiskLog`] keeps its events.
///
/// The three retentions are each a reason of their own to trim the oldest segments; `None` is
/// none. Only whole segments are trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// When events are durable.
    pub sync: Sync,
    /// A segment is ended before it grows beyond this; 1 to [`Self::SEGMENT_BYTES_MAX`]. Where
    /// `retention_bytes` is below four times this, a quarter of it counts instead.
    pub segment_bytes: u64,
    /// A segment is ended before it holds more events than this; at least 1.
    pub segment_events: u32,
    /// At most this much disk is used for segments and their index files. A single event larger
    /// than a quarter of it may go beyond.
    pub retention_bytes: Option<u64>,
    /// Events older than this are trimmed, up to an eighth of it late.
    pub retention_age: Option<Duration>,
    /// The oldest events are trimmed as long as at least this many stay.
    pub retention_events: Option<u64>,
    /// How many events may wait for the disk; the next is answered [`AppendErrorKind::Busy`].
    pub waiting_events_max: usize,
    /// How many bytes of records may wait for the disk; likewise.
    pub waiting_bytes_max: usize,
}

impl DiskConfig {
    /// The largest segment, inclusive: with the largest record behind it every place in it still
    /// fits 32 bits.
    pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            sync: Sync::Batch,
            // Ours: a scan after a crash takes well under a second, and 64 of them fill the
            // default retention.
            segment_bytes: 64 << 20,
            segment_events: 262_144,
            retention_bytes: Some(4 << 30),
            retention_age: None,
            retention_events: None,
            // Ours: sixteen batches; a publisher that waits longer is better told.
            waiting_events_max: 65_536,
            waiting_bytes_max: 64 << 20,
        }
    }
}

/// One batch: what one write and one sync take. Ours: beyond this the time of a sync no longer
/// matters against the time of the write.
const BATCH_EVENTS_MAX: usize = 4096;
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Why a directory could not be opened as a log.
#[derive(Debug)]
pub enum OpenError {
    /// Another process (or this one) has it open.
    InUse {
        /// The directory.
        path: PathBuf,
        /// The holder's process id, when it could be read.
        pid: Option<u32>,
    },
    /// A setting is out of its range.
    Config(String),
    /// The disk or the file system refused.
    Io {
        /// The directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse {
                path,
                pid: Some(pid),
            } => {
                write!(out, "the log {} is in use by process {pid}", path.display())
            }
            Self::InUse { path, pid: None } => {
                write!(
                    out,
                    "the log {} is in use by another process",
                    path.display()
                )
            }
            Self::Config(text) => out.write_str(text),
            Self::Io { path, source } => {
                write!(out, "the log {} cannot be opened: {source}", path.display())
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A durable log in a directory.
///
/// One thread writes; readers use the page cache and no lock for longer than a look at an index.
/// However many segments there are, at most 64 files of those no longer written stay open, and
/// those that readers are in. Dropping it closes it as [`Log::close`] does.
pub struct DiskLog {
    shared: Arc<Shared>,
    /// Taken by the one that closes.
    committer: Mutex<Option<JoinHandle<Result<(), AppendError>>>>,
}

/// What readers, publishers and the committer share.
pub(crate) struct Shared {
    pub(crate) host: Arc<dyn Host>,
    /// Those of sealed segments.
    pub(crate) files: Arc<Files>,
    /// The directory, for people.
    pub(crate) place: String,
    pub(crate) intake: Intake,
    pub(crate) catalog: RwLock<Catalog>,
    pub(crate) tail: OnceLock<Arc<dyn Tail>>,
    /// Why the last append failed.
    pub(crate) failure: Mutex<Option<String>>,
    sync: Sync,
}

impl DiskLog {
    /// Opens or creates the log in `dir` and says what was found. Blocks: after an unclean end
    /// the newest segment is read.
    ///
    /// # Errors
    ///
    /// [`OpenError`]. A torn or damaged log is none: it is opened and reported.
    pub fn open(dir: impl AsRef<Path>, config: DiskConfig) -> Result<(Self, Recovery), OpenError> {
        let config = checked(config)?;
        let path = dir.as_ref();
        let io_error = |source| OpenError::Io {
            path: path.to_path_buf(),
            source,
        };
        create_dir(path).map_err(io_error)?;
        let lock_file = take_lock(path)?;
        let host: Arc<dyn Host> = Arc::new(Directory::new(path.to_path_buf()));
        let (log, committer, recovery) =
            Self::open_on(host, path.display().to_string(), config, Sealing::Aside)
                .map_err(io_error)?;
        let thread = thread::Builder::new().name("gush-log".into());
        let run = move || {
            // The directory is taken until the last byte is written.
            let _lock_file = lock_file;
            committer.run()
        };
        *lock(&log.committer) = Some(thread.spawn(run).map_err(io_error)?);
        Ok((log, recovery))
    }

    /// Opens on any host; the caller runs the committer.
    pub(crate) fn open_on(
        host: Arc<dyn Host>,
        place: String,
        config: DiskConfig,
        sealing: Sealing,
    ) -> io::Result<(Self, Committer, Recovery)> {
        let files = Arc::new(Files::new(Arc::clone(&host)));
        let Opened {
            catalog,
            active,
            recovery,
        } = recovery::open(&files)?;
        let limits = IntakeLimits {
            waiting_events: config.waiting_events_max,
            waiting_bytes: config.waiting_bytes_max,
            batch_events: BATCH_EVENTS_MAX.min(config.segment_events as usize),
            batch_bytes: usize::try_from(config.segment_bytes)
                .map_or(BATCH_BYTES_MAX, |bytes| BATCH_BYTES_MAX.min(bytes)),
        };
        let shared = Arc::new(Shared {
            host,
            files,
            place,
            intake: Intake::new(limits),
            catalog: RwLock::new(catalog),
            tail: OnceLock::new(),
            failure: Mutex::new(None),
            sync: config.sync,
        });
        let committer = Committer::new(Arc::clone(&shared), config, sealing, active);
        let log = Self {
            shared,
            committer: Mutex::new(None),
        };
        Ok((log, committer, recovery))
    }

    fn read_error(&self, error: &io::Error) -> ReadError {
        ReadError {
            detail: format!("{}: {error}", self.shared.place),
        }
    }
}

impl Shared {
    fn snapshot(&self) -> (Arc<Vec<Arc<Segment>>>, Offset, Offset) {
        let catalog = read(&self.catalog);
        (Arc::clone(&catalog.segments), catalog.first(), catalog.next)
    }
}

impl Log for DiskLog {
    fn append(&self, draft: Draft, reply: Reply) {
        let answer = Answer::alone(reply);
        match record_len(&draft) {
            Some(bytes) => self.shared.intake.push([Pending {
                draft,
                bytes,
                answer,
            }]),
            None => answer.refused(too_large()),
        }
    }

    fn append_batch(&self, drafts: Vec<Draft>, reply: BatchReply) {
        if drafts.is_empty() {
            return reply(Vec::new());
        }
        let answers = Gathering::answers(drafts.len(), reply);
        let mut refused = Vec::new();
        let waiting = drafts
            .into_iter()
            .zip(answers)
            .filter_map(|(draft, answer)| {
                let Some(bytes) = record_len(&draft) else {
                    refused.push(answer);
                    return None;
                };
                Some(Pending {
                    draft,
                    bytes,
                    answer,
                })
            });
        self.shared.intake.push(waiting);
        for answer in refused {
            answer.refused(too_large());
        }
    }

    fn set_waiting_max(&self, events: usize, bytes: usize) {
        self.shared.intake.set_waiting_max(events, bytes);
    }

    fn waiting(&self) -> (usize, usize) {
        self.shared.intake.waiting()
    }

    fn set_tail(&self, tail: Arc<dyn Tail>) {
        // A second tail is a fault of the caller; the first one stays.
        let _ = self.shared.tail.set(tail);
    }

    fn bounds(&self) -> Bounds {
        read(&self.shared.catalog).bounds()
    }

    fn locate(&self, id: &str) -> Located {
        read(&self.shared.catalog).locate(id)
    }

    fn search(&self, id: &str) -> Result<Option<Offset>, ReadError> {
        let hash = hash_id(id);
        let (segments, _, next) = self.shared.snapshot();
        for segment in segments.iter() {
            let found = segment
                .find_own(hash, id)
                .map_err(|error| self.read_error(&error))?;
            if let Some(offset) = found.filter(|offset| *offset < next) {
                return Ok(Some(offset.plus(1)));
            }
        }
        Ok(None)
    }

    fn read(
        &self,
        from: Offset,
        limit: ReadLimit,
        visit: &mut dyn FnMut(&RecordRef<'_>) -> Flow,
    ) -> Result<ReadEnd, ReadError> {
        let (segments, first, next) = self.shared.snapshot();
        let mut reading = Reading {
            end: ReadEnd {
                next: from,
                lost: 0,
            },
            limit,
            visit,
            is_done: false,
        };
        reading.skip_to(first);
        let start = segments.partition_point(|segment| segment.header.base <= reading.end.next);
        let rest = &segments[start.saturating_sub(1)..];
        for (index, segment) in rest.iter().enumerate() {
            if reading.end.next >= next {
                break;
            }
            let lost_before = reading.end.lost;
            segment
                .walk(reading.end.next, next, &mut |raw| reading.take(raw))
                .map_err(|error| self.read_error(&error))?;
            if !reading.is_done {
                // What should have been here and was not is damaged.
                reading.skip_to(
                    rest.get(index + 1)
                        .map_or(next, |after| after.header.base.min(next)),
                );
            }
            if reading.end.lost > lost_before {
                segment.tell_damage(reading.end.lost - lost_before);
            }
            if reading.is_done {
                break;
            }
        }
        Ok(reading.end)
    }

    fn writable(&self) -> Result<(), String> {
        lock(&self.shared.failure).clone().map_or(Ok(()), Err)
    }

    fn close(&self) -> Result<(), AppendError> {
        // The second caller waits for the first one.
        let mut committer = lock(&self.committer);
        let Some(committer) = committer.take() else {
            return Ok(());
        };
        self.shared.intake.close();
        if committer.thread().id() == thread::current().id() {
            // A reply held the last reference: the thread cannot wait for itself. It ends, and
            // closes the log, once it is back.
            return Ok(());
        }
        let closed = committer.join().unwrap_or_else(|_| {
            Err(AppendError {
                kind: AppendErrorKind::Failed,
                detail: format!("{}: the log's thread panicked", self.shared.place),
            })
        });
        *lock(&self.shared.failure) = Some(format!("{}: closed", self.shared.place));
        closed
    }

    fn describe(&self) -> String {
        format!("disk {}, sync={}", self.shared.place, self.shared.sync)
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the log was not closed cleanly");
        }
    }
}

fn too_large() -> AppendError {
    AppendError {
        kind: AppendErrorKind::TooLarge,
        detail: format!("a record takes at most {RECORD_BYTES_MAX} bytes"),
    }
}

/// A read under way.
struct Reading<'a> {
    end: ReadEnd,
    limit: ReadLimit,
    visit: &'a mut dyn FnMut(&RecordRef<'_>) -> Flow,
    is_done: bool,
}

impl Reading<'_> {
    fn take(&mut self, Raw { record, bytes }: &Raw<'_>) -> std::ops::ControlFlow<()> {
        self.skip_to(record.offset());
        let flow = (self.visit)(record);
        if flow == Flow::StopBefore {
            self.is_done = true;
            return std::ops::ControlFlow::Break(());
        }
        self.end.next = record.offset().plus(1);
        self.limit.events_max = self.limit.events_max.saturating_sub(1);
        self.limit.bytes_max = self.limit.bytes_max.saturating_sub(*bytes);
        if flow == Flow::Stop || self.limit.events_max == 0 || self.limit.bytes_max == 0 {
            self.is_done = true;
            return std::ops::ControlFlow::Break(());
        }
        std::ops::ControlFlow::Continue(())
    }

    /// Events up to `offset` are not there.
    fn skip_to(&mut self, offset: Offset) {
        self.end.lost += offset.since(self.end.next);
        self.end.next = self.end.next.max(offset);
    }
}

fn checked(config: DiskConfig) -> Result<DiskConfig, OpenError> {
    let refuse = |text: String| Err(OpenError::Config(text));
    if !(1..=DiskConfig::SEGMENT_BYTES_MAX).contains(&config.segment_bytes) {
        let most = DiskConfig::SEGMENT_BYTES_MAX;
        return refuse(format!("segment_bytes must be 1 to {most}"));
    }
    if config.segment_events == 0 {
        return refuse("segment_events must be at least 1".into());
    }
    if config.waiting_events_max == 0 || config.waiting_bytes_max == 0 {
        return refuse("waiting_events_max and waiting_bytes_max must be at least 1".into());
    }
    if matches!(config.sync, Sync::Interval(interval) if interval.is_zero()) {
        return refuse("a sync interval of 0 is sync=batch; say that".into());
    }
    let quarter = config
        .retention_bytes
        .map_or(u64::MAX, |most| most / 4)
        .max(HEADER_BYTES);
    Ok(DiskConfig {
        segment_bytes: config.segment_bytes.min(quarter),
        ..config
    })
}

/// Creates the directory and those above it, durably: a power loss must not take a log with its
/// directory.
fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    create_dir(above)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(above)?.sync_all()
}

/// Takes the directory for this process, for as long as the file is open.
fn take_lock(path: &Path) -> Result<File, OpenError> {
    let io_error = |source| OpenError::Io {
        path: path.to_path_buf(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(path.join("LOCK")).map_err(io_error)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            // At most the digits of a process id are of interest.
            let mut text = String::new();
            let _ = file.take(20).read_to_string(&mut text);
            return Err(OpenError::InUse {
                path: path.to_path_buf(),
                pid: text.trim().parse().ok(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(io_error(source)),
    }
    file.set_len(0).map_err(io_error)?;
    writeln!(file, "{}", std::process::id()).map_err(io_error)?;
    Ok(file)
}

#[cfg(test)]
mod tests;
