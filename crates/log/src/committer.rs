//! The one thread that writes the disk log: everything that waits goes into one write and one
//! sync.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::catalog::LastId;
use crate::clean::Clean;
use crate::disk::{DiskConfig, Shared, Sync};
use crate::files::Files;
use crate::hash::hash_id;
use crate::host::write_all_at;
use crate::intake::Pending;
use crate::lock::{lock, read, write};
use crate::record::{self, Stamp};
use crate::segment::{Header, Segment};
use crate::{AppendError, AppendErrorKind, Epoch, Offset, Position};

/// How often retention by age is looked at. Ours: whole segments are trimmed, so seconds do not
/// matter.
const TICK: Duration = Duration::from_secs(10);

/// How often a disk that failed is tried again when nobody publishes. Ours: load balancers ask
/// about as often whether the hub is ready, and a write of [`PROBE_BYTES`] a second costs nothing.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What a try writes: a block of common file systems, so that a disk with only the rest of a
/// block left does not pass.
const PROBE_BYTES: usize = 4096;

/// The write buffer keeps at most this between batches.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// Where sealing (sorting and writing an index file) is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealing {
    /// On a thread of its own: publishers do not wait for it.
    Aside,
    /// As if no thread could be made, so at once: every run of a test does the same.
    #[cfg(test)]
    Inline,
}

pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: DiskConfig,
    sealing: Sealing,
    /// The segment that is written; none before the first append and after a roll.
    pub(crate) active: Option<Arc<Segment>>,
    buffer: Vec<u8>,
    /// Something visible is not synced (never with [`Sync::Batch`]).
    is_dirty: bool,
    /// The segment that is being sealed, and the thread that does it.
    sealer: Option<(Offset, JoinHandle<bool>)>,
    /// `false`: a sealed segment could not be synced, so the log cannot be called clean.
    is_sealed_well: bool,
}

impl Committer {
    pub(crate) const fn new(
        shared: Arc<Shared>,
        config: DiskConfig,
        sealing: Sealing,
        active: Option<Arc<Segment>>,
    ) -> Self {
        Self {
            shared,
            config,
            sealing,
            active,
            buffer: Vec::new(),
            is_dirty: false,
            sealer: None,
            is_sealed_well: true,
        }
    }

