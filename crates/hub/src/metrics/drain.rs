//! How far a drain is.

use super::{Kind, Metric, open_streams};

pub(super) const DRAINING: Metric = Metric {
    name: "gush_draining",
    kind: Kind::Gauge,
    labels: "",
    help: "1 while the hub ends its streams before it stops.",
    write: |_, readings, page| page.count("", u64::from(readings.draining)),
};

pub(super) const LEFT: Metric = Metric {
    name: "gush_drain_left",
    kind: Kind::Gauge,
    labels: "",
    help: "Streams that are still to be closed: by `gush drain`, or all that are open once the hub \
           ends.",
    write: |metrics, readings, page| {
        let left = if readings.draining {
            open_streams(metrics)
        } else {
            readings.drain_left
        };
        page.count("", left);
    },
};
