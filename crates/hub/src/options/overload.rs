//! What the hub does at its limits.

use std::time::Duration;

use super::{Form, Group, OptionSpec, Value, Zero};
use crate::config::Refusals;

const ROW: OptionSpec = OptionSpec {
    group: Group::Overload,
    reloadable: true,
    ..OptionSpec::ROW
};

const OFF: Option<Zero> = Some(Zero {
    word: "off",
    means: "does not count",
});
const PERCENT: Form = Form::Count {
    min: 1,
    max: 99,
    zero: OFF,
};

fn percent(value: Value) -> u32 {
    u32::try_from(value.size()).unwrap_or(99)
}

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
        help: "Refused clients that are asked back per second",
        why: "Each refused client is told a delay from a window that is as wide as this rate needs \
              for all who are on their way back. Low enough that their TLS handshakes leave room \
              for the streams that are open; raise it where clients come without TLS.",
        set: |s, v| s.overload.retry_rate = u32::try_from(v.size()).unwrap_or(u32::MAX),
        get: |s| Value::from_size(s.overload.retry_rate as usize),
        ..ROW
    },
    OptionSpec {
        key: "comeback_rate",
        form: Form::Count {
            min: 1,
            max: 1_000_000,
            zero: None,
        },
        default: "10000",
        help: "Streams that may begin again per second after all were lost in one moment",
        why: "Each open stream is told, before it is lost, a delay from a window that is as wide \
              as this rate needs for all of them. Who loses a stream alone waits as long: 1 to \
              6 s of 50,000. Two cores that had the clients on them as well took in 16,000 per \
              second without TLS. A lower rate spares a hub with TLS on few cores; a higher one \
              wants more cores.",
        set: |s, v| s.overload.comeback_rate = u32::try_from(v.size()).unwrap_or(u32::MAX),
        get: |s| Value::from_size(s.overload.comeback_rate as usize),
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
    OptionSpec {
        key: "memory_budget",
        form: Form::Bytes {
            min: 1 << 20,
            max: 1 << 50,
            zero: Some(Zero {
                word: "0",
                means: "the machine's, or its control group's",
            }),
        },
        default: "0",
        help: "Memory the hub may take, the kernel's for its sockets included",
        why: "What `brownout_memory` is a share of. Set it where other programs need their part of \
              the machine.",
        set: |s, v| s.overload.memory_budget = v.size(),
        get: |s| Value::from_size(s.overload.memory_budget),
        ..ROW
    },
    OptionSpec {
        key: "brownout_turn",
        form: Form::Duration {
            min: Duration::from_millis(10),
            max: Duration::from_mins(1),
            zero: OFF,
        },
        default: "250ms",
        help: "Longest turn of a shard at which the brownout begins; 2, 4, 8 times: its next steps",
        why: "A turn is what a new event waits for at most before it is seen. A shard looks around \
              every few milliseconds: a quarter of a second means that the cores are not enough.",
        set: |s, v| s.overload.brownout_turn = v.duration(),
        get: |s| Value::from_duration(Some(s.overload.brownout_turn)),
        ..ROW
    },
    OptionSpec {
        key: "brownout_memory",
        form: PERCENT,
        default: "80",
        help: "Percent of memory at which the brownout begins; the rest is divided among its steps",
        why: "The last step begins at 95 %, before the kernel ends the process.",
        set: |s, v| s.overload.brownout_memory = percent(v),
        get: |s| Value::from_size(s.overload.brownout_memory as usize),
        ..ROW
    },
    OptionSpec {
        key: "brownout_descriptors",
        form: PERCENT,
        default: "97",
        help: "Percent of the descriptors where the brownout begins; it goes to new streams only",
        why: "A hub with all of its `max_connections` open has its reserve left and is below. \
              Above, the reserve itself is being used.",
        set: |s, v| s.overload.brownout_descriptors = percent(v),
        get: |s| Value::from_size(s.overload.brownout_descriptors as usize),
        ..ROW
    },
    OptionSpec {
        key: "brownout_log",
        form: Form::Duration {
            min: Duration::from_millis(10),
            max: Duration::from_mins(10),
            zero: OFF,
        },
        default: "1s",
        help: "Longest wait for the log where the brownout begins; 2 and 4 times: its next steps",
        why: "A disk that answers in seconds has more to do than it can. Goes up to publishes: \
              ending streams makes no disk faster.",
        set: |s, v| s.overload.brownout_log = v.duration(),
        get: |s| Value::from_duration(Some(s.overload.brownout_log)),
        ..ROW
    },
    OptionSpec {
        key: "brownout_intake",
        form: PERCENT,
        default: "50",
        help: "Percent of the log's room for waiting events at which the brownout begins",
        why: "Full, the log refuses events one by one. Goes up to publishes, at 75 %, so that \
              publishers are sent away before their events are read.",
        set: |s, v| s.overload.brownout_intake = percent(v),
        get: |s| Value::from_size(s.overload.brownout_intake as usize),
        ..ROW
    },
    OptionSpec {
        key: "brownout_dwell",
        form: Form::Duration {
            min: Duration::from_millis(250),
            max: Duration::from_mins(10),
            zero: None,
        },
        default: "2s",
        help: "How long pressure lasts before the next brownout step; 5 times: before it recedes",
        why: "A peak of a second is what a broadcast or a slow sync is; what lasts is overload. \
              Back more slowly, because those who were refused come back with it.",
        set: |s, v| s.overload.brownout_dwell = v.duration(),
        get: |s| Value::Duration(s.overload.brownout_dwell),
        ..ROW
    },
];
