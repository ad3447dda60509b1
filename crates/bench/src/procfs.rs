//! What /proc tells of the measured processes and of the kernel's memory for sockets.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Bytes in a page of memory: x86-64 and the usual aarch64 kernels.
pub const PAGE_BYTES: u64 = 4096;
/// State of a listening socket in /proc/net/tcp.
const LISTEN: &str = "0A";
/// `USER_HZ`: ticks in a second of /proc/PID/stat, the same on every Linux architecture we build
/// for.
const TICKS_PER_SECOND: u64 = 100;

/// Slab caches that hold sockets and what every socket needs, by the names in /proc/slabinfo.
/// `dentry` and `filp` are shared with files, so only their growth during a run says something.
const SOCKET_SLABS: [&str; 10] = [
    "TCP",
    "TCPv6",
    "sock_inode_cache",
    "filp",
    "dentry",
    "eventpoll_epi",
    "ep_head",
    "request_sock_TCP",
    "tw_sock_TCP",
    "tcp_bind_bucket",
];

/// What some processes have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Time on a CPU since their start, user and kernel, of all threads.
    pub cpu: Duration,
    /// Resident memory now, in bytes; pages that processes share count for each.
    pub rss_bytes: u64,
}

/// What the kernel holds for sockets, of all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketMemory {
    /// TCP sockets in use (sockstat `inuse`).
    pub sockets_count: u64,
    /// Closed by their process, and still sending (sockstat `orphan`).
    pub orphans_count: u64,
    /// Bytes in TCP's send and receive buffers (sockstat `mem`, in whole pages).
    pub buffer_bytes: u64,
    /// Bytes in the slab caches of sockets; `None` where /proc/slabinfo may not be read (root
    /// only).
    pub slab_bytes: Option<u64>,
}

impl SocketMemory {
    /// Reads both files; what cannot be read counts as zero.
    pub fn read() -> Self {
        let sockstat = read("/proc/net/sockstat");
        let slab = fs::read_to_string("/proc/slabinfo").ok();
        Self {
            sockets_count: sockstat_value(&sockstat, "inuse"),
            orphans_count: sockstat_value(&sockstat, "orphan"),
            buffer_bytes: sockstat_value(&sockstat, "mem") * PAGE_BYTES,
            slab_bytes: slab.as_deref().map(slab_bytes),
        }
    }

    /// Slab and buffers together.
    pub fn total_bytes(&self) -> u64 {
        self.slab_bytes.unwrap_or_default() + self.buffer_bytes
    }
}

/// Processes that are measured together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Processes {
    pids: BTreeSet<u32>,
}

impl Processes {
    /// These processes and their descendants now.
    pub fn with_children(pids: impl IntoIterator<Item = u32>) -> Self {
        let parents = parents();
        let mut found: BTreeSet<u32> = pids.into_iter().collect();
        loop {
            let before = found.len();
            let children = parents.iter().filter(|(_, parent)| found.contains(parent));
            let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
            found.extend(children);
            if found.len() == before {
                return Self { pids: found };
            }
        }
    }

    /// The processes that listen on a TCP port of this machine, and their descendants. Empty when
    /// there are none or /proc does not show them (another user's).
    pub fn listening_on(port: u16) -> Self {
        let inodes = listening_inodes(port);
        if inodes.is_empty() {
            return Self::default();
        }
        let owners = process_ids().into_iter().filter(|pid| owns(*pid, &inodes));
        Self::with_children(owners)
    }

    /// This process.
    pub fn own() -> Self {
        Self {
            pids: BTreeSet::from([std::process::id()]),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty()
    }

    /// Their ids, rising.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.pids.iter().copied()
    }

    /// What they have used; `None` when none of them is there any more.
    pub fn usage(&self) -> Option<Usage> {
        let mut total = None;
        for pid in &self.pids {
            if let Some(cpu) = cpu_time(*pid) {
                let total = total.get_or_insert_with(Usage::default);
                total.cpu += cpu;
                total.rss_bytes += rss_bytes(*pid);
            }
        }
        total
    }

    /// Descriptors they have open; `None` when none of them can be looked at. Threads may have
    /// tables of their own: what two of them have under the same number counts once.
    pub fn descriptors(&self) -> Option<u64> {
        let mut found = HashSet::new();
        for pid in &self.pids {
            for task in ids_in(format!("/proc/{pid}/task")) {
                let folder = format!("/proc/{pid}/task/{task}/fd");
                for number in ids_in(&folder) {
                    // It may have been closed meanwhile.
                    if let Ok(link) = fs::read_link(format!("{folder}/{number}")) {
                        found.insert((*pid, number, link));
                    }
                }
            }
        }
        (!found.is_empty()).then_some(found.len() as u64)
    }
}

fn read(path: impl AsRef<Path>) -> String {
    // A process may end between two looks at it.
    fs::read_to_string(path).unwrap_or_default()
}

fn process_ids() -> Vec<u32> {
    ids_in("/proc")
}

