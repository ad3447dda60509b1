//! What the hub does at its limits.

use std::time::Duration;

use super::{Form, Group, OptionSpec, Value};
use crate::config::Refusals;

const ROW: OptionSpec = OptionSpec {
    group: Group::Overload,
    reloadable: true,
    ..OptionSpec::ROW
};

pub(super) const ROWS: &[OptionSpec] = &[
    OptionSpec {
        key: "refusals",
        form: Form::Choice(&["soft", "hard"]),
        default: "soft",
        help: "How an event source is told \"not now\": soft (200 and a delay) or hard (a status)",
        why: "A browser's EventSource gives up for ever on a 429 or 503, and comes back by itself \
              after a stream that ends. Hard is for a proxy in front that counts on status codes \
              and answers browsers softly itself.",
        set: |s, v| {
            s.overload.refusals = match v.text().as_str() {
                "hard" => Refusals::Hard,
                _ => Refusals::Soft,
            };
        },
        get: |s| {
            let is_hard = s.overload.refusals == Refusals::Hard;
            Value::Text(if is_hard { "hard" } else { "soft" }.into())
        },
        ..ROW
    },
    OptionSpec {
        key: "retry_rate",
        form: Form::Count {
            min: 1,
            max: 1_000_000,
            zero: None,
        },
        default: "1000",
        help: "Clients that are asked back per second, once refused or without their stream",
        why: "Each refused client is told a delay from a window that is as wide as this rate needs \
              for all who are on their way back, and each open stream one from a window for all \
              streams, before it is lost. Low enough that their TLS handshakes leave room \
              for the streams that are open; raise it where clients come without TLS.",
        set: |s, v| s.overload.retry_rate = u32::try_from(v.size()).unwrap_or(u32::MAX),
        get: |s| Value::from_size(s.overload.retry_rate as usize),
        ..ROW
    },
    OptionSpec {
        key: "retry_max",
        form: Form::Duration {
            min: Duration::from_secs(2),
            max: Duration::from_hours(1),
            zero: None,
        },
        default: "1m",
        help: "Widest window of delays that clients are told, however many they are",
        why: "A page that shows nothing new for longer than a minute is reloaded by its reader, \
              which is another connect.",
        set: |s, v| s.overload.retry_max = v.duration(),
        get: |s| Value::Duration(s.overload.retry_max),
        ..ROW
    },
    OptionSpec {
        key: "ended_topic",
        file_alias: Some("ended_topics"),
        form: Form::Matchers,
        help: "Topics that have ended, MATCHER; who asks for nothing else is told to stop (204)",
        why: "After a live event thousands of forgotten pages keep coming back. An event source \
              stops for good at a 204. Streams that are open go on.",
        set: |s, v| s.overload.ended_topics = v.list(),
        get: |s| Value::from_list(&s.overload.ended_topics),
        ..ROW
    },
];
