//! What the hub does at its limits: the rows of the catalogue that belong together.

use gush_middleware::BreakerState;

use super::{Kind, Metric};
use crate::pressure::Source;

pub(super) const CONNECTIONS_REFUSED: Metric = Metric {
    name: "gush_connections_refused_total",
    kind: Kind::Counter,
    labels: "head = read, unread, spare",
    help: "Connections over the limit, of the public and of the admin listener, and those that \
           come while the hub ends. Those whose head is read are refused in their own way; \
           when too many are being read, the rest gets a plain 503, or nothing under TLS. \
           `spare`: read one after the other, because descriptors ran out.",
    write: |metrics, _, page| {
        for (head, count) in ["read", "unread", "spare"].iter().zip(&metrics.over_limit) {
            page.count(&format!("{{head=\"{head}\"}}"), count.value());
        }
    },
};

pub(super) const ACCEPT_ERRORS: Metric = Metric {
    name: "gush_accept_errors_total",
    kind: Kind::Counter,
    labels: "reason = descriptors, other",
    help: "Accepts that failed: because descriptors ran out, or for another reason. Each is \
           followed by an answer to a waiting connection or by a pause.",
    write: |metrics, _, page| {
        let reasons = ["descriptors", "other"];
        for (reason, count) in reasons.iter().zip(&metrics.accept_errors) {
            page.count(&format!("{{reason=\"{reason}\"}}"), count.value());
        }
    },
};

pub(super) const BROWNOUT_STEP: Metric = Metric {
    name: "gush_brownout_step",
    kind: Kind::Gauge,
    labels: "",
    help: "What is given up because the hub is pressed, each with all before it: 0 nothing, 1 \
           new anonymous streams, 2 all new streams, 3 publishes, 4 the slowest readers.",
    write: |metrics, _, page| page.count("", metrics.pressure.step.load() as u64),
};

pub(super) const BROWNOUT_CHANGES: Metric = Metric {
    name: "gush_brownout_changes_total",
    kind: Kind::Counter,
    labels: "direction = up, down",
    help: "Steps of the brownout that were taken.",
    write: |metrics, _, page| {
        for (direction, count) in ["up", "down"].iter().zip(&metrics.pressure.changes) {
            page.count(&format!("{{direction=\"{direction}\"}}"), count.value());
        }
    },
};

pub(super) const PRESSURE_RATIO: Metric = Metric {
    name: "gush_pressure_ratio",
    kind: Kind::Gauge,
    labels: "source = turn, memory, descriptors, log, intake",
    help: "What presses on the hub, as a multiple of where its first brownout step begins; 0 \
           for a source that does not count.",
    write: |metrics, _, page| {
        for source in Source::ALL {
            let label = format!("{{source=\"{}\"}}", source.name());
            page.value(&label, metrics.pressure.ratio(source));
        }
    },
};

pub(super) const BREAKER_STATE: Metric = Metric {
    name: "gush_breaker_state",
    kind: Kind::Gauge,
    labels: "remote = publisher_keys, subscriber_keys",
    help: "What the breaker around a remote part lets through: 0 everything, 1 one probe, 2 \
           nothing. Only for keys that come from a URL.",
    write: |_, readings, page| {
        let remotes = ["publisher_keys", "subscriber_keys"];
        for (remote, state) in remotes.iter().zip(readings.breakers) {
            if let Some(state) = state {
                let level = match state {
                    BreakerState::Closed => 0,
                    BreakerState::HalfOpen => 1,
                    BreakerState::Open => 2,
                };
                page.count(&format!("{{remote=\"{remote}\"}}"), level);
            }
        }
    },
};
