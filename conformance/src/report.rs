//! Running cases and telling how they went.

use crate::{Case, Target};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// How one case went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The hub keeps the rule.
    Passed,
    /// It does not, or the case could not be carried out; with expected and got.
    Failed(String),
    /// The hub lacks what the case needs; with what that is.
    Skipped(&'static str),
}

/// How all cases went, in the order they ran.
#[derive(Debug, Default)]
pub struct Report {
    /// Name, rule and verdict of each case.
    pub cases: Vec<(String, &'static str, Verdict)>,
}

impl Report {
    /// Passed, failed and skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        self.cases.iter().fold(
            (0, 0, 0),
            |(passed, failed, skipped), (_, _, verdict)| match verdict {
                Verdict::Passed => (passed + 1, failed, skipped),
                Verdict::Failed(_) => (passed, failed + 1, skipped),
                Verdict::Skipped(_) => (passed, failed, skipped + 1),
            },
        )
    }

    /// Every failed case with its rule and what was seen.
    pub fn failures(&self) -> String {
        let failed = self
            .cases
            .iter()
            .filter_map(|(name, rule, verdict)| match verdict {
                Verdict::Failed(why) => {
                    let why = why.replace('\n', "\n  ");
                    Some(format!("FAILED {name}\n  rule: {rule}\n  {why}\n"))
                }
                _ => None,
            });
        failed.collect()
    }

    /// `N passed, N failed, N skipped`.
    pub fn summary(&self) -> String {
        let (passed, failed, skipped) = self.counts();
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }

    /// The whole report as one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        let cases: Vec<_> = self
            .cases
            .iter()
            .map(|(name, rule, verdict)| {
                let (verdict, detail) = match verdict {
                    Verdict::Passed => ("passed", ""),
                    Verdict::Failed(why) => ("failed", why.as_str()),
                    Verdict::Skipped(why) => ("skipped", *why),
                };
                serde_json::json!({"name": name, "rule": rule, "verdict": verdict, "detail": detail})
            })
            .collect();
        let (passed, failed, skipped) = self.counts();
        serde_json::json!({"passed": passed, "failed": failed, "skipped": skipped, "cases": cases})
    }
}

/// Runs the cases one after the other, writing a line for each to `out`.
pub fn run(cases: &[Case], target: &Target, out: &mut dyn Write) -> std::io::Result<Report> {
    let mut report = Report::default();
    for case in cases {
        let started = Instant::now();
        let verdict = judge(case, target);
        let took = started.elapsed().as_millis();
        match &verdict {
            Verdict::Passed => writeln!(out, "ok      {} ({took} ms)", case.name)?,
            Verdict::Failed(why) => {
                let why = why.replace('\n', "\n        ");
                writeln!(
                    out,
                    "FAILED  {} ({took} ms)\n        rule: {}\n        {why}",
                    case.name, case.rule
                )?;
            }
            Verdict::Skipped(why) => writeln!(out, "skipped {} ({why})", case.name)?,
        }
        report.cases.push((case.name.clone(), case.rule, verdict));
    }
    Ok(report)
}

fn judge(case: &Case, target: &Target) -> Verdict {
    if let Some(need) = case.needs.iter().find(|need| !target.has(**need)) {
        return Verdict::Skipped(need.missing());
    }
    // A case that panics is a broken case; the others still have something to say.
    match catch_unwind(AssertUnwindSafe(|| (case.check)(target))) {
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(failure)) => Verdict::Failed(failure.to_string()),
        Err(_) => Verdict::Failed("the case itself panicked".to_owned()),
    }
}
