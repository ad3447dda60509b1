use super::*;

fn table(count: usize, text: impl Fn(usize) -> String) -> MatcherTable {
    let mut table = MatcherTable::default();
    for i in 0..count {
        table.intern(&matcher(&text(i)));
    }
    table
}

fn looked(table: &MatcherTable, topics: &[&str]) -> (Looked, usize) {
    let mut ids = Vec::new();
    table.matching(topics.iter().copied(), &mut ids);
    (table.looked(), ids.len())
}

/// Each shape with one topic that one of the templates fits.
#[test]
fn a_hundred_times_the_templates_are_looked_at_no_more() {
    type Shape = fn(usize) -> String;
    let shapes: [(Shape, &str); 6] = [
        (|i| format!("/users/{i:06}/{{x}}"), "/users/000177/a"),
        (|i| format!("{{+x}}/k{i:06}"), "/users/k000177"),
        (|i| format!("/x/{{a}}/k{i:06}/{{b}}"), "/x/1/k000177/2"),
        (
            |i| format!("/x/{{a}}/common/{{b}}/k{i:06}/{{c}}/common/{{d}}"),
            "/x/1/common/2/k000177/3/common/4",
        ),
        (
            |i| format!("{{a}}/a-long-beginning/k{i:06}/and-a-long-end/{{b}}"),
            "1/a-long-beginning/k000177/and-a-long-end/2",
        ),
        (|i| format!("/a{i:06}/{{x}}/z{i:06}"), "/a000177/1/z000177"),
    ];
    for (shape, topic) in shapes {
        let (few, matched_count) = looked(&table(300, shape), &[topic]);
        assert_eq!(matched_count, 1, "{topic}");
        let many = looked(&table(30_000, shape), &[topic]);
        assert_eq!(many, (few, 1), "{topic}");
        assert!(few.compared_count <= 2, "{topic}: {few:?}");
        assert!(few.lookups_count <= 4 * topic.len(), "{topic}: {few:?}");
    }
}

#[test]
fn templates_that_differ_in_names_only_are_compared_once() {
    let table = table(30_000, |i| format!("/{{v{i}}}/{{+w}}"));
    let (found, matched_count) = looked(&table, &["/1/2/3"]);
    assert_eq!((found.compared_count, matched_count), (1, 30_000));
    let (found, matched_count) = looked(&table, &["/1"]);
    assert_eq!((found.compared_count, matched_count), (0, 0));
    // What fitted one topic of an event is not asked about the others.
    let topics: Vec<_> = (0..1000).map(|i| format!("/{i}/")).collect();
    let topics: Vec<_> = topics.iter().map(String::as_str).collect();
    let (found, matched_count) = looked(&table, &topics);
    assert_eq!((found.compared_count, matched_count), (1, 30_000));
}

#[test]
fn lookups_grow_with_the_topic_and_not_with_the_lengths_in_use() {
    // Thousands of lengths of prefixes, of suffixes, and of literals between.
    let long = |i: usize| "a".repeat(1 + i % 1_000);
    let topic = "a".repeat(1_500);
    let prefixes = table(2_000, |i| format!("{}{{x}}b{}", long(i), i / 1_000));
    let suffixes = table(2_000, |i| format!("b{}{{x}}{}", i / 1_000, long(i)));
    let inner = table(2_000, |i| format!("{{x}}{}b{{y}}b{}", long(i), i / 1_000));
    for table in [prefixes, suffixes, inner] {
        let (found, matched_count) = looked(&table, &[&topic]);
        assert_eq!((found.compared_count, matched_count), (0, 0));
        assert!(found.lookups_count <= 2 * topic.len(), "{found:?}");
    }
}

#[test]
fn a_literal_that_the_topic_lacks_saves_the_comparison() {
    // 2^12 orders of two literals that the topic has in every order, and one that it has not.
    let text = |i: usize| {
        let bits = (0..12).map(|bit| if i >> bit & 1 == 1 { "{+x}b" } else { "{+x}a" });
        bits.collect::<String>() + "{+x}q{+y}a"
    };
    let table = table(1 << 12, text);
    let topic = "ab".repeat(40) + "a";
    let (found, matched_count) = looked(&table, &[&topic]);
    assert_eq!((found.compared_count, matched_count), (0, 0));
}

#[test]
fn numbers_of_topics_start_again() {
    let table = table(100, |i| format!("/{{x}}/{i}"));
    for stamp in [u32::MAX / 2 - 1, u32::MAX / 2, u32::MAX / 2 + 1] {
        table.templates.set_stamp(stamp);
        for _ in 0..3 {
            let (_, matched_count) = looked(&table, &["/a/7", "/b/7", "/a/8"]);
            assert_eq!(matched_count, 2);
        }
    }
}
