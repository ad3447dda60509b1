//! What the limits count.

use super::{Kind, Metric};
use crate::admit::Limit;

pub(super) const CONNECTIONS_MAX: Metric = Metric {
    name: "gush_connections_max",
    kind: Kind::Gauge,
    labels: "",
    help: "Most of them on the public listeners, as `max_connections` and the descriptors have \
           it now.",
    write: |_, readings, page| page.count("", readings.connections_max),
};

pub(super) const REFUSALS: Metric = Metric {
    name: "gush_limit_refusals_total",
    kind: Kind::Counter,
    labels: "limit = the option that set it",
    help: "Connections, streams and events that a limit refused; `max_in_flight` stands for \
           events and bytes alike, and so for those of a publisher. `max_connections` is the \
           limit of the public listeners.",
    write: |_, readings, page| {
        for limit in Limit::ALL {
            let refused = readings.refused[limit as usize];
            page.count(&format!("{{limit=\"{}\"}}", limit.name()), refused);
        }
    },
};

pub(super) const KEYS: Metric = Metric {
    name: "gush_limit_keys",
    kind: Kind::Gauge,
    labels: "of = addresses, subjects, rates, publishers, topics",
    help: "Keys that the limits tell apart now: addresses and subjects with something open, \
           addresses and subjects whose rate is remembered, publishers and topics whose \
           window is.",
    write: |_, readings, page| {
        let keys = readings.keys;
        for (of, count) in [
            ("addresses", keys.addresses),
            ("subjects", keys.subjects),
            ("rates", keys.rates),
            ("publishers", keys.publishers),
            ("topics", keys.topics),
        ] {
            page.count(&format!("{{of=\"{of}\"}}"), count as u64);
        }
    },
};

pub(super) const IN_FLIGHT_EVENTS: Metric = Metric {
    name: "gush_in_flight_events",
    kind: Kind::Gauge,
    labels: "",
    help: "Published events that wait for the disk log.",
    write: |_, readings, page| page.count("", readings.in_flight.0),
};

pub(super) const IN_FLIGHT_BYTES: Metric = Metric {
    name: "gush_in_flight_bytes",
    kind: Kind::Gauge,
    labels: "",
    help: "Bytes of the published events that wait for the disk log.",
    write: |_, readings, page| page.count("", readings.in_flight.1),
};
