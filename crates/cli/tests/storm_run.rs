//! `gush storm run` against a hub that it starts, kills and starts again.

use gush_testkit::{Failure, Outcome};
use std::process::Command;

#[test]
fn all_come_back_to_a_killed_hub_with_nothing_lost() -> Outcome<()> {
    let run = Command::new(env!("CARGO_BIN_EXE_gush"))
        .args([
            "storm",
            "run",
            "--subscribers",
            "200",
            "--hold",
            "1",
            "--json",
        ])
        .args(["--event-rate", "20"])
        .output()?;
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    let told = String::from_utf8_lossy(&run.stderr).into_owned();
    let report: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| Failure::new(format!("{e}: {text}{told}")))?;
    let held = |name: &str| {
        let checks = report["checks"].as_array().into_iter().flatten();
        let mut named = checks.filter(|check| check["name"] == name);
        named.next().is_some_and(|check| check["passed"] == true)
    };
    for name in [
        "events lost",
        "events doubled",
        "every stream was dropped once",
        "counts that do not add up",
        "target: not back",
    ] {
        if !held(name) {
            return Err(Failure::new(format!("{name}: {text}{told}")));
        }
    }
    Ok(())
}
