//! Room for descriptors: the soft limit raised, and for threads a descriptor table of their own
//! where one table is not enough.

use std::fs::File;
use std::os::fd::RawFd;

use rustix::io;
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::thread::{CpuSet, UnshareFlags, sched_setaffinity, unshare_unsafe};

/// Most streams that are put in one descriptor table. Many systems have a hard limit of 20,000
/// descriptors or more; the rest is for what a process has open anyway.
pub const STREAMS_PER_TABLE: u64 = 19_000;

/// Most places the table is made large for at once; 8 bytes of kernel memory each.
const TABLE_PLACES_MAX: u64 = 1 << 18;

/// Raises the soft limit of open descriptors to the hard one, and makes the table that large: one
/// that threads share grows by waiting for all cores, tens of milliseconds each time, which would
/// be measured as the server's. Gives back the limit that holds then.
pub fn raise_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let old = limit.current;
        limit.current = limit.maximum;
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit.current = old;
        }
    }
    // Absent means unlimited.
    let places = limit.current.unwrap_or(u64::MAX);
    let last = RawFd::try_from(places.min(TABLE_PLACES_MAX).saturating_sub(1)).unwrap_or(0);
    // Without it the table grows as it fills.
    let _ = File::open("/dev/null").map(|some| io::fcntl_dupfd_cloexec(&some, last));
    places
}

/// Whether `streams` need more than one table on this system, given the limit.
pub fn needs_own_tables(streams: u64, limit: u64) -> bool {
    streams > limit.saturating_sub(limit / 20)
}

/// Gives the calling thread a descriptor table of its own, which is a copy of the process's.
///
/// The limit of open descriptors holds for each table. Descriptors that other threads open from
/// now on do not exist here and the other way round. The caller must be a thread that shares none
/// with others, but for some that were open before and stay open for as long as the thread lives.
pub fn take_own_table() -> io::Result<()> {
    // SAFETY: with `FILES` alone the call changes nothing but which table the thread's descriptor
    // numbers are looked up in. Only generator threads and the references' threads call this, as
    // the first thing they do: every descriptor they own as an `OwnedFd` is opened and closed later
    // and in the same thread, and none is handed to another one. What they borrow (a reference's
    // event descriptors, standard error) was open before, has the same number in the copy, and is
    // held open by the process until the thread ends.
    #[expect(unsafe_code, reason = "decision record 0011")]
    unsafe {
        unshare_unsafe(UnshareFlags::FILES)
    }
}

/// Keeps the calling thread, and those it starts, on one core.
pub fn pin_to(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::Errno::INVAL);
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_take_a_table_and_open_descriptors_in_it() {
        let thread = std::thread::spawn(|| {
            take_own_table()?;
            std::fs::File::open("/dev/null")
                .map(drop)
                .map_err(|error| io::Errno::from_io_error(&error).unwrap_or(io::Errno::IO))
        });
        assert_eq!(thread.join().expect("no panic"), Ok(()));
    }

    #[test]
    fn one_table_is_enough_until_the_limit_is_near() {
        assert!(!needs_own_tables(19_000, 20_000));
        assert!(needs_own_tables(19_001, 20_000));
    }
}
