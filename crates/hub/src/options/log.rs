//! Where events are kept, how safely, how long.

use gush_log::DiskConfig;

use std::time::Duration;

use super::{Form, Group, OptionSpec, Value, Zero};
use crate::config::{LogSpec, SyncMode};

const ROW: OptionSpec = OptionSpec {
    group: Group::Log,
    ..OptionSpec::ROW
};
const NO_BOUND: Option<Zero> = Some(Zero {
    word: "none",
    means: "no bound",
});
const MAX_DAYS: Duration = Duration::from_hours(3650 * 24);

pub(super) const ROWS: &[OptionSpec] = &[
    OptionSpec {
        key: "log",
        form: Form::Log,
        default: "disk:./data",
        help: "Where events are kept: memory, or disk:DIR",
        why: "`disk:DIR` keeps events over a restart and a crash; the directory is made when \
              missing and belongs to one hub at a time. `memory` keeps only the window \
              (`window_bytes`, `window_events`) and forgets it on restart. NATS and Redis come in \
              a later release.",
        set: |s, v| {
            let text = v.text();
            s.log = text
                .strip_prefix("disk:")
                .map_or(LogSpec::Memory, |dir| LogSpec::Disk(dir.into()));
        },
        get: |s| match &s.log {
            LogSpec::Memory => Value::Text("memory".into()),
            LogSpec::Disk(dir) => Value::Text(format!("disk:{}", dir.display())),
        },
        ..ROW
    },
    OptionSpec {
        key: "sync",
        form: Form::Choice(&["batch", "interval", "off"]),
        default: "batch",
        help: "When a publish counts as stored: batch, interval or off",
        why: "`batch`: the answer waits for an fsync, shared by all publishes that arrived \
              meanwhile; an acknowledged event survives a power cut. `interval`: the answer comes \
              after the write, and a power cut (not a crash of the hub) may lose the last \
              `sync_interval`. `off`: the kernel decides when. The default is the one that loses \
              nothing.",
        set: |s, v| {
            s.sync = match v.text().as_str() {
                "off" => SyncMode::Off,
                "interval" => SyncMode::Interval,
                _ => SyncMode::Batch,
            };
        },
        get: |s| {
            let word = match s.sync {
                SyncMode::Batch => "batch",
                SyncMode::Interval => "interval",
                SyncMode::Off => "off",
            };
            Value::Text(word.into())
        },
        ..ROW
    },
    OptionSpec {
        key: "sync_interval",
        form: Form::Duration {
            min: Duration::from_millis(10),
            max: Duration::from_mins(1),
            zero: None,
        },
        default: "1s",
        help: "Time between two fsyncs with sync = interval",
        why: "What a power cut may cost at most. Unused with the other values of `sync`.",
        set: |s, v| s.sync_interval = v.duration(),
        get: |s| Value::Duration(s.sync_interval),
        ..ROW
    },
    OptionSpec {
        key: "segment_bytes",
        form: Form::Bytes {
            min: 64 << 10,
            max: DiskConfig::SEGMENT_BYTES_MAX,
            zero: None,
        },
        default: "64MiB",
        help: "Size at which a segment file of the disk log is closed",
        why: "Retention drops whole segments, so this is also the grain of retention. Larger \
              files mean fewer of them and a longer check of the last one after a crash.",
        set: |s, v| s.segment_bytes = v.some_number().unwrap_or_default(),
        get: |s| Value::Number(s.segment_bytes),
        ..ROW
    },
    OptionSpec {
        key: "retention_bytes",
        form: Form::Bytes {
            min: 64 << 10,
            max: 1 << 50,
            zero: NO_BOUND,
        },
        default: "4GiB",
        help: "Drop the oldest segments when the disk log is larger than this",
        why: "A log without a bound fills the disk one day, so there is one. It must hold at \
              least one segment (`segment_bytes`).",
        set: |s, v| s.retention_bytes = v.some_number(),
        get: |s| Value::from_number(s.retention_bytes),
        ..ROW
    },
    OptionSpec {
        key: "retention_age",
        form: Form::Duration {
            min: Duration::from_secs(1),
            max: MAX_DAYS,
            zero: NO_BOUND,
        },
        default: "none",
        help: "Drop segments whose newest event is older than this",
        why: "No bound by default: `retention_bytes` already bounds the disk, and a subscriber \
              that comes back late should find what it missed.",
        set: |s, v| s.retention_age = v.some_duration(),
        get: |s| Value::from_duration(s.retention_age),
        ..ROW
    },
    OptionSpec {
        key: "retention_events",
        form: Form::Count {
            min: 1,
            max: 1 << 48,
            zero: NO_BOUND,
        },
        default: "none",
        help: "Drop the oldest segments when the rest still holds this many events",
        why: "No bound by default, as for age. Whole segments are dropped, so more events than \
              this may be kept.",
        set: |s, v| s.retention_events = v.some_number(),
        get: |s| Value::from_number(s.retention_events),
        ..ROW
    },
    OptionSpec {
        key: "window_bytes",
        form: Form::Bytes {
            min: 64 << 10,
            max: 64 << 30,
            zero: None,
        },
        default: "64MiB",
        help: "Bytes of the newest events that are kept in memory",
        why: "Live subscribers, slow ones and short reconnects are served from here without \
              touching the disk. With `log = memory` it is all the history there is.",
        set: |s, v| s.window_bytes = v.size(),
        get: |s| Value::from_size(s.window_bytes),
        ..ROW
    },
    OptionSpec {
        key: "window_events",
        form: Form::Count {
            min: 16,
            max: 1 << 24,
            zero: None,
        },
        default: "65536",
        help: "Number of the newest events that are kept in memory",
        why: "The second bound of the window, for small events; whichever is met first counts.",
        set: |s, v| s.window_events = v.size(),
        get: |s| Value::from_size(s.window_events),
        ..ROW
    },
];
