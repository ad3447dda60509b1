use proptest::prelude::*;

use super::*;

// What the cost of matching grows with, in counts.
#[path = "tests/cost.rs"]
mod cost;

fn matcher(text: &str) -> Matcher {
    Matcher::parse(text).expect("within the bounds")
}

fn matching(table: &MatcherTable, topics: &[&str]) -> Vec<String> {
    let mut ids = Vec::new();
    table.matching(topics.iter().copied(), &mut ids);
    assert!(ids.is_sorted_by(|a, b| a < b), "ascending, each once");
    let mut texts: Vec<_> = ids.iter().map(|&id| table.text(id).to_owned()).collect();
    texts.sort();
    texts
}

#[test]
fn each_kind_of_matcher_is_found_once() {
    let mut table = MatcherTable::default();
    for text in [
        "*", "a/1", "a/{x}", "{+x}", "a/{x}/z", "b/{x}", "{x}/1", "a/{",
    ] {
        table.intern(&matcher(text));
    }
    assert_eq!(table.len(), 8);
    assert_eq!(
        matching(&table, &["a/1"]),
        ["*", "a/1", "a/{x}", "{+x}", "{x}/1"]
    );
    assert_eq!(
        matching(&table, &["a/1", "b/2"]),
        ["*", "a/1", "a/{x}", "b/{x}", "{+x}", "{x}/1"]
    );
    assert_eq!(matching(&table, &["a/1/z"]), ["*", "a/{x}/z", "{+x}"]);
    assert_eq!(matching(&table, &["a/{x}"]), ["*", "a/{x}"]);
    assert_eq!(matching(&table, &["a/{"]), ["*", "a/{"]);
    assert_eq!(matching(&table, &["é"]), ["*"]);
}

#[test]
fn the_last_release_removes_and_the_id_is_used_again() {
    let mut table = MatcherTable::default();
    table.intern(&matcher("keep"));
    for text in ["a/{x}", "plain", "*"] {
        let id = table.intern(&matcher(text));
        assert_eq!(table.intern(&matcher(text)), id);
        table.release(id);
        assert_eq!(table.text(id), text);
        assert_eq!(matching(&table, &["a/1", "plain"]), [text]);
        table.release(id);
        assert_eq!(table.text(id), "");
        assert_eq!(table.len(), 1);
        assert!(matching(&table, &["a/1", "plain"]).is_empty());
        // One release too many must not free somebody else's id.
        table.release(id);
        assert_eq!(table.intern(&matcher("other")), id);
        table.release(id);
    }
}

#[test]
fn found_ids_are_appended() {
    let mut table = MatcherTable::default();
    let id = table.intern(&matcher("a"));
    let mut out = vec![MatcherId(7), MatcherId(7)];
    table.matching(["a", "a"].into_iter(), &mut out);
    assert_eq!(out, [MatcherId(7), MatcherId(7), id]);
}

/// Found by fuzzing: the group of what `{a}` accepts was taken for what its first member matches.
#[test]
fn a_template_that_is_the_topic_brings_no_other_along() {
    let mut table = MatcherTable::default();
    for i in 0..100 {
        table.intern(&matcher(&format!("{{v{i}}}")));
    }
    for i in [0, 50, 99] {
        let topic = format!("{{v{i}}}");
        assert_eq!(matching(&table, &[&topic]), [topic.as_str()]);
    }
    assert_eq!(matching(&table, &["{v7}", "fits"]).len(), 100);
}

/// Texts of templates that share literals, and of plain matchers.
const TEXT: &str =
    "(\\*|(a|b|/|ab/|abab/ab|\\{x\\}|\\{y\\}|\\{+x\\}|\\{+y,z\\}|\\{/x,y\\}|\\{x,y\\*\\}){1,7})";

proptest! {
    #[test]
    fn agrees_with_asking_every_matcher(
        steps in prop::collection::vec((TEXT, prop::bool::weighted(0.75)), 1..120),
        topics in prop::collection::vec("(a|b|/|ab/|abab/ab){0,7}", 1..4),
        list_max in 1..9_u32,
    ) {
        let mut table = MatcherTable::default();
        table.templates.set_list_max(list_max);
        let mut live: Vec<(String, MatcherId)> = Vec::new();
        for (text, is_added) in steps {
            if is_added || live.is_empty() {
                let id = table.intern(&matcher(&text));
                live.push((text, id));
            } else {
                let (_, id) = live.swap_remove(text.len() % live.len());
                table.release(id);
            }
        }
        // The matchers themselves are topics too.
        let own = live.iter().map(|(text, _)| text.clone()).take(1);
        let topics: Vec<_> = topics.into_iter().chain(own).collect();
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        let mut expected: Vec<_> = live
            .iter()
            .filter(|(text, _)| topics.iter().any(|topic| matcher(text).matches(topic)))
            .map(|(text, _)| text.clone())
            .collect();
        expected.sort();
        expected.dedup();
        prop_assert_eq!(matching(&table, &topics), expected);
        for (_, id) in live {
            table.release(id);
        }
        prop_assert!(table.is_empty() && table.templates.is_blank());
    }
}
