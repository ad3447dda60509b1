//! What a host's files say: /proc, and the control group.

use std::path::PathBuf;

/// A host, by the folder its files are in.
#[derive(Debug, Clone)]
pub(super) struct Host {
    root: PathBuf,
}

impl Host {
    /// The one this runs on.
    pub(super) fn this() -> Self {
        Self { root: "/".into() }
    }

    /// Another one, for tests.
    #[cfg(test)]
    pub(super) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    /// The numbers in a file below /proc.
    pub(super) fn numbers(&self, path: &str) -> Vec<u64> {
        let text = self.text(&format!("proc/{path}")).unwrap_or_default();
        let words = text.split_ascii_whitespace();
        words.map_while(|word| word.parse().ok()).collect()
    }

    /// The first number in a file below /proc.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.numbers(path).first().copied()
    }

    /// The hard limit of descriptors in one table; `u64::MAX` for none.
    pub(super) fn descriptors_hard_max(&self) -> Option<u64> {
        let limits = self.text("proc/self/limits")?;
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        match line.split_ascii_whitespace().nth(1)? {
            "unlimited" => Some(u64::MAX),
            value => value.parse().ok(),
        }
    }

    /// Memory that can be had without swapping, and within the control group's limit.
    pub(super) fn memory_available_bytes(&self) -> Option<u64> {
        let meminfo = self.text("proc/meminfo")?;
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        let group = |name: &str| {
            self.text(&format!("sys/fs/cgroup/{name}"))?
                .trim()
                .parse()
                .ok()
        };
        let left = group("memory.max").map(|max: u64| {
            let used = group("memory.current").unwrap_or_default();
            max.saturating_sub(used)
        });
        let host = kib * 1024;
        Some(left.map_or(host, |left| left.min(host)))
    }
}
