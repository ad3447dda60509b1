//! Start, stop, log lines.

use std::time::Duration;

use super::{Form, Group, OptionSpec, Value, Zero};
use crate::config::{LogFormat, LogLevel, StreamLogSpec};

const ROW: OptionSpec = OptionSpec {
    group: Group::Operation,
    ..OptionSpec::ROW
};

pub(super) const ROWS: &[OptionSpec] = &[
    OptionSpec {
        key: "drain_delay",
        form: Form::Duration {
            min: Duration::from_millis(1),
            max: Duration::from_mins(30),
            zero: Some(Zero {
                word: "0",
                means: "no delay",
            }),
        },
        default: "0",
        reloadable: true,
        help: "How long after SIGTERM all goes on as before but /readyz, which says 503",
        why: "Time for a balancer to notice, so that those whose streams are closed do not come \
              back to the same hub. As long as its health check takes: interval times failures. \
              Without a balancer there is nobody to wait for.",
        set: |s, v| s.drain_delay = v.duration(),
        get: |s| Value::from_duration(Some(s.drain_delay)),
        ..ROW
    },
    OptionSpec {
        key: "drain_window",
        form: Form::Duration {
            min: Duration::from_millis(1),
            max: Duration::from_mins(30),
            zero: Some(Zero {
                word: "0",
                means: "close all at once",
            }),
        },
        default: "20s",
        reloadable: true,
        help: "Time over which streams are closed after SIGTERM",
        why: "Spreads the reconnects. Below the 30 s that Kubernetes gives a process by default.",
        set: |s, v| s.drain_window = v.duration(),
        get: |s| Value::from_duration(Some(s.drain_window)),
        ..ROW
    },
    OptionSpec {
        key: "stream_log",
        form: Form::StreamLog,
        default: "stdout",
        help: "Where streams' begins and ends are recorded: off, stdout, stderr or a file",
        why: "What the access log is to a web server, and like there it is on and apart from the \
              hub's own log lines, which go to stderr. Records are written by a thread of their \
              own; when nobody takes them they are dropped and counted \
              (`gush_stream_log_dropped_total`), and no stream waits. SIGHUP opens a file anew, \
              for rotation.",
        set: |s, v| {
            s.stream_log = match v.text().as_str() {
                "off" => StreamLogSpec::Off,
                "stdout" => StreamLogSpec::Stdout,
                "stderr" => StreamLogSpec::Stderr,
                path => StreamLogSpec::File(path.into()),
            };
        },
        get: |s| {
            Value::Text(match &s.stream_log {
                StreamLogSpec::Off => "off".into(),
                StreamLogSpec::Stdout => "stdout".into(),
                StreamLogSpec::Stderr => "stderr".into(),
                StreamLogSpec::File(path) => path.display().to_string(),
            })
        },
        ..ROW
    },
    OptionSpec {
        key: "stream_log_format",
        form: Form::Choice(&["text", "json"]),
        default: "text",
        help: "Form of the stream log's records: text or json",
        why: "Text (`key=value`) for people; JSON, an object on each line, for a log collector.",
        set: |s, v| s.stream_log_format = log_format(v),
        get: |s| shown_format(s.stream_log_format),
        ..ROW
    },
    OptionSpec {
        key: "upgrade_timeout",
        form: Form::Duration {
            min: Duration::from_millis(100),
            max: Duration::from_mins(10),
            zero: None,
        },
        default: "30s",
        reloadable: true,
        help: "Time that a new process has for each step of an upgrade",
        why: "A new binary that does not come up is killed, and the old process goes on. While it \
              opens the log, connections and publishes wait: a large log after an unclean end may \
              take seconds.",
        set: |s, v| s.upgrade_timeout = v.duration(),
        get: |s| Value::from_duration(Some(s.upgrade_timeout)),
        ..ROW
    },
    OptionSpec {
        key: "log_format",
        form: Form::Choice(&["text", "json"]),
        default: "text",
        help: "Form of the log lines on stderr: text or json",
        why: "Text for people; JSON for a log collector.",
        set: |s, v| s.log_format = log_format(v),
        get: |s| shown_format(s.log_format),
        ..ROW
    },
    OptionSpec {
        key: "log_level",
        form: Form::Choice(&["error", "warn", "info", "debug", "trace"]),
        default: "info",
        reloadable: true,
        help: "Least severe log record written: error, warn, info, debug or trace",
        why: "Info says what the hub did; it does not grow with the number of connections.",
        set: |s, v| {
            s.log_level = match v.text().as_str() {
                "error" => LogLevel::Error,
                "warn" => LogLevel::Warn,
                "debug" => LogLevel::Debug,
                "trace" => LogLevel::Trace,
                _ => LogLevel::Info,
            };
        },
        get: |s| Value::Text(s.log_level.name().into()),
        ..ROW
    },
    OptionSpec {
        key: "dev",
        form: Form::Switch,
        default: "false",
        help: "For trying out: a key is made, anonymous and subscriptions on, commands shown",
        why: "The key is random and kept in the log's directory (`dev.key`), so that tokens \
              survive a restart. Not for a hub that others can reach.",
        set: |s, v| s.dev = v.switch(),
        get: |s| Value::Switch(s.dev),
        ..ROW
    },
];

fn log_format(value: Value) -> LogFormat {
    if value.text() == "json" {
        LogFormat::Json
    } else {
        LogFormat::Text
    }
}

fn shown_format(format: LogFormat) -> Value {
    let is_json = format == LogFormat::Json;
    Value::Text(if is_json { "json" } else { "text" }.into())
}