/// The entries of a folder that are numbers: processes, threads, descriptors.
fn ids_in(folder: impl AsRef<Path>) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(folder) else {
        return vec![];
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

fn parents() -> BTreeMap<u32, u32> {
    let pairs = process_ids().into_iter().filter_map(|pid| {
        let stat = read(format!("/proc/{pid}/stat"));
        let parent = stat_fields(&stat).nth(1)?.parse().ok()?;
        Some((pid, parent))
    });
    pairs.collect()
}

/// Fields of /proc/PID/stat after the command's name, which may hold spaces and brackets itself:
/// 0 is the state, 1 the parent, 11 the user time, 12 the kernel time.
fn stat_fields(stat: &str) -> impl Iterator<Item = &str> {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_ascii_whitespace()
}

/// Time on a CPU. /proc/PID/task/*/schedstat has nanoseconds, but forgets threads that have ended;
/// stat keeps them, in ticks of 10 ms. The larger one is nearer to the truth.
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = read(format!("/proc/{pid}/stat"));
    let ticks: u64 = stat_fields(&stat)
        .skip(11)
        .take(2)
        .flat_map(str::parse::<u64>)
        .sum();
    // One that ended and whose parent has not looked yet keeps its line and nothing else.
    if matches!(stat_fields(&stat).next(), None | Some("Z" | "X")) {
        return None;
    }
    let by_stat = Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    let tasks = ids_in(format!("/proc/{pid}/task")).into_iter();
    let nanos: u64 = tasks.map(|task| task_nanos(pid, task)).sum();
    let by_tasks = Duration::from_nanos(nanos);
    // Ticks are truncated per process: without ended threads they say less than the tasks do.
    let tick = Duration::from_millis(1000 / TICKS_PER_SECOND);
    Some(if by_tasks + 2 * tick >= by_stat {
        by_tasks
    } else {
        by_stat
    })
}

fn task_nanos(pid: u32, task: u32) -> u64 {
    let text = read(format!("/proc/{pid}/task/{task}/schedstat"));
    let first = text.split_ascii_whitespace().next();
    first
        .and_then(|nanos| nanos.parse().ok())
        .unwrap_or_default()
}

fn rss_bytes(pid: u32) -> u64 {
    let status = read(format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// Inodes of the sockets that listen on `port`, IPv4 and IPv6.
fn listening_inodes(port: u16) -> HashSet<u64> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(read);
    let inodes = tables
        .iter()
        .flat_map(|table| table.lines().filter_map(|line| inode(line, port)));
    inodes.collect()
}

/// Inode in a line of /proc/net/tcp, if it is a socket that listens on `port`.
fn inode(line: &str, port: u16) -> Option<u64> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, hex) = fields.get(1)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(hex, 16) == Ok(port) && fields.get(3) == Some(&LISTEN);
    is_it.then(|| fields.get(9)?.parse().ok())?
}

fn owns(pid: u32, inodes: &HashSet<u64>) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let text = target.to_string_lossy();
        let inode = text
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'));
        inode
            .and_then(|inode| inode.parse().ok())
            .is_some_and(|inode| inodes.contains(&inode))
    })
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 7 mem 1`
fn sockstat_value(sockstat: &str, name: &str) -> u64 {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"));
    let mut words = line.unwrap_or_default().split_ascii_whitespace();
    words.find(|word| *word == name);
    words
        .next()
        .and_then(|value| value.parse().ok())
        .unwrap_or_default()
}

/// Bytes of the socket caches: slabs times pages of a slab, which counts what the kernel holds, not
/// only what is in use.
fn slab_bytes(slabinfo: &str) -> u64 {
    let caches = slabinfo.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if !SOCKET_SLABS.contains(fields.first()?) {
            return None;
        }
        // name active total objsize objperslab pagesperslab : tunables 0 0 0 : slabdata active ...
        let pages: u64 = fields.get(5)?.parse().ok()?;
        let place = fields.iter().position(|field| *field == "slabdata")?;
        let slabs: u64 = fields.get(place + 2)?.parse().ok()?;
        Some(pages * slabs * PAGE_BYTES)
    });
    caches.sum()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listening_socket_leads_to_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = Processes::listening_on(port);
        assert!(found.ids().any(|pid| pid == std::process::id()));
        drop(listener);
        assert!(Processes::listening_on(port).is_empty());
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let own = Processes::own();
        let before = own.usage().unwrap();
        let mut sum = 0_u64;
        while own.usage().unwrap().cpu < before.cpu + Duration::from_millis(30) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(own.usage().unwrap().rss_bytes > 100_000);
    }

    #[test]
    fn a_process_that_is_not_there_has_no_usage() {
        // Above the largest pid a kernel gives.
        let nobody = Processes::with_children([u32::MAX]);
        assert_eq!(nobody.usage(), None);
    }

    #[test]
    fn children_are_found_through_their_parents() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let found = Processes::with_children([std::process::id()]);
        assert!(found.ids().any(|pid| pid == child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     \
                    0        0 31337 1 0000000000000000 100 0 0 10 0";
        assert_eq!(inode(line, 3000), Some(31337));
        assert_eq!(inode(line, 3001), None);
        assert_eq!(inode(&line.replace(" 0A ", " 01 "), 3000), None);
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0";
        assert_eq!(stat_fields(stat).nth(1), Some("1"));
        assert_eq!(stat_fields(stat).nth(12), Some("50"));
        let sockstat =
            "sockets: used 9\nTCP: inuse 5 orphan 2 tw 0 alloc 7 mem 3\nUDP: inuse 1 mem 9\n";
        assert_eq!(sockstat_value(sockstat, "orphan"), 2);
        assert_eq!(sockstat_value(sockstat, "mem"), 3);
        let slab = "TCP 10 12 2368 13 8 : tunables 0 0 0 : slabdata 4 4 0\n\
                    kmalloc-8 1 1 8 512 1 : tunables 0 0 0 : slabdata 9 9 0\n";
        assert_eq!(slab_bytes(slab), 8 * 4 * PAGE_BYTES);
    }
}
