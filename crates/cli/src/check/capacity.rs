//! `gush check --capacity N`: what N streams need, and whether this host has it.

mod host;
mod work;

use gush_hub::budget::Budget;
use gush_hub::config::{Settings, show_bytes};
use gush_hub::limits::{Plan, cores};
use serde_json::{Value, json};

use crate::failure::{Failure, print};
use host::Host;
use work::Work;

/// Streams that come back at once after a restart, and wait to be accepted; no kernel keeps more.
const BACKLOG_MAX: u64 = 65_535;
/// Descriptors of a hub that are no streams: log, admin, listeners, polls. A little more than it
/// keeps for itself, so that the limit is a round number.
const OTHER_DESCRIPTORS: u64 = 1024;
/// Connections that are no streams and count against the same limit: publishers, probes, and those
/// who are about to subscribe. With none to spare the first publish is refused.
const OTHER_CONNECTIONS: u64 = 1000;

/// Whether a setting of the host is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    TooLow,
    /// Not a limit of the hub; said because it may be one of what stands before it.
    Note,
    /// The host does not show it.
    Unknown,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::TooLow => "too low",
            Self::Note => "note",
            Self::Unknown => "unknown",
        }
    }
}

/// One setting.
#[derive(Debug, Clone)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    has: String,
    needs: String,
    /// Command or line that makes it fit.
    fix: String,
}

impl Finding {
    /// A kernel setting that has to be at least `needs`.
    fn sysctl(host: &Host, name: &'static str, needs: u64) -> Self {
        let path = format!("sys/{}", name.replace('.', "/"));
        let has = host.number(&path);
        Self::of(name, has, needs, format!("sysctl -w {name}={needs}"))
    }

    fn of(name: &'static str, has: Option<u64>, needs: u64, fix: String) -> Self {
        let verdict = match has {
            None => Verdict::Unknown,
            Some(has) if has >= needs => Verdict::Ok,
            Some(_) => Verdict::TooLow,
        };
        Self {
            name,
            verdict,
            has: has.map_or_else(|| "-".to_owned(), grouped),
            needs: grouped(needs),
            fix: if verdict == Verdict::TooLow {
                fix
            } else {
                String::new()
            },
        }
    }
}

/// Prints what `streams` need; an error when this host does not have it.
pub(super) fn run(settings: &Settings, streams: u64, is_json: bool) -> Result<(), Failure> {
    let host = Host::this();
    let needs = Needs::new(settings, streams, &host);
    let findings = findings(settings, &needs, &host);
    let fits = findings
        .iter()
        .all(|finding| finding.verdict != Verdict::TooLow);
    print(&if is_json {
        needs.json(&findings, fits)
    } else {
        needs.listing(&findings)
    })?;
    if fits {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} streams do not fit on this host",
        grouped(streams)
    )))
}

/// What so many streams take.
#[derive(Debug)]
struct Needs {
    streams: u64,
    budget: Budget,
    /// How the hub would spread them.
    plan: Plan,
    work: Work,
}

impl Needs {
    fn new(settings: &Settings, streams: u64, host: &Host) -> Self {
        let count = usize::try_from(streams).unwrap_or(usize::MAX);
        let asked = Settings {
            max_connections: count,
            ..settings.clone()
        };
        let table = host.descriptors_hard_max().unwrap_or(u64::MAX);
        let table = usize::try_from(table).unwrap_or(usize::MAX);
        Self {
            streams,
            budget: Budget::new(settings, count),
            plan: Plan::new(&asked, cores(), table),
            work: Work::new(streams, settings.heartbeat),
        }
    }

    /// Descriptors of the whole hub.
    fn descriptors(&self) -> u64 {
        self.streams + OTHER_DESCRIPTORS
    }

    /// Whether the tables, one or one for each shard, have room for all streams.
    fn fits_in_tables(&self) -> bool {
        self.plan.connections_max as u64 >= self.streams
    }

