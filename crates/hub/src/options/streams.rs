//! What a subscriber's stream looks like.

use std::time::Duration;

use super::{Form, Group, OptionSpec, Value, Zero};
use crate::flush::{FLUSH_BATCH_MAX, FLUSH_INTERVAL_MAX};

const ROW: OptionSpec = OptionSpec {
    group: Group::Streams,
    reloadable: true,
    ..OptionSpec::ROW
};
const KERNEL: Option<Zero> = Some(Zero {
    word: "0",
    means: "the kernel's own",
});

pub(super) const ROWS: &[OptionSpec] = &[
    OptionSpec {
        key: "heartbeat",
        form: Form::Duration {
            min: Duration::from_millis(100),
            max: Duration::from_mins(10),
            zero: Some(Zero {
                word: "off",
                means: "no heartbeats",
            }),
        },
        default: "25s",
        help: "Silence after which a stream gets a comment line",
        why: "Many proxies close a connection that is silent for 30 s or 60 s; 25 s stays below \
              the first with room for delay. It also finds subscribers that vanished.",
        set: |s, v| s.heartbeat = v.duration(),
        get: |s| Value::from_duration(Some(s.heartbeat)),
        ..ROW
    },
    OptionSpec {
        key: "retry",
        form: Form::Duration {
            min: Duration::from_millis(1),
            max: Duration::from_mins(10),
            zero: Some(Zero {
                word: "off",
                means: "not sent",
            }),
        },
        default: "2s",
        help: "Delay before a reconnect that streams tell their subscriber",
        why: "Each subscriber gets its own value within ±50 %, so that those who lost their \
              stream together do not come back together. With more streams than `comeback_rate` \
              can take in again within this time the window is wider, up to `retry_max`. Browsers \
              on their own wait 3 s or 5 s, all the same.",
        set: |s, v| s.retry = v.duration(),
        get: |s| Value::from_duration(Some(s.retry)),
        ..ROW
    },
    OptionSpec {
        key: "write_timeout",
        form: Form::Duration {
            min: Duration::from_millis(100),
            max: Duration::from_hours(1),
            zero: None,
        },
        default: "30s",
        help: "Close a subscriber that takes no byte for this long while some wait for it",
        why: "A slow subscriber costs nothing but its place, so it gets time; it resumes by its \
              last event id. Counted from the last byte the kernel took, not from the start of \
              the stream.",
        set: |s, v| s.write_timeout = v.duration(),
        get: |s| Value::Duration(s.write_timeout),
        ..ROW
    },
    OptionSpec {
        key: "tcp_user_timeout",
        form: Form::Duration {
            min: Duration::from_secs(1),
            max: Duration::from_hours(1),
            zero: KERNEL,
        },
        default: "20s",
        reloadable: false,
        help: "How long sent bytes may stay unacknowledged before the peer counts as vanished",
        why: "TCP_USER_TIMEOUT of every accepted socket. A peer that left without a word is gone \
              after heartbeat + this; the kernel's own value is about 15 minutes.",
        set: |s, v| s.tcp_user_timeout = v.duration(),
        get: |s| Value::from_duration(Some(s.tcp_user_timeout)),
        ..ROW
    },
    OptionSpec {
        key: "send_buffer",
        form: Form::Bytes {
            min: 4 << 10,
            max: 16 << 20,
            zero: KERNEL,
        },
        default: "64KiB",
        reloadable: false,
        help: "Send buffer of a subscriber's socket",
        why: "SO_SNDBUF. The kernel's own grows to 4 MiB for a subscriber that does not read, \
              which is memory nobody budgets for; 64 KiB holds a burst for a far-away reader.",
        set: |s, v| s.send_buffer = v.size(),
        get: |s| Value::from_size(s.send_buffer),
        ..ROW
    },
    OptionSpec {
        key: "max_stream_life",
        form: Form::Duration {
            min: Duration::from_secs(1),
            max: Duration::from_hours(720),
            zero: Some(Zero {
                word: "none",
                means: "no bound",
            }),
        },
        default: "none",
        help: "Close a stream after this time, each at its own moment in the last fifth",
        why: "No bound by default: nothing in the hub needs it. Set it when a load balancer should \
              rebalance, or when a proxy cuts long connections anyway.",
        set: |s, v| s.max_stream_life = v.some_duration(),
        get: |s| Value::from_duration(s.max_stream_life),
        ..ROW
    },
    OptionSpec {
        key: "flush_interval",
        form: Form::Duration {
            min: Duration::from_millis(1),
            max: FLUSH_INTERVAL_MAX,
            zero: Some(Zero {
                word: "off",
                means: "events leave at once",
            }),
        },
        default: "off",
        help: "Hold events back for this long, so that those of an interval leave together",
        why: "Off: an event leaves at once, and what comes while others are being sent leaves in \
              one write by itself, so batches grow with the load. An interval trades latency for \
              fewer packets at middling rates.",
        set: |s, v| s.flush_interval = v.duration(),
        get: |s| Value::from_duration(Some(s.flush_interval)),
        ..ROW
    },
    OptionSpec {
        key: "flush_batch",
        form: Form::Count {
            min: 1,
            max: FLUSH_BATCH_MAX as u64,
            zero: Some(Zero {
                word: "none",
                means: "only the interval counts",
            }),
        },
        default: "100",
        help: "Let held events go before the interval is over when this many are held",
        why: "Counts only with an interval. A hundred is what one write still takes gladly.",
        set: |s, v| s.flush_batch = u32::try_from(v.size()).unwrap_or(FLUSH_BATCH_MAX),
        get: |s| Value::from_size(s.flush_batch as usize),
        ..ROW
    },
    OptionSpec {
        key: "flush_topic",
        file_alias: Some("flush_topics"),
        form: Form::FlushTopics,
        help: "Interval for some topics, MATCHER=INTERVAL[/BATCH]; may be given several times",
        why: "The first rule that one of an event's topics matches counts; `0` lets its events \
              leave at once. Other topics follow the server's own interval.",
        set: |s, v| s.flush_topics = v.list(),
        get: |s| Value::from_list(&s.flush_topics),
        ..ROW
    },
    OptionSpec {
        key: "conflate_topic",
        file_alias: Some("conflate_topics"),
        form: Form::Matchers,
        help: "Topics of which readers that are behind get only the newest event; may be repeated",
        why: "For values of which only the last one counts: prices, positions, counters. Whoever \
              keeps up gets all of them. A publisher can ask for the same with `gush_latest`, and \
              keep several values of a topic apart with `gush_key`.",
        set: |s, v| s.conflate_topics = v.list(),
        get: |s| Value::from_list(&s.conflate_topics),
        ..ROW
    },
];
