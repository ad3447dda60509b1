//! Matchers against topics, alone and in the table of a shard. The input is a list of lines: the
//! last one is the topic, the others are matchers.
#![no_main]

use gush_hub::matcher_table::MatcherTable;
use gush_hub::topic::{Matcher, check_topic};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines: Vec<_> = text.split('\n').collect();
    let topic = lines.pop().unwrap_or("");
    let _ = check_topic(topic);
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
    expected.sort_unstable();
    expected.dedup();
    let mut found = Vec::new();
    table.matching([topic].into_iter(), &mut found);
    assert_eq!(found, expected);
    for id in ids {
        table.release(id);
    }
    assert!(table.is_empty());
});