    fn listing(&self, findings: &[Finding]) -> String {
        let bytes = |bytes: usize| show_mib(bytes as u64);
        let tables = if self.plan.own_tables {
            format!(
                "{} shards, each with a descriptor table of its own",
                self.plan.shards
            )
        } else {
            format!("{} shards on one descriptor table", self.plan.shards)
        };
        let mut lines = vec![
            format!("{} streams need", grouped(self.streams)),
            format!(
                "  user memory    {}, at most; {} with a topic of its own for each",
                bytes(self.budget.user_bytes),
                bytes(self.budget.own_topics_user_bytes())
            ),
            format!("  kernel memory  {}, idle", bytes(self.budget.kernel_bytes)),
            format!("  descriptors    {}", grouped(self.descriptors())),
            format!("  shards         {tables}"),
        ];
        lines.extend(self.work.lines());
        lines.push(String::new());
        let width = |of: fn(&Finding) -> &str| {
            findings
                .iter()
                .map(|finding| of(finding).chars().count())
                .max()
                .unwrap_or_default()
        };
        let (names, has) = (width(|f| f.name), width(|f| &f.has));
        for Finding {
            name,
            verdict,
            has: value,
            needs,
            fix,
        } in findings
        {
            let word = verdict.word();
            let line = format!("{word:7}  {name:names$}  {value:>has$}  {needs}");
            lines.push(line.trim_end().to_owned());
            if !fix.is_empty() {
                lines.push(format!("         {fix}"));
            }
        }
        lines.join("\n")
    }

    fn json(&self, findings: &[Finding], fits: bool) -> String {
        let rows = findings.iter().map(|finding| {
            json!({
                "name": finding.name,
                "verdict": finding.verdict.word(),
                "has": finding.has,
                "needs": finding.needs,
                "fix": finding.fix,
            })
        });
        let rows: Vec<Value> = rows.collect();
        json!({
            "streams": self.streams,
            "fits": fits,
            "user_memory_bytes": self.budget.user_bytes,
            "user_memory_own_topics_bytes": self.budget.own_topics_user_bytes(),
            "kernel_memory_bytes": self.budget.kernel_bytes,
            "descriptors": self.descriptors(),
            "shards": self.plan.shards,
            "own_descriptor_tables": self.plan.own_tables,
            "cpu": self.work.json(),
            "settings": rows,
        })
        .to_string()
    }
}

fn findings(settings: &Settings, needs: &Needs, host: &Host) -> Vec<Finding> {
    let streams = needs.streams;
    let used = host.number("sys/fs/file-nr").unwrap_or_default();
    let backlog = streams.min(BACKLOG_MAX);
    let mut findings = vec![
        memory(needs, host),
        descriptors(needs, host),
        max_connections(settings, needs),
        Finding::sysctl(host, "fs.file-max", used + needs.descriptors()),
        Finding::sysctl(host, "fs.epoll.max_user_watches", needs.descriptors()),
        // All come back at once when the hub was restarted.
        Finding::sysctl(host, "net.core.somaxconn", backlog),
        Finding::sysctl(host, "net.ipv4.tcp_max_syn_backlog", backlog),
        tcp_mem(streams, host),
    ];
    if needs.plan.own_tables && needs.fits_in_tables() {
        // No table is larger than the limit of one, and that is below this by its nature.
        let limit = host.descriptors_hard_max().unwrap_or_default();
        findings.push(Finding::sysctl(host, "fs.nr_open", limit));
    } else {
        // No hard limit can be raised above it.
        findings.push(Finding::sysctl(host, "fs.nr_open", needs.descriptors()));
    }
    findings.push(conntrack(streams, host));
    findings.push(ports(streams, host));
    findings
}

fn memory(needs: &Needs, host: &Host) -> Finding {
    let total = needs.budget.total_bytes() as u64;
    let has = host.memory_available_bytes();
    let fix = "more memory, fewer streams on this host, or a smaller --window-bytes".to_owned();
    let finding = Finding::of("memory available", has, total, fix);
    Finding {
        has: has.map_or_else(|| "-".to_owned(), show_mib),
        needs: show_mib(total),
        ..finding
    }
}

