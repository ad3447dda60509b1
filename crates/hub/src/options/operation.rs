//! Start, stop, log lines.

use std::time::Duration;

use super::{Form, Group, OptionSpec, Value, Zero};
use crate::config::{LogFormat, LogLevel};

const ROW: OptionSpec = OptionSpec {
    group: Group::Operation,
    ..OptionSpec::ROW
};

pub(super) const ROWS: &[OptionSpec] = &[
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
        key: "log_format",
        form: Form::Choice(&["text", "json"]),
        default: "text",
        help: "Form of the log lines on stderr: text or json",
        why: "Text for people; JSON for a log collector.",
        set: |s, v| {
            s.log_format = if v.text() == "json" {
                LogFormat::Json
            } else {
                LogFormat::Text
            };
        },
        get: |s| {
            let is_json = s.log_format == LogFormat::Json;
            Value::Text(if is_json { "json" } else { "text" }.into())
        },
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
