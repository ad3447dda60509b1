//! The tables: one per scenario in the run's folder, and one for the front page.

use std::fmt::Write as _;

use super::runs::{Figure, Peer, Run};
use super::scenarios::{Best, Column, FRONT, SCENARIOS, Unit, find, shown};

/// The best median of the peers that lost and refused nothing in the scenario.
fn best(run: &Run, scenario: &str, column: &Column) -> Option<f64> {
    let sound = run
        .peers
        .iter()
        .filter(|peer| run.failures(scenario, &peer.name) == 0.0);
    let medians = sound
        .filter_map(|peer| run.figure(scenario, &peer.name, column.key))
        .map(|figure| figure.median);
    match column.best {
        Best::Low => medians.reduce(f64::min),
        Best::High => medians.reduce(f64::max),
        Best::None => None,
    }
}

/// Whether the median is the best one. Medians that read alike are alike.
fn is_best(run: &Run, scenario: &str, peer: &Peer, column: &Column, median: f64) -> bool {
    let reads_best = best(run, scenario, column)
        .is_some_and(|best| shown(best, column.unit) == shown(median, column.unit));
    reads_best && run.failures(scenario, &peer.name) == 0.0
}

/// `README.md` of the run's folder.
pub(super) fn page(run: &Run) -> String {
    let mut page = String::from("# gush and its rivals in one run\n\n");
    let _ = write!(
        page,
        "Written by `cargo xtask bench-records` from `raw/`, which `make bench-peers` wrote. Every \
         server had one core, the\ngenerator (`gush bench`) another; 200-byte events, one topic, \
         HTTP/1.1 on loopback. Figures are medians of {},\nwith the lowest and the highest \
         behind them; **bold** is the best of a column among those that lost, doubled and\nrefused \
         nothing. CPU is the server's user and system time; memory is resident memory beyond what \
         the server had\nbefore the streams came. [What each was tuned with, and \
         why](../../../docs/concepts/rivals.md).\n\n## Servers\n\n",
        rounds(run)
    );
    for peer in &run.peers {
        let state = if peer.is_measured {
            ""
        } else {
            "not measured: "
        };
        let _ = writeln!(page, "- **{}**: {state}{}", peer.title, peer.note);
    }
    for (scenario, title, columns) in SCENARIOS {
        let _ = write!(page, "\n## {title}\n\n{}", detail(run, scenario, columns));
    }
    let _ = write!(page, "\n{}", recorded_note(run));
    page.push_str("## Charts\n\n");
    for (name, chart) in super::charts::all(run) {
        let _ = writeln!(page, "![{}]({name})", chart.title);
    }
    let _ = write!(
        page,
        "\n## Machine and commands\n\nThe commands of the first round are in `commands.txt`.\n\n\
         ```text\n{}\n```\n",
        run.machine.trim_end()
    );
    page
}

fn rounds(run: &Run) -> String {
    match run.rounds() {
        1 => "one round".to_owned(),
        count => format!("{count} rounds"),
    }
}

/// The table of one scenario: a row for each peer that has a figure in it.
fn detail(run: &Run, scenario: &str, columns: &[Column]) -> String {
    let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
    let mut table = format!(
        "| server | {} |\n| --- |{}\n",
        titles.join(" | "),
        " ---: |".repeat(columns.len())
    );
    for peer in &run.peers {
        let cells: Vec<String> = columns
            .iter()
            .map(
                |column| match run.figure(scenario, &peer.name, column.key) {
                    Some(figure) => {
                        let is_best = is_best(run, scenario, peer, column, figure.median);
                        with_range(figure, column.unit, is_best)
                    }
                    None => recorded_cell(run, scenario, peer, column),
                },
            )
            .collect();
        if cells.iter().any(|cell| cell != "-") {
            let _ = writeln!(
                table,
                "| {} | {} |",
                row_title(run, peer),
                cells.join(" | ")
            );
        }
    }
    table
}

fn with_range(figure: Figure, unit: Unit, is_best: bool) -> String {
    let median = emphasised(&shown(figure.median, unit), is_best);
    if figure.min.to_bits() == figure.max.to_bits() {
        return median;
    }
    let (min, max) = (shown(figure.min, unit), shown(figure.max, unit));
    format!("{median} ({min} to {max})")
}

fn recorded_cell(run: &Run, scenario: &str, peer: &Peer, column: &Column) -> String {
    let figure = run.recorded(scenario, &peer.name, column.key);
    let is_used = !peer.is_measured;
    figure
        .filter(|_| is_used)
        .map_or("-".to_owned(), |figure| shown(figure.median, column.unit))
}

fn row_title(run: &Run, peer: &Peer) -> String {
    if !peer.is_measured && run.is_recorded(&peer.name) {
        format!("{} (another run)", peer.title)
    } else {
        peer.title.clone()
    }
}

fn emphasised(text: &str, is_best: bool) -> String {
    if is_best {
        format!("**{text}**")
    } else {
        text.to_owned()
    }
}

fn recorded_note(run: &Run) -> String {
    let is_used = |peer: &&Peer| !peer.is_measured && run.is_recorded(&peer.name);
    if run.peers.iter().any(|peer| is_used(&peer)) {
        format!("\"Another run\": {}.\n\n", run.recorded_source)
    } else {
        String::new()
    }
}

/// The block of the front page: `place` is the run's folder from there.
pub(super) fn front(run: &Run, place: &str) -> String {
    let titles: Vec<&str> = FRONT.iter().map(|(_, _, title)| *title).collect();
    let mut block = format!(
        "| | {} |\n| --- |{}\n",
        titles.join(" | "),
        " ---: |".repeat(FRONT.len())
    );
    for peer in &run.peers {
        let cells: Vec<String> = FRONT
            .iter()
            .map(|(scenario, key, _)| front_cell(run, scenario, key, peer))
            .collect();
        if cells.iter().any(|cell| cell != "-") {
            let _ = writeln!(
                block,
                "| {} | {} |",
                row_title(run, peer),
                cells.join(" | ")
            );
        }
    }
    let _ = write!(
        block,
        "\nOne machine, one run, {} in turn: the server on one core, the generator on \
         another, 200-byte events, HTTP/1.1 on\nloopback; medians. **Bold** is the best of a \
         column. A cell with \"lost\" did not deliver everything, and is not compared.\n",
        rounds(run)
    );
    for peer in run.peers.iter().filter(|peer| !peer.is_measured) {
        let what = if run.is_recorded(&peer.name) {
            "its row is from another run"
        } else {
            "it has no row"
        };
        let _ = writeln!(
            block,
            "{} was not measured in this run, because Go modules could not be fetched; {what}.",
            peer.title
        );
    }
    let _ = write!(
        block,
        "[Every scenario, versions, ranges, raw data]({place}/README.md). [What each server was \
         tuned with](docs/concepts/rivals.md).\n\n"
    );
    for (name, chart) in super::charts::all(run).iter().take(2) {
        let _ = writeln!(block, "![{}]({place}/{name})\n", chart.title);
    }
    block
}

fn front_cell(run: &Run, scenario: &str, key: &str, peer: &Peer) -> String {
    let Some(column) = find(scenario, key) else {
        return "-".to_owned();
    };
    let Some(figure) = run.figure(scenario, &peer.name, key) else {
        return recorded_cell(run, scenario, peer, column);
    };
    let median = figure.median;
    let is_best = is_best(run, scenario, peer, column, median);
    let text = emphasised(&shown(median, column.unit), is_best);
    if run.failures(scenario, &peer.name) > 0.0 {
        format!("{text}, lost")
    } else {
        text
    }
}
