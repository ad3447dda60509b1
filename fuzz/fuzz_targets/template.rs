//! Matchers against topics, alone and in the table of a shard. The input is a list of lines: the
//! last one is the topic, the others are matchers. The table is asked again after every other
//! matcher has left.
#![no_main]

use gush_hub::matcher_table::{MatcherId, MatcherTable};
use gush_hub::topic::{Matcher, parse_topic};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines: Vec<_> = text.split('\n').collect();
    let topic = lines.pop().unwrap_or("");
    let _ = parse_topic(topic);
    let mut table = MatcherTable::default();
    let mut ids = Vec::new();
    let mut expected = Vec::new();
    for matcher in lines.iter().filter_map(|line| Matcher::parse(line).ok()) {
        assert!(matcher.matches(matcher.text()));
        let id = table.intern(&matcher);
        if matcher.matches(topic) {
            expected.push(id);
            if matcher.text() != topic {
                let rest = topic
                    .strip_prefix(matcher.literal_prefix())
                    .expect("the prefix");
                rest.strip_suffix(matcher.literal_suffix())
                    .expect("the suffix behind the prefix");
            }
        }
        ids.push(id);
    }
    assert_found(&table, topic, &expected);
    let mut left = Vec::new();
    for (at, id) in ids.into_iter().enumerate() {
        if at % 2 == 0 {
            table.release(id);
        } else {
            left.push(id);
        }
    }
    expected.retain(|id| left.contains(id));
    assert_found(&table, topic, &expected);
    for id in left {
        table.release(id);
    }
    assert!(table.is_empty());
});

fn assert_found(table: &MatcherTable, topic: &str, expected: &[MatcherId]) {
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    expected.dedup();
    let mut found = Vec::new();
    table.matching([topic, topic].into_iter(), &mut found);
    assert_eq!(found, expected);
}
