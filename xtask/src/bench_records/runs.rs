//! The data of a run: its folder's raw reports, its peers, and the figures of earlier runs.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::Value;

/// One server of the comparison.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its folder in `bench/peers/`.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Whether this run measured it.
    pub is_measured: bool,
    /// Its versions, or why it was not measured.
    pub note: String,
}

/// A figure over the rounds of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figure {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// Figures of a peer in a scenario, by the names that `gush bench` gives them, one for each round.
type Rounds = BTreeMap<String, Vec<f64>>;

/// All that a run left behind.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub peers: Vec<Peer>,
    /// Where and when: the text of `machine.txt`.
    pub machine: String,
    /// Where the recorded figures come from.
    pub recorded_source: String,
    measured: BTreeMap<(String, String), Rounds>,
    recorded: BTreeMap<(String, String), Rounds>,
}

impl Run {
    /// Reads the folder that `bench/peers/run.sh` has written.
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let mut run = Self {
            machine: std::fs::read_to_string(folder.join("machine.txt"))?,
            ..Self::default()
        };
        let peers = std::fs::read_to_string(folder.join("peers.tsv"))?;
        run.peers = peers.lines().filter_map(peer).collect();
        for entry in std::fs::read_dir(folder.join("raw"))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let [scenario, peer, _round, "json"] = *name.split('.').collect::<Vec<_>>() {
                let report = json(&path)?;
                let key = (scenario.to_owned(), peer.to_owned());
                add(run.measured.entry(key).or_default(), &report["results"]);
            }
        }
        run.read_recorded(&json(&folder.join("recorded.json"))?);
        Ok(run)
    }

    fn read_recorded(&mut self, recorded: &Value) {
        self.recorded_source = text(&recorded["source"]);
        for peer in recorded["peers"].as_array().into_iter().flatten() {
            let scenarios = peer["figures"].as_object().into_iter().flatten();
            for (scenario, figures) in scenarios {
                let key = (scenario.clone(), text(&peer["name"]));
                add(self.recorded.entry(key).or_default(), figures);
            }
        }
    }

    /// A figure of this run.
    pub(super) fn figure(&self, scenario: &str, peer: &str, key: &str) -> Option<Figure> {
        figure(&self.measured, scenario, peer, key)
    }

    /// A figure that an earlier run recorded.
    pub(super) fn recorded(&self, scenario: &str, peer: &str, key: &str) -> Option<Figure> {
        figure(&self.recorded, scenario, peer, key)
    }

    /// Whether there is any recorded figure of this peer.
    pub(super) fn is_recorded(&self, peer: &str) -> bool {
        self.recorded.keys().any(|(_, name)| name == peer)
    }

    /// Deliveries and streams with which a peer failed in the worst round of a scenario.
    pub(super) fn failures(&self, scenario: &str, peer: &str) -> f64 {
        let worst = |key: &str| {
            self.figure(scenario, peer, key)
                .map_or(0.0, |figure| figure.max)
        };
        let keys = ["lost_count", "doubled_count", "reordered_count"];
        let keys = keys
            .iter()
            .chain(&["refused_count", "dropped_count", "publish_refused_count"]);
        keys.map(|key| worst(key)).sum()
    }

    /// The most rounds that any peer ran in any scenario.
    pub(super) fn rounds(&self) -> usize {
        let lengths = self.measured.values().flat_map(BTreeMap::values);
        lengths.map(Vec::len).max().unwrap_or_default()
    }
}

fn figure(
    figures: &BTreeMap<(String, String), Rounds>,
    scenario: &str,
    peer: &str,
    key: &str,
) -> Option<Figure> {
    let rounds = figures.get(&(scenario.to_owned(), peer.to_owned()))?;
    let mut values = rounds.get(key)?.clone();
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    let median = f64::midpoint(low, high);
    Some(Figure { median, min, max })
}

/// A line of `peers.tsv`: name, title, `run` or `skipped`, versions or the reason.
fn peer(line: &str) -> Option<Peer> {
    let [name, title, state, note] = *line.split('\t').collect::<Vec<_>>() else {
        return None;
    };
    Some(Peer {
        name: name.to_owned(),
        title: title.to_owned(),
        is_measured: state == "run",
        note: note.to_owned(),
    })
}

fn add(rounds: &mut Rounds, figures: &Value) {
    for (key, value) in figures.as_object().into_iter().flatten() {
        if let Some(value) = value.as_f64() {
            rounds.entry(key.clone()).or_default().push(value);
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn json(path: &Path) -> io::Result<Value> {
    let text = std::fs::read_to_string(path)?;
    serde_json::from_str(&text)
        .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}
