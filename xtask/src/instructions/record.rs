//! `bench/instructions/record.toml`: the counts, what they were made with, and why they changed.

use std::collections::BTreeMap;
use std::io;

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

/// How much more a count may be than the recorded one. The counts of functions are exact; that of
/// the shard differs by 0.2 % from run to run.
pub(super) const ALLOWANCE_PERCENT: u64 = 3;

const HEAD: &str = "\
# Instructions of one call of each hot function (crates/hub/examples/instructions), by callgrind.
# Written by `cargo xtask instructions --record \"reason\"`, compared by `cargo xtask instructions`
# where the environment is the same.

";

pub(super) struct Record {
    pub(super) environment: String,
    counts: BTreeMap<String, u64>,
}

/// What a count is against the recorded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Within the allowance.
    Same,
    /// So much less that it should be recorded, or it creeps up again unseen.
    Better,
    /// Over the allowance, or on one side only.
    Worse,
}

impl Record {
    pub(super) fn parse(text: &str) -> io::Result<Self> {
        let document = document(text)?;
        let environment = document.get("environment").and_then(Item::as_str);
        let environment = environment.unwrap_or("nothing").to_owned();
        let table = document.get("instructions").and_then(Item::as_table);
        let counts = table.into_iter().flatten().filter_map(|(name, count)| {
            let count = u64::try_from(count.as_integer()?).ok()?;
            Some((name.to_owned(), count))
        });
        Ok(Self {
            environment,
            counts: counts.collect(),
        })
    }

    /// A line for each count that is here or in the record, with what to think of it.
    pub(super) fn compare(&self, counts: &[(String, u64)]) -> Vec<(String, Verdict)> {
        let mut lines: Vec<_> = counts
            .iter()
            .map(|(name, count)| self.compare_one(name, *count))
            .collect();
        let is_gone = |name: &&String| !counts.iter().any(|(other, _)| other == *name);
        let gone = self.counts.keys().filter(is_gone);
        lines.extend(gone.map(|name| {
            let line = format!("{name}: recorded and no longer counted");
            (line, Verdict::Worse)
        }));
        lines
    }

    fn compare_one(&self, name: &str, count: u64) -> (String, Verdict) {
        let Some(&recorded) = self.counts.get(name) else {
            return (format!("{name}: {count}, not recorded"), Verdict::Worse);
        };
        let verdict = if count * 100 > recorded * (100 + ALLOWANCE_PERCENT) {
            Verdict::Worse
        } else if count * 100 < recorded * (100 - ALLOWANCE_PERCENT) {
            Verdict::Better
        } else {
            Verdict::Same
        };
        let note = match verdict {
            Verdict::Same => "",
            Verdict::Better => ": less, worth recording",
            Verdict::Worse => ": MORE",
        };
        let line = format!("{name}: {count}, recorded {recorded}{note}");
        (line, verdict)
    }
}

/// The record with new counts and the reason for them, and what has changed.
pub(super) fn write(
    text: &str,
    environment: &str,
    counts: &[(String, u64)],
    reason: &str,
) -> io::Result<(String, Vec<String>)> {
    let old = Record::parse(text)?;
    let mut document = document(text)?;
    if text.is_empty() {
        document.decor_mut().set_prefix(HEAD);
    }
    document["environment"] = value(environment);
    let mut table = Table::new();
    let mut changes = Vec::new();
    for (name, count) in counts {
        table[name] = value(i64::try_from(*count).map_err(io::Error::other)?);
        match old.counts.get(name) {
            Some(before) if before == count => {}
            Some(before) => changes.push(format!("{name} from {before} to {count}")),
            None => changes.push(format!("{name} {count}")),
        }
    }
    document["instructions"] = Item::Table(table);
    let mut change = Table::new();
    change["reason"] = value(reason);
    change["counts"] = value(changes.iter().collect::<toml_edit::Array>());
    let history = document
        .entry("change")
        .or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    if let Some(history) = history.as_array_of_tables_mut() {
        history.push(change);
    }
    Ok((document.to_string(), changes))
}

fn document(text: &str) -> io::Result<DocumentMut> {
    text.parse().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> Vec<(String, u64)> {
        of.iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    fn recorded(of: &[(&str, u64)]) -> Record {
        let (text, _) = write("", "a compiler", &counts(of), "first").expect("a record");
        Record::parse(&text).expect("what was written")
    }

    #[test]
    fn what_is_written_is_read_and_keeps_its_history() {
        let first = counts(&[("parse", 1000), ("encode", 200)]);
        let (text, _) = write("", "a compiler", &first, "it begins").expect("a record");
        assert!(text.starts_with("# Instructions"));
        let second = counts(&[("parse", 1000), ("encode", 150), ("match", 7)]);
        let (text, changes) = write(&text, "another", &second, "\"less\"").expect("a record");
        assert_eq!(changes, ["encode from 200 to 150", "match 7"]);
        let record = Record::parse(&text).expect("what was written");
        assert_eq!(record.environment, "another");
        assert!(
            record
                .compare(&second)
                .iter()
                .all(|line| line.1 == Verdict::Same)
        );
        assert_eq!(text.matches("[[change]]").count(), 2);
        assert!(text.contains("it begins") && text.starts_with("# Instructions"));
    }

    #[test]
    fn three_percent_more_is_the_most() {
        let record = recorded(&[("parse", 1000)]);
        let verdict = |count| record.compare(&counts(&[("parse", count)]))[0].1;
        assert_eq!(verdict(1030), Verdict::Same);
        assert_eq!(verdict(1031), Verdict::Worse);
        assert_eq!(verdict(970), Verdict::Same);
        assert_eq!(verdict(969), Verdict::Better);
    }

    #[test]
    fn scenarios_on_one_side_only_do_not_pass() {
        let record = recorded(&[("old", 1)]);
        let verdicts = record.compare(&counts(&[("new", 1)]));
        assert_eq!(verdicts.len(), 2);
        assert!(verdicts.iter().all(|line| line.1 == Verdict::Worse));
    }
}
