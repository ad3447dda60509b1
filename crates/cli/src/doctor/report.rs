//! What was looked at, as a table and as JSON.

use serde_json::{Value, json};

use super::fixes::{Fix, Trouble, fixes};
use super::way::Way;

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Good,
    /// Worth knowing; nothing to mend.
    Note,
    Finding,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Finding => "finding",
        }
    }
}

/// One look.
#[derive(Debug)]
struct Check {
    name: &'static str,
    level: Level,
    seen: String,
    /// Empty when there is nothing to explain.
    means: &'static str,
    fixes: Vec<Fix>,
}

/// All looks, in the order they were taken.
#[derive(Debug)]
pub(super) struct Report {
    url: String,
    way: Way,
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            way: Way::default(),
            checks: vec![],
        }
    }

    /// Who stands on the way; the lines to mend are then theirs alone.
    pub(super) fn set_way(&mut self, way: Way) {
        self.way = way;
    }

    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    pub(super) fn good(&mut self, name: &'static str, seen: String) {
        self.add(name, Level::Good, seen, "");
    }

    pub(super) fn note(&mut self, name: &'static str, seen: String, means: &'static str) {
        self.add(name, Level::Note, seen, means);
    }

    pub(super) fn finding(&mut self, name: &'static str, seen: String, trouble: Trouble) {
        self.add(name, Level::Finding, seen, trouble.means());
        if let Some(check) = self.checks.last_mut() {
            check.fixes = fixes(trouble, &self.way);
        }
    }

    fn add(&mut self, name: &'static str, level: Level, seen: String, means: &'static str) {
        self.checks.push(Check {
            name,
            level,
            seen,
            means,
            fixes: vec![],
        });
    }

    fn found(&self) -> impl Iterator<Item = &Check> {
        self.checks
            .iter()
            .filter(|check| check.level == Level::Finding)
    }

    /// Names of the checks with a finding.
    pub(super) fn findings(&self) -> Vec<&'static str> {
        self.found().map(|check| check.name).collect()
    }

    pub(super) fn json(&self) -> Value {
        let checks = self.checks.iter().map(|check| {
            let fixes = check.fixes.iter();
            let fixes = fixes.map(|fix| json!({ "place": fix.place, "line": fix.line }));
            json!({
                "name": check.name,
                "level": check.level.word(),
                "seen": check.seen,
                "means": check.means,
                "fixes": fixes.collect::<Vec<_>>(),
            })
        });
        json!({
            "url": self.url,
            "good": self.found().next().is_none(),
            "way": self.way.evidence(),
            "checks": checks.collect::<Vec<_>>(),
        })
    }

    /// A line for each check, then what the findings mean and what mends them.
    pub(super) fn text(&self) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max();
        let width = width.unwrap_or_default();
        let mut lines: Vec<String> = vec![];
        for check in &self.checks {
            let (level, name) = (check.level.word(), check.name);
            lines.push(format!("{level:7}  {name:width$}  {}", check.seen));
            if check.level == Level::Note && !check.means.is_empty() {
                lines.push(format!("{:7}  {:width$}  {}", "", "", check.means));
            }
        }
        for (number, check) in self.found().enumerate() {
            lines.push(String::new());
            lines.push(format!("{}. {}: {}", number + 1, check.name, check.seen));
            lines.push(format!("   {}", check.means));
            let places = check.fixes.iter().map(|fix| fix.place.len()).max();
            let places = places.unwrap_or_default();
            for fix in &check.fixes {
                lines.push(format!("   {:places$}  {}", fix.place, fix.line));
            }
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("https://hub.example/");
        report.good("answer", "200 after 3 ms".into());
        report.note("version", "HTTP/1.1".into(), "six connections");
        report.finding("buffering", "nothing came".into(), Trouble::Buffering);
        report
    }

    #[test]
    fn the_text_has_a_line_per_check_and_a_paragraph_per_finding() {
        let text = report().text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "good     answer     200 after 3 ms");
        assert_eq!(lines[2], "                    six connections");
        assert_eq!(lines[3], "finding  buffering  nothing came");
        assert!(text.contains("\n1. buffering: nothing came\n"));
        assert!(text.contains("proxy_buffering off;"));
    }

    #[test]
    fn the_json_says_whether_all_is_good() {
        let json = report().json();
        assert_eq!(json["good"], false);
        assert_eq!(json["checks"][2]["level"], "finding");
        assert_eq!(json["checks"][0]["fixes"], json!([]));
        assert_eq!(Report::new("x").json()["good"], true);
    }
}
