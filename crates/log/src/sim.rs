//! A disk for tests: it fills up, fails, and forgets what was not synced when the power goes.
//!
//! All randomness comes from a seed, all operations from one thread: a failure is seen again by
//! its seed.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;

use crate::host::{Host, LogFile, ReadAt};
use crate::lock::lock;

/// What a disk loses or keeps at once.
const SECTOR_BYTES: usize = 512;

/// What goes wrong from now on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Bytes that files may hold in sum.
    pub(crate) space_bytes: Option<u64>,
    /// Writes take a random part of what is offered.
    pub(crate) is_short: bool,
    /// One of so many writes fails, after a part of it was done.
    pub(crate) write_error_one_in: Option<u32>,
    /// One of so many syncs fails and forgets what it should have kept.
    pub(crate) sync_error_one_in: Option<u32>,
    /// `set_len` fails too.
    pub(crate) is_cut_failing: bool,
    /// The power goes at this operation; all later ones fail.
    pub(crate) power_off_at: Option<u64>,
}

#[derive(Clone)]
pub(crate) struct SimHost(Arc<Mutex<Disk>>);

struct Disk {
    rng: Rng,
    faults: Faults,
    /// Operations that change something.
    operations: u64,
    reads: u64,
    /// Descriptors that are held.
    open_files: usize,
    is_off: bool,
    clock_ms: u64,
    /// What programs see.
    names: BTreeMap<String, usize>,
    /// What would be there after a power loss.
    durable_names: BTreeMap<String, usize>,
    inodes: Vec<Inode>,
}

#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
}

impl SimHost {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            rng: Rng::with_seed(seed),
            faults: Faults::default(),
            operations: 0,
            reads: 0,
            open_files: 0,
            is_off: false,
            clock_ms: 1_800_000_000_000,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            inodes: Vec::new(),
        })))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.0)
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.disk().faults = faults;
    }

    pub(crate) fn operations(&self) -> u64 {
        self.disk().operations
    }

    pub(crate) fn reads(&self) -> u64 {
        self.disk().reads
    }

    pub(crate) fn open_files(&self) -> usize {
        self.disk().open_files
    }

    pub(crate) fn is_off(&self) -> bool {
        self.disk().is_off
    }

    pub(crate) fn advance(&self, by_ms: u64) {
        self.disk().clock_ms += by_ms;
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let disk = self.disk();
        disk.inodes[disk.names[name]].bytes.clone()
    }

    /// Replaces a file behind the log's back.
    pub(crate) fn set_bytes(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let inode = disk.names[name];
        disk.inodes[inode] = Inode {
            durable: bytes.clone(),
            bytes,
        };
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.disk().used_bytes()
    }

    /// A copy that shares nothing.
    pub(crate) fn fork(&self) -> Self {
        let disk = self.disk();
        Self(Arc::new(Mutex::new(Disk {
            rng: disk.rng.clone(),
            faults: disk.faults.clone(),
            names: disk.names.clone(),
            durable_names: disk.durable_names.clone(),
            inodes: disk.inodes.clone(),
            ..*disk
        })))
    }

    /// The power comes back: of what was not synced, each sector and each name is there or not.
    pub(crate) fn power_on(&self) {
        let mut disk = self.disk();
        let disk = &mut *disk;
        disk.is_off = false;
        disk.clock_ms += 1_000;
        disk.faults = Faults::default();
        let all: Vec<String> = disk
            .names
            .keys()
            .chain(disk.durable_names.keys())
            .cloned()
            .collect();
        for name in all {
            if disk.rng.bool() {
                match disk.names.get(&name) {
                    Some(inode) => disk.durable_names.insert(name, *inode),
                    None => disk.durable_names.remove(&name),
                };
            }
        }
        disk.names.clone_from(&disk.durable_names);
        for inode in &mut disk.inodes {
            inode.lose_unsynced(&mut disk.rng);
        }
    }
}

impl Inode {
    fn lose_unsynced(&mut self, rng: &mut Rng) {
        // The length is a matter of its own: it may be kept without the bytes, which are then zero.
        let length = if rng.bool() {
            self.bytes.len()
        } else {
            self.durable.len()
        };
        let mut left = self.durable.clone();
        left.resize(length, 0);
        let is_all_lost = rng.u8(..4) == 0;
        for start in (0..length).step_by(SECTOR_BYTES) {
            let end = (start + SECTOR_BYTES).min(length).min(self.bytes.len());
            if start < end && !is_all_lost && rng.bool() {
                left[start..end].copy_from_slice(&self.bytes[start..end]);
            }
        }
        self.bytes.clone_from(&left);
        self.durable = left;
    }
}

