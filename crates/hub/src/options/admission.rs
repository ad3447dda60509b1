//! How much of the hub one address, one token's subject and one topic may have, and all together.

use std::time::Duration;

use super::{Form, Group, OptionSpec, Value, Zero};

const ROW: OptionSpec = OptionSpec {
    group: Group::Limits,
    reloadable: true,
    ..OptionSpec::ROW
};

const OFF: Option<Zero> = Some(Zero {
    word: "0",
    means: "no limit",
});
const COUNT: Form = Form::Count {
    min: 1,
    max: 1 << 24,
    zero: OFF,
};
const RATE: Form = Form::Count {
    min: 1,
    max: 1_000_000,
    zero: OFF,
};
const BURST: Form = Form::Count {
    min: 1,
    max: 1 << 24,
    zero: Some(Zero {
        word: "0",
        means: "three times the rate",
    }),
};

pub(super) const ROWS: &[OptionSpec] = &[
    OptionSpec {
        key: "max_connections_per_address",
        form: COUNT,
        default: "0",
        help: "Most connections of one address (or IPv6 /64) at a time; more get 429",
        why: "Off by default: a whole office behind one address, or a proxy that `trusted_proxy` \
              does not list, would be one client. Each stream of HTTP/2 beyond the first counts \
              too. What is open is counted always, so that a limit that is set later holds at \
              once. See `exempt_network`.",
        set: |s, v| s.limits.connections_per_address = v.some_number(),
        get: |s| Value::from_number(s.limits.connections_per_address),
        ..ROW
    },
    OptionSpec {
        key: "max_connections_per_subject",
        form: COUNT,
        default: "0",
        help: "Most streams at a time of tokens with the same `sub`; more get 429",
        why: "Off by default: only the application knows whether a subject is a person with some \
              tabs or a service with a thousand streams. Subscribers without a token, or whose \
              token has no `sub`, are not counted here.",
        set: |s, v| s.limits.connections_per_subject = v.some_number(),
        get: |s| Value::from_number(s.limits.connections_per_subject),
        ..ROW
    },
    OptionSpec {
        key: "accept_rate",
        form: RATE,
        default: "0",
        help: "Streams per second that may begin, of all clients together",
        why: "Off by default: the hub takes thousands of streams a second, and sheds load by what \
              it measures. Set it where something behind the subscribers is slower, such as the \
              application that answers their page views after a reconnect.",
        set: |s, v| s.limits.accept.per_second = v.count(),
        get: |s| Value::from_count(s.limits.accept.per_second),
        ..ROW
    },
    OptionSpec {
        key: "accept_burst",
        form: BURST,
        default: "0",
        help: "Streams that may begin at once after a pause, with accept_rate",
        why: "Two to five times the mean of a busy second takes the peaks of usual days.",
        set: |s, v| s.limits.accept.burst = v.count(),
        get: |s| Value::from_count(s.limits.accept.burst),
        ..ROW
    },
    OptionSpec {
        key: "accept_rate_per_address",
        form: RATE,
        default: "0",
        help: "Streams per second that may begin from one address (or IPv6 /64)",
        why: "Off by default, for the reasons of `max_connections_per_address`. Tokens are not \
              looked at before this, so it also bounds the signatures that an address can have \
              checked by asking for streams; a HEAD counts as a GET does. 10 to 50 suit most \
              audiences.",
        set: |s, v| s.limits.accept_per_address.per_second = v.count(),
        get: |s| Value::from_count(s.limits.accept_per_address.per_second),
        ..ROW
    },
    OptionSpec {
        key: "accept_burst_per_address",
        form: BURST,
        default: "0",
        help: "Streams that may begin at once from one address, with accept_rate_per_address",
        why: "As `accept_burst`. After a deploy a whole office comes back at once.",
        set: |s, v| s.limits.accept_per_address.burst = v.count(),
        get: |s| Value::from_count(s.limits.accept_per_address.burst),
        ..ROW
    },
    OptionSpec {
        key: "accept_rate_per_subject",
        form: RATE,
        default: "0",
        help: "Streams per second that may begin with tokens of the same `sub`",
        why: "Off by default, for the reasons of `max_connections_per_subject`.",
        set: |s, v| s.limits.accept_per_subject.per_second = v.count(),
        get: |s| Value::from_count(s.limits.accept_per_subject.per_second),
        ..ROW
    },
    OptionSpec {
        key: "accept_burst_per_subject",
        form: BURST,
        default: "0",
        help: "Streams that may begin at once with one `sub`, with accept_rate_per_subject",
        why: "As `accept_burst`.",
        set: |s, v| s.limits.accept_per_subject.burst = v.count(),
        get: |s| Value::from_count(s.limits.accept_per_subject.burst),
        ..ROW
    },
    OptionSpec {
        key: "exempt_network",
        file_alias: Some("exempt_networks"),
        form: Form::Networks,
        help: "Network that the limits per address leave alone; may be given several times",
        why: "Not set: everybody is counted. For offices, test machines and load generators. The \
              limits of the whole hub and per subject hold for them too.",
        set: |s, v| s.limits.exempt_networks = v.list(),
        get: |s| Value::from_list(&s.limits.exempt_networks),
        ..ROW
    },
    OptionSpec {
        key: "publish_rate_per_publisher",
        form: RATE,
        default: "0",
        help: "Events that one publisher may publish per publish_window; more get 429",
        why: "Off by default: publishers have a token, so they are the operator's. A publisher is \
              the `sub` of its token, or its address where the token has none. Each event of a \
              batch counts.",
        set: |s, v| s.limits.publish_per_publisher = v.count(),
        get: |s| Value::from_count(s.limits.publish_per_publisher),
        ..ROW
    },
    OptionSpec {
        key: "publish_rate_per_topic",
        form: RATE,
        default: "0",
        help: "Events that may be published to one topic per publish_window; more get 429",
        why: "Off by default. Each of an event's topics counts, whoever publishes.",
        set: |s, v| s.limits.publish_per_topic = v.count(),
        get: |s| Value::from_count(s.limits.publish_per_topic),
        ..ROW
    },
    OptionSpec {
        key: "publish_window",
        form: Form::Duration {
            min: Duration::from_millis(100),
            max: Duration::from_hours(1),
            zero: None,
        },
        default: "1s",
        help: "Length of the sliding window of the publish rates",
        why: "A longer window with a higher rate lets short peaks pass.",
        set: |s, v| s.limits.publish_window = v.duration(),
        get: |s| Value::Duration(s.limits.publish_window),
        ..ROW
    },
    OptionSpec {
        key: "max_topics_per_stream",
        form: Form::Count {
            min: 1,
            max: 1000,
            zero: None,
        },
        default: "1000",
        help: "Most topics and selectors of one subscribe; more get 400",
        why: "The protocol's own bound. Each costs the hub some hundred bytes and a place in the \
              matcher tables.",
        set: |s, v| s.limits.topics_per_stream = v.size(),
        get: |s| Value::from_size(s.limits.topics_per_stream),
        ..ROW
    },
    OptionSpec {
        key: "max_in_flight_events",
        form: Form::Count {
            min: 1,
            max: 1 << 20,
            zero: None,
        },
        default: "65536",
        help: "Most events that wait for the disk log; more get 503",
        why: "Sixteen of the log's batches. A publisher that would wait longer is better told. A \
              memory log lets nothing wait.",
        set: |s, v| s.limits.in_flight_events = v.size(),
        get: |s| Value::from_size(s.limits.in_flight_events),
        ..ROW
    },
    OptionSpec {
        key: "max_in_flight_bytes",
        form: Form::Bytes {
            min: 64 << 10,
            max: 1 << 30,
            zero: None,
        },
        default: "64MiB",
        help: "Most bytes of events that wait for the disk log; more get 503",
        why: "What a slow disk may cost in memory. One event of any size may wait alone.",
        set: |s, v| s.limits.in_flight_bytes = v.size(),
        get: |s| Value::from_size(s.limits.in_flight_bytes),
        ..ROW
    },
    OptionSpec {
        key: "max_in_flight_events_per_publisher",
        form: Form::Count {
            min: 1,
            max: 1 << 20,
            zero: OFF,
        },
        default: "0",
        help: "Most events of one publisher that wait for the disk log; more get 429",
        why: "Off by default: often there is one publisher, and all of the hub is its share. Set \
              it where a flood of one must not get the others a 503.",
        set: |s, v| s.limits.in_flight_events_per_publisher = v.some_number(),
        get: |s| Value::from_number(s.limits.in_flight_events_per_publisher),
        ..ROW
    },
    OptionSpec {
        key: "max_in_flight_bytes_per_publisher",
        form: Form::Bytes {
            min: 64 << 10,
            max: 1 << 30,
            zero: OFF,
        },
        default: "0",
        help: "Most bytes of one publisher's events that wait for the disk log; more get 429",
        why: "As `max_in_flight_events_per_publisher`. One event of any size may wait alone.",
        set: |s, v| s.limits.in_flight_bytes_per_publisher = v.some_number(),
        get: |s| Value::from_number(s.limits.in_flight_bytes_per_publisher),
        ..ROW
    },
];
