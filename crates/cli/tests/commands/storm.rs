//! `gush storm simulate` as a person uses it.

use gush_testkit::{Failure, Outcome};
use serde_json::Value;

use crate::support::{Finished, finish, gush, holds};

fn run(arguments: &[&str]) -> Outcome<Finished> {
    finish(gush(&[&["storm", "simulate"], arguments].concat()), "")
}

#[test]
fn a_storm_gives_a_table_a_page_and_a_chart() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let page = folder.path().join("storm.html");
    let picture = folder.path().join("storm.svg");
    let ended = run(&[
        "--subscribers",
        "300",
        "--rate",
        "10",
        "--report",
        &page.to_string_lossy(),
        "--svg",
        &picture.to_string_lossy(),
    ])?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    holds(
        &ended.stdout,
        &["no backoff", "12,000", "paced by the server"],
    )?;
    holds(
        &std::fs::read_to_string(page)?,
        &["<title>gush storm simulate</title>", "<svg"],
    )?;
    holds(&std::fs::read_to_string(picture)?, &["<svg", "full jitter"])
}

#[test]
fn the_same_seed_gives_the_same_figures() -> Outcome<()> {
    let figures = |seed: &str| -> Outcome<Value> {
        let asked = ["--preset", "mix", "--subscribers", "200", "--seed", seed];
        let ended = run(&[&asked[..], &["--json"]].concat())?;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let report: Value =
            serde_json::from_str(&ended.stdout).map_err(|error| Failure::new(error.to_string()))?;
        Ok(report["results"].clone())
    };
    let first = figures("7")?;
    assert_eq!(
        first["no_limit_given_up_after_no_answer_count"], 10,
        "each Firefox"
    );
    assert_eq!(first, figures("7")?);
    assert_ne!(first, figures("8")?);
    Ok(())
}

#[test]
fn what_cannot_be_is_a_usage_error() -> Outcome<()> {
    for arguments in [
        ["--preset", "weather"],
        ["--away", "soon"],
        ["--subscribers", "0"],
    ] {
        let ended = run(&arguments)?;
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        holds(&ended.stderr, &[arguments[0]])?;
    }
    Ok(())
}
