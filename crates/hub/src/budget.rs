//! Memory as arithmetic: what streams cost, and whether the machine has it.
//!
//! A plain stream costs user memory for its state and kernel memory for its socket. Both are known
//! before the first one connects, so a hub that is told to hold more than the machine has says so
//! at its start instead of being killed in the middle of the night.

use std::fmt;

use crate::admit::HELD_BYTES;
use crate::config::{LogSpec, Settings, show_bytes};
use crate::shard::STREAM_STATE_BYTES;

/// User memory of one more plain stream whose topics others have too: its place, its timer, its
/// entry in a list, room for these tables to grow, and what it holds.
pub const STREAM_BYTES: usize = STREAM_STATE_BYTES + HELD_BYTES;

/// The promise that the tests hold the resident set to, everything included.
pub const STREAM_BYTES_MAX: usize = 512;

/// The same where every stream has a topic of its own (of up to 64 bytes): its text, its entries
/// in the tables of matchers and selections.
pub const OWN_TOPIC_STREAM_BYTES_MAX: usize = 1024;

/// Kernel memory of one idle stream on this side: socket, inode, file and poll entry. Measured on
/// Linux 6.18 with a million of them; sent bytes that wait for their reader come on top, see
/// [`unread_kernel_bytes`].
pub const STREAM_KERNEL_BYTES: usize = 4_150;

/// Most bytes of one packet on its way through the kernel (`GSO_MAX_SIZE` of TCP over IPv4).
const PACKET_BYTES_MAX: usize = 64 << 10;

/// Kernel memory of what one reader that does not read leaves there, at most. Linux doubles what
/// `send_buffer` asks for, counting what holds the bytes too, and looks for room before it takes
/// a packet, so the last one may stand over. What does not fit waits in the log and costs nothing.
#[must_use]
pub const fn unread_kernel_bytes(send_buffer: usize) -> usize {
    2 * send_buffer + PACKET_BYTES_MAX
}

/// User memory of a hub without streams: code, threads, runtime.
const BASE_BYTES: usize = 32 << 20;

/// Memory a hub takes with all its streams idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Streams it is for.
    pub streams: usize,
    /// The process's own memory, window included.
    pub user_bytes: usize,
    /// The kernel's, for the sockets.
    pub kernel_bytes: usize,
}

impl Budget {
    /// For this many streams with these settings.
    #[must_use]
    pub fn new(settings: &Settings, streams: usize) -> Self {
        // An event of a memory log stands in the log and, framed, in the window.
        let copies = match settings.log {
            LogSpec::Memory => 2,
            LogSpec::Disk(_) => 1,
        };
        let base_bytes = BASE_BYTES + copies * settings.window_bytes;
        Self {
            streams,
            user_bytes: streams
                .saturating_mul(STREAM_BYTES_MAX)
                .saturating_add(base_bytes),
            kernel_bytes: streams.saturating_mul(STREAM_KERNEL_BYTES),
        }
    }

    /// The process's own memory where every stream has a topic of its own.
    #[must_use]
    pub const fn own_topics_user_bytes(&self) -> usize {
        let more = OWN_TOPIC_STREAM_BYTES_MAX - STREAM_BYTES_MAX;
        self.user_bytes
            .saturating_add(self.streams.saturating_mul(more))
    }

    /// Both.
    #[must_use]
    pub const fn total_bytes(&self) -> usize {
        self.user_bytes.saturating_add(self.kernel_bytes)
    }

    /// # Errors
    ///
    /// The machine has less, in words for the operator.
    pub fn check(&self, machine_bytes: Option<usize>) -> Result<(), String> {
        match machine_bytes {
            Some(bytes) if bytes < self.total_bytes() => Err(format!(
                "{self}, but this machine (or its control group) has {}; lower it, or \
                 window_bytes, or give it more memory",
                shown(bytes)
            )),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} streams take up to {} of user memory and {} of the kernel's",
            self.streams,
            shown(self.user_bytes),
            shown(self.kernel_bytes)
        )
    }
}

/// Rounded to MiB: nobody plans in bytes.
fn shown(bytes: usize) -> String {
    show_bytes((bytes as u64).div_ceil(1 << 20).saturating_mul(1 << 20))
}

/// Memory of this machine, or of its control group if that has less; `None` where neither says.
#[must_use]
pub fn machine_bytes() -> Option<usize> {
    let total = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = total_of(&total)?;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse().ok());
    Some(group.map_or(total, |group: usize| group.min(total)))
}

fn total_of(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_both_figures() {
        let settings = Settings {
            window_bytes: 64 << 20,
            log: LogSpec::Disk("x".into()),
            ..Settings::default()
        };
        let budget = Budget::new(&settings, 1_000_000);
        assert_eq!(budget.user_bytes, (96 << 20) + 512_000_000);
        assert_eq!(budget.kernel_bytes, 4_150_000_000);
        assert!(budget.check(Some(24 << 30)).is_ok());
        assert!(budget.check(None).is_ok());
        let error = budget.check(Some(4 << 30)).unwrap_err();
        assert!(
            error.contains("1000000 streams take up to 585MiB"),
            "{error}"
        );
        assert!(error.contains("has 4GiB"), "{error}");
        // A descriptor limit that is none makes no figure that is none.
        let endless = Budget::new(&settings, usize::MAX);
        assert!(endless.check(Some(4 << 30)).is_err());
    }

    /// Decision 0015 has what was measured: 55, 164, 547 and 2,082 KiB.
    #[test]
    fn what_is_left_unread_stays_below_what_is_counted_for_it() {
        for (send_buffer, measured) in [(16, 55), (64, 164), (256, 547), (1024, 2082)] {
            assert!(measured << 10 <= unread_kernel_bytes(send_buffer << 10));
        }
    }

    #[test]
    fn the_promise_covers_the_state() {
        const { assert!(STREAM_BYTES + STREAM_BYTES / 2 <= STREAM_BYTES_MAX) }
    }

    #[test]
    fn meminfo_is_read() {
        assert_eq!(
            total_of("MemFree: 1 kB\nMemTotal:  1024 kB\n"),
            Some(1 << 20)
        );
        assert!(machine_bytes().is_some());
    }
}
