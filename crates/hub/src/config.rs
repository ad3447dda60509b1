//! Typed settings, checked against each other once. The only place with defaults is the table in
//! `options.rs`.
//!
//! [`Settings::load`] merges the sources (flag, then `GUSH_…`, then `MERCURE_…`, then the file,
//! then the default), remembers which source set each key, and refuses with every problem it found,
//! each with its place and its cure.

mod check;
mod error;
mod file;
mod limits;
mod load;
mod overload;
mod units;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::options::OPTIONS;
use crate::secret::Secret;

pub use error::{ConfigError, Origin, Problem};
pub use limits::{LimitSettings, RateSettings};
pub use load::{EffectiveOption, Environment, Loaded, Sources, reload_changes};
pub use overload::{OverloadSettings, Refusals};
pub use units::{parse_bytes, parse_duration, show_bytes, show_duration};

/// Where events are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSpec {
    /// Only the window in memory; a restart forgets everything.
    Memory,
    /// Segment files in this directory (made when missing).
    Disk(PathBuf),
}

/// When the disk log calls fsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncMode {
    /// A publish is answered after the fsync it shares with the publishes that arrived meanwhile.
    Batch,
    /// A publish is answered after the write; fsync runs every `sync_interval`.
    Interval,
    /// The kernel decides.
    Off,
}

/// Whose descriptor table streams are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptorTables {
    /// Each shard its own where one table does not hold `max_connections`.
    Auto,
    /// The process's one table.
    Shared,
    /// Each shard its own.
    Own,
}

/// How log lines on stderr look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line per record.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where the records of streams go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamLogSpec {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error, between the log lines.
    Stderr,
    /// A file that is appended to, or a pipe.
    File(PathBuf),
}

/// The least severe log record that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// A human must look.
    Error,
    /// Something is off and the hub goes on.
    Warn,
    /// Start, stop, reload, recovery.
    Info,
    /// Each connection.
    Debug,
    /// Each tick.
    Trace,
}

/// Every setting of `gush serve`, typed. Names, defaults, ranges and reasons: [`OPTIONS`], one
/// record per field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the operator's, by its name"
)]
pub struct Settings {
    /// Public listeners; never empty.
    pub listen: Vec<SocketAddr>,
    /// Admin listener (console, metrics); `None` = off.
    pub admin_listen: Option<SocketAddr>,
    /// PEM certificate chain; set exactly when `tls_key` is.
    pub tls_cert: Option<PathBuf>,
    /// PEM private key.
    pub tls_key: Option<PathBuf>,
    /// Networks of the proxies that may say whom a request is from.
    pub trusted_proxies: Vec<String>,
    /// Whether public connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,

    /// Where events are kept.
    pub log: LogSpec,
    /// When the disk log calls fsync.
    pub sync: SyncMode,
    /// Time between two fsyncs with [`SyncMode::Interval`].
    pub sync_interval: Duration,
    /// Size at which a segment file is closed and the next begun, in bytes.
    pub segment_bytes: u64,
    /// Bytes of segments to keep; `None` = no bound.
    pub retention_bytes: Option<u64>,
    /// Age of events to keep; `None` = no bound.
    pub retention_age: Option<Duration>,
    /// Number of events to keep; `None` = no bound.
    pub retention_events: Option<u64>,
    /// Bytes of the newest events that are kept in memory.
    pub window_bytes: usize,
    /// Number of the newest events that are kept in memory.
    pub window_events: usize,

    /// Key (source) that publishers' tokens are checked with; `None` = every publish is refused.
    pub publisher_key: Option<Secret>,
    /// Algorithm pinned for publishers' tokens; `None` = by the key's type.
    pub publisher_alg: Option<String>,
    /// Key (source) that subscribers' tokens are checked with.
    pub subscriber_key: Option<Secret>,
    /// Algorithm pinned for subscribers' tokens; `None` = by the key's type.
    pub subscriber_alg: Option<String>,
    /// Whether subscribers without a token get public events.
    pub anonymous: bool,
    /// Whether subscription events and the active-subscriptions API are on.
    pub subscriptions: bool,
    /// Name of the cookie that may carry the token.
    pub cookie_name: String,
    /// Origins that browsers may read answers from; empty = no CORS headers.
    pub cors_origins: Vec<String>,
    /// Origins from which a publish by cookie is taken; empty = none.
    pub publish_origins: Vec<String>,

    /// Silence after which a heartbeat is written; zero = no heartbeats.
    pub heartbeat: Duration,
    /// Middle of the delay told to subscribers with `retry:`; each gets its own within ±50 %. Zero
    /// = not sent.
    pub retry: Duration,
    /// A subscriber whose socket takes no byte for this long is closed.
    pub write_timeout: Duration,
    /// `TCP_USER_TIMEOUT` of accepted sockets; zero = the kernel's.
    pub tcp_user_timeout: Duration,
    /// `SO_SNDBUF` of a subscriber's socket in bytes; zero = the kernel's.
    pub send_buffer: usize,
    /// Longest life of one stream; `None` = no bound.
    pub max_stream_life: Option<Duration>,
    /// How long events are held back to leave together; zero = not at all.
    pub flush_interval: Duration,
    /// How many held events let all of them go before the interval is over; zero = no such bound.
    pub flush_batch: u32,
    /// Rules for single topics, as [`crate::flush::FlushRule::parse`] reads them.
    pub flush_topics: Vec<String>,
    /// Topics of which readers that are behind get the newest event only.
    pub conflate_topics: Vec<String>,

    /// Longest wait for a complete request head.
    pub head_timeout: Duration,
    /// Longest wait for a complete request body.
    pub body_timeout: Duration,
    /// Largest request body in bytes.
    pub max_body: usize,
    /// Most open connections; zero = as many as the descriptor limit allows.
    pub max_connections: usize,
    /// What one address, one subject, one topic may have.
    pub limits: LimitSettings,
    /// Number of shards (threads); zero = one per core, or as many as `descriptor_tables` needs.
    pub shards: usize,
    /// Whether shards have descriptor tables of their own.
    pub descriptor_tables: DescriptorTables,

    /// What happens at the limits.
    pub overload: OverloadSettings,

    /// How long after SIGTERM streams are left alone, and new ones taken, while `/readyz` says no;
    /// zero = not at all.
    pub drain_delay: Duration,
    /// Time over which streams are closed after SIGTERM; zero = at once.
    pub drain_window: Duration,
    /// Where the records of streams go.
    pub stream_log: StreamLogSpec,
    /// How they look.
    pub stream_log_format: LogFormat,
    /// How long a new process may take for each step of an upgrade.
    pub upgrade_timeout: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Least severe log record written.
    pub log_level: LogLevel,
    /// Development mode: a kept random key, anonymous and subscriptions on.
    pub dev: bool,
}

#[cfg(test)]
mod tests;
