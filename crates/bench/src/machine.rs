//! The machine a run was made on, and the commit: without them a figure says nothing.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Where a run was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Processors this process may run on.
    pub cores: usize,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Name and version of the distribution.
    pub system: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Most descriptors a table may hold: soft and hard limit.
    pub descriptors_max: (u64, u64),
    /// Average number of runnable tasks over the last minute, when the report was begun.
    pub load: String,
    /// Commit of the working tree, with "-dirty" when it holds changes; empty outside of one.
    pub commit: String,
}

impl Machine {
    /// Reads the facts; what this system does not tell is empty or zero.
    pub fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: named(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: kib(&named(&read("/proc/meminfo"), "MemTotal")) * 1024,
            system: os_name(&read("/etc/os-release")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            descriptors_max: open_files(&read("/proc/self/limits")),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            commit: commit(),
        }
    }

    /// For the JSON of a report; the commit stands beside it there.
    pub fn json(&self) -> Value {
        let (soft, hard) = self.descriptors_max;
        json!({
            "cpu": self.cpu,
            "cores_count": self.cores,
            "memory_bytes": self.memory_bytes,
            "system": self.system,
            "kernel": self.kernel,
            "descriptors_soft_max": soft,
            "descriptors_hard_max": hard,
            "load": self.load,
        })
    }

    /// One line for people.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub fn line(&self) -> String {
        let gib = self.memory_bytes as f64 / f64::from(1 << 30);
        let Self {
            cpu,
            cores,
            system,
            kernel,
            load,
            ..
        } = self;
        format!("{cpu}, {cores} cores, {gib:.0} GiB, {system}, Linux {kernel}, load {load}")
    }
}

/// Value of the first line `name : value`.
fn named(text: &str, name: &str) -> String {
    let values = text.lines().filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    });
    values.into_iter().next().unwrap_or_default()
}

/// `24567890 kB`
fn kib(text: &str) -> u64 {
    let number = text.split(' ').next();
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

fn os_name(text: &str) -> String {
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or_default().trim_matches('"').to_owned()
}

/// `Max open files            1024                 524288               files`
fn open_files(limits: &str) -> (u64, u64) {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let mut values = line.unwrap_or_default().split_ascii_whitespace();
    let mut next = || match values.next() {
        Some("unlimited") => u64::MAX,
        value => value
            .and_then(|value| value.parse().ok())
            .unwrap_or_default(),
    };
    (next(), next())
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return String::new();
    };
    let is_dirty =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|s| !s.is_empty());
    if is_dirty {
        format!("{commit}-dirty")
    } else {
        commit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_kernel_cores_and_limits() {
        let machine = Machine::read();
        assert!(machine.cores > 0 && machine.memory_bytes > 1 << 20);
        assert!(!machine.kernel.is_empty());
        assert!(machine.descriptors_max.0 > 0);
        assert!(machine.line().contains(&machine.kernel));
    }

    #[test]
    fn files_of_the_kernel_are_read() {
        let limits = "Limit  Soft  Hard  Units\nMax open files   1024   unlimited   files\n";
        assert_eq!(open_files(limits), (1024, u64::MAX));
        assert_eq!(
            named("a : b\nmodel name\t: X 3\nmodel name\t: Y\n", "model name"),
            "X 3"
        );
        assert_eq!(kib("24567890 kB"), 24_567_890);
        assert_eq!(
            os_name("ID=debian\nPRETTY_NAME=\"Debian 12\"\n"),
            "Debian 12"
        );
    }
}