    /// Works until the intake is closed and empty, then closes the log cleanly.
    pub(crate) fn run(mut self) -> Result<(), AppendError> {
        let shared = Arc::clone(&self.shared);
        // Also when a tail or a reply panics: nobody waits for an answer for ever.
        let _guard = AbandonAtExit(&shared);
        let mut batch = Vec::new();
        let mut next_tick = Instant::now();
        let mut sync_due: Option<Instant> = None;
        let mut probe_due: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if now >= next_tick {
                self.tick();
                next_tick = now + TICK;
            }
            if sync_due.is_some_and(|due| now >= due) {
                self.sync_visible();
                sync_due = None;
            }
            if probe_due.is_some_and(|due| now >= due) {
                self.probe();
                probe_due = None;
            }
            if lock(&shared.failure).is_none() {
                probe_due = None;
            } else {
                probe_due.get_or_insert_with(|| Instant::now() + PROBE_EVERY);
            }
            let dues = [Some(next_tick), sync_due, probe_due];
            let wake = dues.into_iter().flatten().min().unwrap_or(next_tick);
            if shared
                .intake
                .take(&mut batch, wake.saturating_duration_since(now))
            {
                break;
            }
            if !batch.is_empty() {
                let is_crowd = batch.len() > 1;
                self.commit(&mut batch);
                if is_crowd {
                    // Those who were answered are about to send their next events. Where they have
                    // to be read by this core, that goes first: else each batch has only what came
                    // during a sync, and syncs are what costs. With a core free this returns at
                    // once, and who publishes alone waits for nobody.
                    thread::yield_now();
                }
            }
            if let Sync::Interval(interval) = self.config.sync
                && self.is_dirty
            {
                sync_due.get_or_insert_with(|| Instant::now() + interval);
            }
        }
        self.finish()
    }

    /// Stores a batch, shows it, answers it; or answers why not.
    pub(crate) fn commit(&mut self, batch: &mut Vec<Pending>) {
        match self.store(batch) {
            Ok(stored) => self.publish(batch, &stored),
            Err(error) => {
                *lock(&self.shared.failure) = Some(error.to_string());
                self.reply(batch.drain(..), |pending| {
                    pending.answer.refused(error.clone());
                });
            }
        }
    }

    /// Answers many, through the tail.
    fn reply<T>(&self, mut many: impl Iterator<Item = T>, answer: impl Fn(T)) {
        let mut reply_all = || many.by_ref().for_each(&answer);
        if let Some(tail) = self.shared.tail.get() {
            tail.replying(&mut reply_all);
        }
        // A tail that has not called it keeps nobody waiting.
        reply_all();
    }

    fn store(&mut self, batch: &[Pending]) -> Result<Stored, AppendError> {
        let time_ms = self.shared.host.now_ms();
        let bytes: usize = batch.iter().map(|pending| pending.bytes).sum();
        let segment = self
            .active_for(bytes as u64, batch.len() as u64, time_ms)
            .map_err(|error| self.append_error("a new segment", &error))?;
        let (at, first) = segment.inspect(|body| (body.end_bytes, body.next));
        self.buffer.clear();
        self.buffer.reserve(bytes);
        for (offset, pending) in (first.as_u64()..).zip(batch) {
            let offset = Offset::from_u64(offset);
            record::encode(
                segment.header.stamp,
                offset,
                time_ms,
                &pending.draft,
                &mut self.buffer,
            );
        }
        let file = segment
            .file()
            .map_err(|error| self.append_error("open", &error))?;
        let written = write_all_at(&*file, &self.buffer, at);
        self.buffer.shrink_to(KEPT_BYTES_MAX);
        if let Err(error) = written {
            self.cut_back(&segment, at);
            return Err(self.append_error("write", &error));
        }
        if self.config.sync == Sync::Batch {
            if let Err(error) = file.sync() {
                self.give_up();
                return Err(self.append_error("sync", &error));
            }
        } else {
            self.is_dirty = true;
        }
        Ok(Stored {
            segment,
            first,
            time_ms,
        })
    }

    /// Takes a write that failed back. What was half written must not come back after a crash
    /// either, so the cut is synced; from then on the segment is as if nothing had been tried.
    fn cut_back(&mut self, segment: &Segment, at: u64) {
        let cut = segment
            .file()
            .and_then(|file| file.set_len(at).and_then(|()| file.sync()));
        if cut.is_err() {
            self.give_up();
        }
    }

    /// After a failure: finds out whether the disk takes bytes again. A hub that is not ready gets
    /// no publishes, so no append would ever tell.
    pub(crate) fn probe(&mut self) {
        if lock(&self.shared.failure).is_none() {
            return;
        }
        let failure = self.try_probe().err().map(|error| error.to_string());
        if failure.is_none() {
            tracing::info!("the event log can be written again");
        }
        *lock(&self.shared.failure) = failure;
    }

    fn try_probe(&mut self) -> Result<(), AppendError> {
        let now_ms = self.shared.host.now_ms();
        let segment = self
            .active_for(0, 0, now_ms)
            .map_err(|error| self.append_error("a new segment", &error))?;
        let file = segment
            .file()
            .map_err(|error| self.append_error("open", &error))?;
        let at = segment.inspect(|body| body.end_bytes);
        if let Err(error) = write_all_at(&*file, &[0; PROBE_BYTES], at) {
            self.cut_back(&segment, at);
            return Err(self.append_error("write", &error));
        }
        // Not synced: zero bytes that a crash brings back are no record, so recovery cuts them.
        let taken_back = file.sync().and_then(|()| file.set_len(at));
        taken_back.map_err(|error| {
            self.give_up();
            self.append_error("sync", &error)
        })
    }

    fn publish(&self, batch: &mut Vec<Pending>, stored: &Stored) {
        let Stored {
            segment,
            first,
            time_ms,
        } = stored;
        let Header { base, epoch, .. } = segment.header;
        let mut has_own_ids = false;
        segment.change(|body| {
            for pending in &*batch {
                let hash = pending.draft.id.as_ref().map(|id| hash_id(id.as_str()));
                has_own_ids |= hash.is_some();
                body.note(base, pending.bytes, *time_ms, hash);
            }
        });
        let positions = (first.as_u64()..).map(|offset| Position {
            epoch,
            offset: Offset::from_u64(offset),
        });
        let Some((newest, position)) = batch.iter().zip(positions.clone()).last() else {
            return;
        };
        let last_id = match &newest.draft.id {
            Some(id) => LastId::Own(id.as_str().into()),
            None => LastId::Generated(position),
        };
        {
            let mut catalog = write(&self.shared.catalog);
            catalog.next = position.offset.plus(1);
            catalog.last_id = Some(last_id);
            catalog.has_own_ids |= has_own_ids;
        }
        if let Some(tail) = self.shared.tail.get() {
            let placed = batch.iter().zip(positions.clone());
            let mut events = placed.map(|(pending, at)| pending.draft.as_record(at, *time_ms));
            tail.committed(&mut events);
        }
        *lock(&self.shared.failure) = None;
        self.reply(batch.drain(..).zip(positions), |(pending, position)| {
            pending.answer.stored(position, pending.draft.id);
        });
    }

    /// The segment that takes `bytes` and `events` more; begins one where needed.
    fn active_for(&mut self, bytes: u64, events: u64, now_ms: u64) -> io::Result<Arc<Segment>> {
        if let Some(active) = &self.active {
            let is_full = active.inspect(|body| {
                let held = body.next.since(active.header.base);
                let is_over = body.end_bytes + bytes > self.config.segment_bytes
                    || held + events > u64::from(self.config.segment_events);
                held > 0 && (is_over || self.is_old(body.first_ms, now_ms))
            });
            if !is_full {
                return Ok(Arc::clone(active));
            }
            self.roll();
        }
        // A quarter more for the index file: with it, and once this segment is full, the log still
        // keeps to its bound.
        let reserve = self.config.segment_bytes.max(bytes);
        self.trim(reserve + reserve / 4, now_ms);
        self.begin(now_ms)
    }

    pub(crate) fn begin(&mut self, now_ms: u64) -> io::Result<Arc<Segment>> {
        let header = {
            let catalog = read(&self.shared.catalog);
            Header {
                base: catalog.next,
                epoch: catalog.epoch,
                epoch_before: catalog.epoch_before_next(),
                time_ms: now_ms,
                stamp: Stamp::random(),
            }
        };
        let is_synced = self.config.sync != Sync::Off;
        let segment = Arc::new(Segment::create(&*self.shared.host, header, is_synced)?);
        write(&self.shared.catalog).push(Arc::clone(&segment));
        self.active = Some(Arc::clone(&segment));
        Ok(segment)
    }

    /// A segment is rolled at an eighth of the age, so that age is kept to about that.
    pub(crate) fn is_old(&self, first_ms: u64, now_ms: u64) -> bool {
        self.config
            .retention_age
            .is_some_and(|age| u128::from(now_ms.saturating_sub(first_ms)) >= age.as_millis() / 8)
    }

    /// Ends the active segment; the next append begins another.
    pub(crate) fn roll(&mut self) {
        self.sync_visible();
        if let Some(segment) = self.active.take() {
            self.seal(&segment);
        }
    }

    fn seal(&mut self, segment: &Arc<Segment>) {
        self.join_sealer();
        let base = segment.header.base;
        // With `Off` nothing else ever syncs a sealed segment, but a clean close claims it is.
        let must_sync = self.config.sync == Sync::Off;
        let spawned = match self.sealing {
            Sealing::Aside => {
                let files = Arc::clone(&self.shared.files);
                let segment = Arc::clone(segment);
                let thread = thread::Builder::new().name("gush-log-seal".into());
                thread.spawn(move || seal_file(&files, &segment, must_sync))
            }
            #[cfg(test)]
            Sealing::Inline => Err(io::ErrorKind::WouldBlock.into()),
        };
        match spawned {
            Ok(handle) => self.sealer = Some((base, handle)),
            Err(error) => {
                tracing::debug!(%error, "no thread to seal a segment; publishers wait for it");
                self.is_sealed_well &= seal_file(&self.shared.files, segment, must_sync);
            }
        }
    }

    /// Waits for the sealing of a segment before `first`.
    pub(crate) fn join_sealer_before(&mut self, first: Offset) {
        if self.sealer.as_ref().is_some_and(|(base, _)| *base < first) {
            self.join_sealer();
        }
    }

    fn join_sealer(&mut self) {
        if let Some((_, sealer)) = self.sealer.take() {
            self.is_sealed_well &= sealer.join().unwrap_or(false);
        }
    }

    /// Syncs what is visible and not yet synced.
    pub(crate) fn sync_visible(&mut self) {
        if !self.is_dirty || self.config.sync == Sync::Off {
            return;
        }
        self.is_dirty = false;
        let Some(active) = &self.active else { return };
        if let Err(error) = active.file().and_then(|file| file.sync()) {
            let error = self.append_error("sync", &error);
            tracing::error!(%error, "events that were answered may not survive a crash");
            *lock(&self.shared.failure) = Some(error.to_string());
            self.give_up();
        }
    }

    /// Writes no more to the active segment: after a failed sync nobody knows what the disk has.
    /// What is visible stays readable; new events get a new epoch, since offsets that were given
    /// to events that are not visible are given out again.
    fn give_up(&mut self) {
        let Some(segment) = self.active.take() else {
            return;
        };
        self.is_dirty = false;
        let (end_bytes, records) = segment.inspect(|body| (body.end_bytes, body.records));
        // Best effort: what stays behind is left of by the base of the next segment.
        let cut = segment.file().and_then(|file| file.set_len(end_bytes));
        let name = segment.header.file_name();
        tracing::error!(
            name,
            is_cut = cut.is_ok(),
            "segment given up after a failed write"
        );
        let epoch = self.fresh_epoch();
        let mut catalog = write(&self.shared.catalog);
        if records == 0 {
            catalog.pop();
        }
        catalog.begin_epoch(epoch);
        drop(catalog);
        if records == 0 {
            // Best effort: the next segment has the same name and replaces it.
            let _ = self.shared.host.remove(&name);
        } else {
            self.seal(&segment);
        }
    }

    fn fresh_epoch(&self) -> Epoch {
        let now_ms = self.shared.host.now_ms();
        let catalog = read(&self.shared.catalog);
        loop {
            let epoch = Epoch::begin(now_ms);
            if !catalog.knows(epoch) {
                return epoch;
            }
        }
    }

    /// Syncs, files the active segment's index and leaves the mark of a clean close.
    pub(crate) fn finish(&mut self) -> Result<(), AppendError> {
        self.join_sealer();
        let done = self.try_finish();
        done.map_err(|error| self.append_error("close", &error))
    }

    fn try_finish(&mut self) -> io::Result<()> {
        let host = &*self.shared.host;
        if let Some(active) = &self.active {
            active.file()?.sync()?;
            active.file_index(&self.shared.files)?;
        }
        if !self.is_sealed_well {
            return Err(io::Error::other("a sealed segment could not be synced"));
        }
        let clean = {
            let catalog = read(&self.shared.catalog);
            let last = catalog.segments.last();
            Clean {
                epoch: catalog.epoch,
                next: catalog.next,
                last_base: last.map(|segment| segment.header.base),
                last_bytes: last.map_or(0, |segment| segment.inspect(|body| body.end_bytes)),
                is_last_active: self.active.is_some(),
            }
        };
        clean.write(host)
    }

    fn append_error(&self, what: &str, error: &io::Error) -> AppendError {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => AppendErrorKind::Full,
            _ => AppendErrorKind::Failed,
        };
        AppendError {
            kind,
            detail: format!("{}: {what}: {error}", self.shared.place),
        }
    }
}

/// Writes the index file of a segment that is no longer written and closes its file; `false` when
/// the segment had to be synced and was not.
fn seal_file(files: &Arc<Files>, segment: &Segment, must_sync: bool) -> bool {
    if let Err(error) = segment.file_index(files) {
        // The ids stay in memory, and the next open makes the file.
        tracing::warn!(%error, name = segment.header.index_name(), "no index file");
    }
    let is_synced = !must_sync || segment.file().and_then(|file| file.sync()).is_ok();
    segment.share(files);
    is_synced
}

/// A batch on the disk that is not visible yet.
struct Stored {
    segment: Arc<Segment>,
    first: Offset,
    time_ms: u64,
}

struct AbandonAtExit<'a>(&'a Shared);

impl Drop for AbandonAtExit<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            *lock(&self.0.failure) = Some(format!("{}: the log's thread panicked", self.0.place));
        }
        self.0.intake.abandon();
    }
}
