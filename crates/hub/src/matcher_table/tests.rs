use proptest::prelude::*;

use super::*;

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

#[test]
fn many_templates_leave_few_candidates() {
    let mut table = MatcherTable::default();
    for i in 0..100_000 {
        table.intern(&matcher(&format!(
            "https://example.com/users/{i}/{{kind}}/new"
        )));
    }
    let mut candidates_count = 0;
    table
        .templates
        .candidates("https://example.com/users/77777/a/new", |_| {
            candidates_count += 1;
        });
    assert_eq!(candidates_count, 1);
    assert_eq!(
        matching(&table, &["https://example.com/users/77777/a/new"]).len(),
        1
    );
    for i in 0..100_000 {
        table.release(MatcherId(i));
    }
    assert!(table.is_empty() && table.templates.ids.is_empty());
}

proptest! {
    #[test]
    fn agrees_with_asking_every_matcher(
        steps in prop::collection::vec(("(\\*|(a|b|/|\\{x\\}|\\{\\+x\\}|\\{/x,y\\}){1,4})", any::<bool>()), 1..60),
        topics in prop::collection::vec("(a|b|/){0,5}", 1..4),
    ) {
        let mut table = MatcherTable::default();
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
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        let mut expected: Vec<_> = live
            .iter()
            .filter(|(text, _)| topics.iter().any(|topic| matcher(text).matches(topic)))
            .map(|(text, _)| text.clone())
            .collect();
        expected.sort();
        expected.dedup();
        prop_assert_eq!(matching(&table, &topics), expected);
    }
}
