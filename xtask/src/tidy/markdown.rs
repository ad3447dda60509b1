//! Rules for Markdown: one title, no link into the void, a changelog that can take a line.

use std::path::Path;

use super::Findings;

pub(super) fn check(root: &Path, path: &Path, text: &str, findings: &mut Findings) {
    let prose: Vec<(usize, &str)> = without_code(text);
    let titles: Vec<usize> = prose
        .iter()
        .filter(|(_, line)| line.starts_with("# "))
        .map(|(number, _)| *number)
        .collect();
    match titles.as_slice() {
        [_] => {}
        [] => findings.error(path, 1, "no title: begin with one line `# …`"),
        [_, second, ..] => findings.error(
            path,
            *second,
            "a second `# ` title: use `## ` below the first",
        ),
    }
    for (number, line) in &prose {
        for target in link_targets(line) {
            if let Some(missing) = missing(root, path, target) {
                findings.error(
                    path,
                    *number,
                    format!("link to {missing}, which is not there"),
                );
            }
        }
    }
    let is_unreleased = |line: &str| matches!(line.trim(), "## Unreleased" | "## [Unreleased]");
    if path == Path::new("CHANGELOG.md") && !prose.iter().any(|(_, line)| is_unreleased(line)) {
        findings.error(
            path,
            1,
            "no `## [Unreleased]` section for the next line to go to",
        );
    }
}

/// Lines outside fenced code, with their numbers from 1.
fn without_code(text: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let mut prose = vec![];
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        if start.starts_with("```") || start.starts_with("~~~") {
            is_code = !is_code;
        } else if !is_code {
            prose.push((index + 1, line));
        }
    }
    prose
}

/// Targets of `[text](target)` and `[name]: target`, code spans left out.
fn link_targets(line: &str) -> Vec<&str> {
    let mut targets = vec![];
    for (index, part) in line.split('`').enumerate() {
        if index % 2 == 1 {
            continue;
        }
        let mut rest = part;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let end = rest.find(')').unwrap_or(rest.len());
            targets.push(rest[..end].split(' ').next().unwrap_or_default());
        }
    }
    // A code span inside the link's text splits it; the target is still behind the last "](".
    if targets.is_empty() && line.contains("](") {
        let rest = line.rsplit("](").next().unwrap_or_default();
        targets.extend(rest.split([')', ' ']).next());
    }
    let definition = line.split_once("]: ").filter(|_| line.starts_with('['));
    let definition = definition.filter(|(name, _)| !name.contains(']'));
    targets.extend(definition.map(|(_, target)| target.trim()));
    targets
}

/// The target, if it is a file of ours and does not exist.
fn missing<'a>(root: &Path, page: &Path, target: &'a str) -> Option<&'a str> {
    let is_elsewhere = target.contains("://") || target.starts_with("mailto:");
    let file = target.split(['#', '?']).next().unwrap_or_default();
    if is_elsewhere || file.is_empty() {
        return None;
    }
    let folder = root.join(page.parent().unwrap_or(Path::new("")));
    let place = match file.strip_prefix('/') {
        Some(from_root) => root.join(from_root),
        None => folder.join(file),
    };
    (!place.exists()).then_some(target)
}
