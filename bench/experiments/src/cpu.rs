//! Processor time, memory and pinning.

use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

fn clock(id: ClockId) -> Duration {
    let at = clock_gettime(id);
    let seconds = u64::try_from(at.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(at.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// Processor time of this thread, user and system. Softirq work that ran in it is inside.
pub fn thread_time() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// Processor time of this process.
pub fn process_time() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// Processor time of all living threads of another process, from their schedstat.
pub fn time_of(pid: u32) -> Duration {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Duration::ZERO;
    };
    let nanos: u64 = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    Duration::from_nanos(nanos)
}

/// Processor time of the kernel's softirq threads: what a sender's own softirq work becomes when
/// there is much of it at a time. Whoever counts only the sender's time misses it.
pub fn softirq_threads_time() -> Duration {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Duration::ZERO;
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.starts_with("ksoftirqd/"))
        })
        .map(time_of)
        .sum()
}

/// A line of `/proc/PID/status` in bytes: `VmRSS`, `RssAnon`, `VmHWM`.
pub fn memory_of(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or_default()
        * 1024
}

/// Pages that the kernel counts for TCP buffers, in bytes.
pub fn tcp_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    text.lines()
        .find(|line| line.starts_with("TCP:"))
        .and_then(|line| line.split("mem ").nth(1)?.trim().parse::<u64>().ok())
        .unwrap_or_default()
        * 4096
}

/// Pins this thread to a core. A machine with fewer cores leaves it where it is.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

/// Lets this thread run anywhere again.
pub fn unpin() {
    let mut set = CpuSet::new();
    for core in 0..CpuSet::MAX_CPU {
        set.set(core);
    }
    let _ = sched_setaffinity(None, &set);
}

/// Microseconds per item.
pub fn per(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}
