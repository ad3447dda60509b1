//! The charts of a run, drawn by the library behind `gush bench`.

use gush_bench::report::{Chart, Series, Shape};

use super::runs::{Peer, Run};

/// A chart: its file, its title, its unit, and the bars of each peer: scenario, key, name.
struct Plan {
    file: &'static str,
    title: &'static str,
    unit: &'static str,
    bars: &'static [(&'static str, &'static str, &'static str)],
}

const CPU: &str = "server_cpu_us_per_delivery";

/// The first two stand on the front page.
const PLANS: [Plan; 5] = [
    Plan {
        file: "cpu.svg",
        title: "CPU of the server per delivery, 10,000 streams (less is better)",
        unit: "us",
        bars: &[
            ("fanout-10000-window-1", CPU, "1 event in flight"),
            ("fanout-10000-window-4", CPU, "4 events in flight"),
            ("fanout-10000-every-1s", CPU, "an event every second"),
        ],
    },
    Plan {
        file: "memory.svg",
        title: "Memory of the server per idle stream (less is better)",
        unit: "bytes",
        bars: &[(
            "idle-10000",
            "server_rss_bytes_per_stream",
            "10,000 streams",
        )],
    },
    Plan {
        file: "throughput.svg",
        title: "Deliveries per second on one core, 10,000 streams (more is better)",
        unit: "deliveries/s",
        bars: &[
            (
                "fanout-10000-window-1",
                "deliveries_per_second",
                "1 event in flight",
            ),
            (
                "fanout-10000-window-4",
                "deliveries_per_second",
                "4 events in flight",
            ),
        ],
    },
    Plan {
        file: "latency.svg",
        title: "Publish to receive at 10,000 streams, 99th percentile (less is better)",
        unit: "us",
        bars: &[
            (
                "fanout-10000-every-1s",
                "latency_p99_us",
                "an event every second",
            ),
            (
                "fanout-10000-every-100ms",
                "latency_p99_us",
                "an event every 100 ms",
            ),
        ],
    },
    Plan {
        file: "first-byte.svg",
        title: "Connect to first byte at 1,000 connections a second (less is better)",
        unit: "us",
        bars: &[
            ("connect-1500", "first_byte_p50_us", "median"),
            ("connect-1500", "first_byte_p99_us", "99th percentile"),
        ],
    },
];

/// Every chart that has a bar, with the name of its file.
pub(super) fn all(run: &Run) -> Vec<(&'static str, Chart)> {
    PLANS
        .iter()
        .filter_map(|plan| Some((plan.file, chart(run, plan)?)))
        .collect()
}

fn chart(run: &Run, plan: &Plan) -> Option<Chart> {
    // A bar is missing where a peer has no figure; then its whole group is left out, because bars
    // are matched to their labels by place.
    let values = |peer: &Peer| -> Option<Vec<f64>> {
        let bars = plan.bars.iter();
        bars.map(|(scenario, key, _)| Some(run.figure(scenario, &peer.name, key)?.median))
            .collect()
    };
    let groups: Vec<(String, Vec<f64>)> = run
        .peers
        .iter()
        .filter_map(|peer| Some((label(run, plan, peer), values(peer)?)))
        .collect();
    if groups.is_empty() {
        return None;
    }
    let series = plan.bars.iter().enumerate().map(|(bar, (_, _, name))| {
        let points = (0u32..).zip(&groups);
        Series {
            chart: plan.title.to_owned(),
            name: (*name).to_owned(),
            x_unit: String::new(),
            y_unit: plan.unit.to_owned(),
            shape: Shape::Bars,
            labels: groups.iter().map(|(label, _)| label.clone()).collect(),
            points: points
                .map(|(place, (_, values))| (f64::from(place), values[bar]))
                .collect(),
        }
    });
    Some(Chart::new(plan.title, series.collect()))
}

/// A short bar of a server that did not do all of its work has to say so.
fn label(run: &Run, plan: &Plan, peer: &Peer) -> String {
    let mut scenarios = plan.bars.iter().map(|(scenario, ..)| scenario);
    if scenarios.any(|scenario| run.failures(scenario, &peer.name) > 0.0) {
        format!("{} (not all)", peer.title)
    } else {
        peer.title.clone()
    }
}
