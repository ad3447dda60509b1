//! What storms under several policies have to say, side by side.

use std::fmt::Write as _;

use super::preset::{ARTICLE, CLOSED_STEADILY, Preset, TOLD_FOR_CROWD};
use super::{Scenario, Tally};
use crate::report::{Chart, Report, Series, Shape, Unit, shown};

/// How far the model may be off the article's figures.
const ARTICLE_MARGIN: f64 = 0.05;

/// Most that the worst second may be of the mean, where the server sets the pace.
const PACED_PEAK_MAX: f64 = 2.0;

/// The whole, for JSON and for a page with a chart. `per_second` is the rate of the paced policies.
/// What the preset promises is checked only if nothing was changed but the seed.
#[must_use]
pub fn report(preset: Preset, scenario: &Scenario, per_second: f64, tallies: &[Tally]) -> Report {
    let mut report = Report::new("storm simulate", format!("preset {}", preset.name()));
    report.parameter("subscribers", scenario.subscribers);
    report.parameter("away_s", scenario.away.as_secs_f64());
    report.parameter("notice_s", scenario.notice.as_secs_f64());
    report.parameter("service_s", scenario.service.as_secs_f64());
    report.parameter("rate_per_second", per_second);
    report.parameter("seed", scenario.seed);
    for tally in tallies {
        results(&mut report, tally);
    }
    for tally in tallies {
        report.series(curve(tally));
    }
    let wrong = tallies.iter().filter(|tally| !tally.adds_up());
    report.check_none("policies whose counts do not add up", wrong.count() as u64);
    let as_stated = Scenario {
        seed: scenario.seed,
        ..preset.scenario()
    };
    let is_rate_stated = per_second.to_bits() == preset.per_second().to_bits();
    if *scenario == as_stated && is_rate_stated {
        promises(&mut report, preset, tallies);
    }
    report
}

pub(super) fn results(report: &mut Report, tally: &Tally) {
    let words: Vec<String> = tally
        .name
        .split(|character: char| !character.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let name = words.join("_");
    for (what, value) in [
        ("peak_at_once", tally.peak_at_once),
        ("attempts", tally.attempts),
        ("unanswered", tally.unanswered),
        ("refused_softly", tally.refused_softly),
        ("refused_hard", tally.refused_hard),
        ("given_up", tally.given_up()),
        ("given_up_after_no_answer", tally.lost_to_no_answer),
        ("given_up_after_status", tally.lost_to_status),
        ("given_up_after_attempts", tally.lost_to_attempts),
        ("still_trying", tally.still_trying),
        ("back", tally.back),
        ("peak_second", tally.peak_second),
        ("peak_second_tried", tally.peak_second_tried),
    ] {
        report.count(&format!("{name}_{what}_count"), value);
    }
    let mean = tally.mean_per_second();
    report.result(
        &format!("{name}_admitted_per_second"),
        mean,
        Unit::PerSecond,
    );
    let ratio = tally.peak_to_mean();
    report.result(&format!("{name}_peak_to_mean_ratio"), ratio, Unit::Ratio);
    let last = tally.last_back.as_secs_f64();
    report.result(&format!("{name}_last_back_s"), last, Unit::Seconds);
}

fn promises(report: &mut Report, preset: Preset, tallies: &[Tally]) {
    let paced: &[&str] = match preset {
        Preset::Article => {
            article(report, tallies);
            &["paced by the server"]
        }
        Preset::Drop => &[TOLD_FOR_CROWD, CLOSED_STEADILY],
        // Browsers that are gone stay gone: there is nothing to promise to all.
        Preset::Mix => return,
    };
    let paced = tallies.iter().filter(|tally| paced.contains(&tally.name));
    for tally in paced {
        let paced = tally.name;
        let missing = tally.subscribers - tally.back;
        report.check_none(&format!("{paced}: not back"), missing);
        let ratio = tally.peak_to_mean();
        let name = format!("{paced}: worst second at most {PACED_PEAK_MAX} x the mean");
        report.check(&name, ratio <= PACED_PEAK_MAX, shown(ratio, Unit::Ratio));
        if preset == Preset::Drop {
            let failed = tally.attempts - tally.admitted;
            report.check_none(&format!("{paced}: failed attempts"), failed);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn article(report: &mut Report, tallies: &[Tally]) {
    for row in ARTICLE {
        let Some(tally) = tallies.iter().find(|tally| tally.name == row.policy) else {
            continue;
        };
        let ratio = tally.peak_at_once as f64 / row.peak_at_once as f64;
        report.check(
            &format!("{}: peak within 5 % of the article's", row.policy),
            (ratio - 1.0).abs() <= ARTICLE_MARGIN,
            format!("{} of {}", tally.peak_at_once, row.peak_at_once),
        );
    }
}

pub(super) fn curve(tally: &Tally) -> Series {
    Series {
        chart: "Attempts under way at once".to_owned(),
        name: tally.name.to_owned(),
        x_unit: "s after the server's return".to_owned(),
        y_unit: "attempts".to_owned(),
        shape: Shape::Line,
        labels: vec![],
        points: tally.curve.clone(),
    }
}

/// The chart by itself: attempts at once over the time since the server's return.
#[must_use]
pub fn chart(tallies: &[Tally]) -> Chart {
    Chart::new(
        "Attempts under way at once",
        tallies.iter().map(curve).collect(),
    )
}

/// The figures as text, one line for each policy, beside the article's where it has them.
#[must_use]
pub fn table(report: &Report, tallies: &[Tally]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(tallies.iter().map(row));
    let has_article = tallies.iter().any(|tally| article_says(tally).is_some());
    if !has_article {
        for row in &mut rows {
            row.remove(ARTICLE_COLUMN);
        }
    }
    let asked = report.parameters.iter();
    let asked: Vec<String> = asked
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let (command, target) = (report.command(), &report.target);
    let mut text = format!("{command}  {target}\n{}\n\n", asked.join(", "));
    aligned(&rows, &mut text);
    text.push('\n');
    for check in &report.checks {
        let word = if check.passed { "ok    " } else { "FAILED" };
        let _ = writeln!(text, "{word}  {}: {}", check.name, check.detail);
    }
    text.truncate(text.trim_end().len());
    text
}

const ARTICLE_COLUMN: usize = 2;

const HEAD: [&str; 13] = [
    "policy",
    "peak at once",
    "the article's",
    "attempts",
    "no answer",
    "refused",
    "given up",
    "trying",
    "tried/s",
    "let in/s",
    "mean",
    "x mean",
    "last back",
];

fn article_says(tally: &Tally) -> Option<String> {
    let row = ARTICLE.iter().find(|row| row.policy == tally.name)?;
    let (peak, cpu) = (count(row.peak_at_once), row.cpu_percent);
    Some(format!("{peak}, {cpu} % CPU"))
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn count(value: u64) -> String {
    shown(value as f64, Unit::Count)
}

fn row(tally: &Tally) -> Vec<String> {
    vec![
        tally.name.to_owned(),
        count(tally.peak_at_once),
        article_says(tally).unwrap_or_else(|| "-".to_owned()),
        count(tally.attempts),
        count(tally.unanswered),
        count(tally.refused()),
        count(tally.given_up()),
        count(tally.still_trying),
        count(tally.peak_second_tried),
        count(tally.peak_second),
        shown(tally.mean_per_second().round(), Unit::Count),
        format!("{:.2}", tally.peak_to_mean()),
        shown(tally.last_back.as_secs_f64(), Unit::Seconds),
    ]
}

/// The first column to the left, the others to the right.
fn aligned(rows: &[Vec<String>], text: &mut String) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(text, "{cell:width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
}