impl Disk {
    fn used_bytes(&self) -> u64 {
        self.names
            .values()
            .map(|inode| self.inodes[*inode].bytes.len() as u64)
            .sum()
    }

    /// Counts an operation; fails when the power is off.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self
            .faults
            .power_off_at
            .is_some_and(|at| self.operations >= at)
        {
            self.is_off = true;
        }
        if self.is_off {
            Err(io::Error::other("the power is off"))
        } else {
            Ok(())
        }
    }

    fn happens(&mut self, one_in: Option<u32>) -> bool {
        one_in.is_some_and(|one_in| self.rng.u32(..one_in) == 0)
    }

    fn write(&mut self, inode: usize, bytes: &[u8], at: u64) -> io::Result<usize> {
        let fails = self.operate().err();
        let mut count = bytes.len();
        if let Some(space) = self.faults.space_bytes {
            let used = self.used_bytes();
            let length = self.inodes[inode].bytes.len() as u64;
            let room = length.saturating_sub(at) + space.saturating_sub(used);
            count = count.min(usize::try_from(room).unwrap_or(usize::MAX));
            if count == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let one_in = self.faults.write_error_one_in;
        let is_broken = fails.is_some() || self.happens(one_in);
        if count > 1 && (is_broken || self.faults.is_short) {
            count = self.rng.usize(1..=count);
        }
        let start = usize::try_from(at).expect("a small file");
        let file = &mut self.inodes[inode].bytes;
        if file.len() < start + count {
            file.resize(start + count, 0);
        }
        file[start..start + count].copy_from_slice(&bytes[..count]);
        match fails {
            Some(error) => Err(error),
            None if is_broken => Err(io::Error::other("the write failed")),
            None => Ok(count),
        }
    }

    fn sync(&mut self, inode: usize) -> io::Result<()> {
        self.operate()?;
        let one_in = self.faults.sync_error_one_in;
        if self.happens(one_in) {
            // As the kernel does: the pages count as clean although they never reached the disk.
            let mut rng = self.rng.fork();
            self.inodes[inode].lose_unsynced(&mut rng);
            return Err(io::Error::other("the sync failed"));
        }
        let inode = &mut self.inodes[inode];
        inode.durable.clone_from(&inode.bytes);
        Ok(())
    }
}

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    inode: usize,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        lock(&self.disk).open_files -= 1;
    }
}

impl ReadAt for SimFile {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut disk = lock(&self.disk);
        disk.reads += 1;
        disk.inodes[self.inode].bytes.read_at(buffer, at)
    }
}

impl LogFile for SimFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        lock(&self.disk).write(self.inode, bytes, at)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut disk = lock(&self.disk);
        disk.operate()?;
        if disk.faults.is_cut_failing {
            return Err(io::Error::other("the cut failed"));
        }
        let length = usize::try_from(bytes).expect("a small file");
        disk.inodes[self.inode].bytes.resize(length, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.disk).inodes[self.inode].bytes.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        lock(&self.disk).sync(self.inode)
    }
}

impl Host for SimHost {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.disk().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let mut disk = self.disk();
        disk.operate()?;
        let inode = match disk.names.get(name) {
            Some(inode) => *inode,
            None => disk.inodes.len(),
        };
        let count = disk.inodes.len().max(inode + 1);
        disk.inodes.resize(count, Inode::default());
        // A file that is there is emptied, and only a sync makes that last.
        disk.inodes[inode].bytes.clear();
        disk.names.insert(name.to_owned(), inode);
        disk.open_files += 1;
        Ok(Arc::new(SimFile {
            disk: Arc::clone(&self.0),
            inode,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let mut disk = self.disk();
        let inode = *disk.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        disk.open_files += 1;
        Ok(Arc::new(SimFile {
            disk: Arc::clone(&self.0),
            inode,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate()?;
        let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate()?;
        disk.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate()?;
        let names = disk.names.clone();
        disk.durable_names = names;
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        self.disk().clock_ms
    }
}