/// One table for all, or shards with a table each.
fn descriptors(needs: &Needs, host: &Host) -> Finding {
    let has = host.descriptors_hard_max();
    let is_enough = needs.fits_in_tables();
    let wanted = needs.descriptors();
    let verdict = match has {
        None => Verdict::Unknown,
        Some(_) if is_enough => Verdict::Ok,
        Some(_) => Verdict::TooLow,
    };
    let how = if needs.plan.own_tables && is_enough {
        format!("{} in {} tables", grouped(wanted), needs.plan.shards)
    } else {
        grouped(wanted)
    };
    let fix = format!(
        "ulimit -Hn {wanted}, or LimitNOFILE={wanted} in the unit, or --ulimit nofile={wanted} \
         for a container"
    );
    Finding {
        name: "descriptors (hard limit)",
        verdict,
        has: has.map_or_else(|| "-".to_owned(), limit),
        needs: how,
        fix: if verdict == Verdict::TooLow {
            fix
        } else {
            String::new()
        },
    }
}

/// The hub's own bound; without one it takes what one descriptor table holds.
fn max_connections(settings: &Settings, needs: &Needs) -> Finding {
    let set = settings.max_connections as u64;
    let streams = needs.streams;
    let is_enough = if set == 0 {
        !needs.plan.own_tables
    } else {
        set >= streams
    };
    Finding {
        name: "max_connections",
        verdict: if is_enough {
            Verdict::Ok
        } else {
            Verdict::TooLow
        },
        has: if set == 0 {
            "0 (one table)".to_owned()
        } else {
            grouped(set)
        },
        needs: grouped(streams),
        fix: if is_enough {
            String::new()
        } else {
            format!("--max-connections {}", streams + OTHER_CONNECTIONS)
        },
    }
}

/// Pages of all TCP buffers together. A stream with anything unsent or unread holds one at least,
/// so an event to all takes a page for each; above the second value the kernel begins to squeeze.
fn tcp_mem(streams: u64, host: &Host) -> Finding {
    let values = host.numbers("sys/net/ipv4/tcp_mem");
    let fix = format!(
        "sysctl -w net.ipv4.tcp_mem=\"{streams} {} {}\"",
        streams * 2,
        streams * 3
    );
    let finding = Finding::of(
        "net.ipv4.tcp_mem (second)",
        values.get(1).copied(),
        streams,
        fix,
    );
    Finding {
        needs: format!("{} pages", finding.needs),
        ..finding
    }
}

/// Connection tracking has an entry for each stream, where it is loaded at all.
fn conntrack(streams: u64, host: &Host) -> Finding {
    const NAME: &str = "net.netfilter.nf_conntrack_max";
    let used = host.number("sys/net/netfilter/nf_conntrack_count");
    let has = host.number("sys/net/netfilter/nf_conntrack_max");
    if has.is_none() {
        return Finding {
            name: NAME,
            verdict: Verdict::Ok,
            has: "not loaded".to_owned(),
            needs: String::new(),
            fix: String::new(),
        };
    }
    Finding::sysctl(host, NAME, used.unwrap_or_default() + streams)
}

/// A proxy (or a load generator) on one address has as many connections to one port as it has
/// ports. Streams of browsers come from many addresses.
fn ports(streams: u64, host: &Host) -> Finding {
    const NAME: &str = "net.ipv4.ip_local_port_range";
    let range = host.numbers("sys/net/ipv4/ip_local_port_range");
    let count = match range.as_slice() {
        [low, high] if high >= low => high - low + 1,
        _ => 0,
    };
    let is_enough = count >= streams;
    let addresses = streams.div_ceil(count.max(1));
    Finding {
        name: NAME,
        verdict: match (count, is_enough) {
            (0, _) => Verdict::Unknown,
            (_, true) => Verdict::Ok,
            (_, false) => Verdict::Note,
        },
        has: grouped(count),
        needs: if is_enough || count == 0 {
            String::new()
        } else {
            format!("only for a proxy on this host: {addresses} source addresses")
        },
        fix: String::new(),
    }
}

/// A limit that may be none.
fn limit(value: u64) -> String {
    if value == u64::MAX {
        "unlimited".to_owned()
    } else {
        grouped(value)
    }
}

/// Rounded up to MiB: nobody plans in bytes.
fn show_mib(bytes: u64) -> String {
    show_bytes(bytes.next_multiple_of(1 << 20))
}

/// 1000000 as "1,000,000".
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests;
