//! What it costs to find the matchers of an event, by the number of matchers and by their shape.
//!
//! `cargo run --release -p gush-hub --example matching_cost [largest number of exact topics]`
//!
//! Each row: how many matchers there are; how many match the event; how many templates were met in
//! the index and how many of them compared in full; how many lookups led there; and the median time
//! of one event, first of many in a row, each for another matcher, then of events between which
//! other work has emptied the caches, as that of a shard with many streams does. All but the times
//! are exact and the same in every run.

use std::time::{Duration, Instant};

use gush_hub::matcher_table::{MatcherId, MatcherTable};
use gush_hub::topic::Matcher;

/// Longest measurement of one row.
const ROW_TIME: Duration = Duration::from_millis(700);

/// Fewest and most events of one row.
const ROUNDS_MIN: usize = 3;
const ROUNDS_MAX: usize = 1000;

/// Events of one row with empty caches between them.
const ROUNDS_COLD: usize = 60;

/// More than the caches of the processor hold, or at least than this process's share of them.
const OTHER_WORK_BYTES: usize = 96 * 1024 * 1024;

/// Matchers of one kind, and the topics of an event for one of them.
struct Set {
    name: &'static str,
    matcher: fn(usize) -> String,
    event: fn(usize) -> Vec<String>,
}

/// What real subscriptions look like: a literal somewhere tells them apart.
const ORDINARY: [Set; 8] = [
    Set {
        name: "exact topics",
        matcher: |i| format!("https://example.com/books/{i:07}"),
        event: |i| vec![format!("https://example.com/books/{i:07}")],
    },
    Set {
        name: "told apart before the expression",
        matcher: |i| format!("https://example.com/users/{i:06}/{{kind}}"),
        event: |i| vec![format!("https://example.com/users/{i:06}/orders")],
    },
    Set {
        name: "told apart between expressions",
        matcher: |i| format!("https://example.com/x/{{a}}/k{i:06}/{{b}}"),
        event: |i| vec![format!("https://example.com/x/1/k{i:06}/2")],
    },
    Set {
        name: "told apart behind the expression",
        matcher: |i| format!("{{+base}}/k{i:06}"),
        event: |i| vec![format!("https://example.com/x/k{i:06}")],
    },
    Set {
        name: "told apart late in a long literal",
        matcher: |i| format!("/orgs/{{o}}/projects/main/regions/eu/k{i:06}/jobs/{{j}}"),
        event: |i| vec![format!("/orgs/7/projects/main/regions/eu/k{i:06}/jobs/1")],
    },
    Set {
        name: "every operator behind a literal of its own",
        matcher: |i| format!("/r{i:06}{}", OPERATORS[i % OPERATORS.len()].0),
        event: |i| vec![format!("/r{i:06}{}", OPERATORS[i % OPERATORS.len()].1)],
    },
    Set {
        name: "every operator before a literal of its own",
        matcher: |i| format!("/r{}/k{i:06}", OPERATORS[i % OPERATORS.len()].0),
        event: |i| vec![format!("/r{}/k{i:06}", OPERATORS[i % OPERATORS.len()].1)],
    },
    Set {
        name: "ten expressions of ten variables",
        matcher: |i| format!("/m{}/k{i:06}", "/{a,b,c,d,e,f,g,h,i,j}".repeat(10)),
        event: |i| vec![format!("/m{}/k{i:06}", "/1,2,3,4,5,6,7,8,9,0".repeat(10))],
    },
];

/// Each operator with an expression, and what it expands to.
const OPERATORS: [(&str, &str); 9] = [
    ("/{x}", "/1"),
    ("{+x}", "/a/b"),
    ("{#x}", "#part"),
    ("{.x,y}", ".tar.gz"),
    ("{/x*}", "/a/b/c"),
    ("{;x,y}", ";x=1;y=2"),
    ("{?x,y}", "?x=1&y=2"),
    ("{&x}", "&x=1"),
    ("/{x:3}", "/abc"),
];

/// What somebody would send who wants matching to be slow.
const ADVERSARIAL: [Set; 10] = [
    Set {
        name: "outer literals of the same lengths",
        matcher: |i| format!("/a{i:06}/{{x}}/z{i:06}"),
        event: |i| vec![format!("/a{i:06}/1/z{i:06}")],
    },
    Set {
        name: "nothing but a variable, each of another name",
        matcher: |i| format!("{{v{i}}}"),
        event: |i| vec![format!("/does/not/fit/{i}")],
    },
    Set {
        name: "the same, and all fit",
        matcher: |i| format!("{{+v{i}}}"),
        event: |i| vec![format!("/does/fit/{i}")],
    },
    Set {
        name: "the same, and all fit all of 1,000 topics",
        matcher: |i| format!("{{+v{i}}}"),
        event: |_| (0..1000).map(|i| format!("/topics/{i}")).collect(),
    },
    Set {
        name: "as many expressions as there may be, all different, none fits",
        matcher: many_expressions,
        event: |i| vec![format!("/b.c;d=e?f=g&h=i/{i} ")],
    },
    Set {
        name: "3,000 lengths of prefixes, a topic of 4,096 bytes",
        matcher: |i| format!("{}{{x}}/{}", "a".repeat(1 + i % 3000), i / 3000),
        event: |_| vec!["a".repeat(4094) + "/0"],
    },
    Set {
        name: "3,000 lengths of inner literals, a topic of 4,096 bytes",
        matcher: |i| format!("{{x}}{}b{{y}}{}", "a".repeat(1 + i % 3000), i / 3000),
        event: |_| vec!["a".repeat(4095) + "0"],
    },
    Set {
        name: "every order of two literals, and one that is not there",
        matcher: |i| orders(i) + "{+x}q{+y}",
        event: |_| vec!["ab".repeat(40)],
    },
    Set {
        name: "every order of two literals, all there, none fits",
        matcher: |i| orders(i) + "{+x}a{y}b{y}",
        event: |i| vec!["ab".repeat(40) + &format!("/{i}")],
    },
    Set {
        name: "a topic of 4,096 bytes",
        matcher: |i| format!("https://example.com/{{+a}}/k{i:06}/{{+b}}"),
        event: |i| {
            let half = "/part".repeat(404);
            vec![format!("https://example.com{half}/k{i:06}{half}")]
        },
    },
];

fn orders(i: usize) -> String {
    let letters = (0..17).map(|bit| if i >> bit & 1 == 1 { "b" } else { "a" });
    letters.flat_map(|letter| ["{+x}", letter]).collect()
}

fn many_expressions(i: usize) -> String {
    const KINDS: [&str; 4] = ["{/a,b}", "{.a}", "{;a*}", "{?a}"];
    (0..64)
        .map(|place| KINDS[i >> (2 * (place % 9)) & 3])
        .collect()
}

fn main() {
    let exact_max = std::env::args()
        .nth(1)
        .and_then(|argument| argument.parse().ok())
        .unwrap_or(1_000_000);
    println!(
        "| matchers | of them | match | met | compared | lookups | ns in a row | ns between other work |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut other_work = vec![1_u8; OTHER_WORK_BYTES];
    for set in ORDINARY.iter().chain(&ADVERSARIAL) {
        for count in [1_000, 10_000, 100_000, 1_000_000] {
            let is_exact = set.name == "exact topics";
            if count <= if is_exact { exact_max } else { 100_000 } {
                row(set, count, &mut other_work);
            }
        }
    }
}

fn row(set: &Set, count: usize, other_work: &mut [u8]) {
    let mut table = MatcherTable::default();
    for i in 0..count {
        let matcher = Matcher::parse(&(set.matcher)(i)).expect("the sets keep the bounds");
        table.intern(&matcher);
    }
    let mut out = Vec::new();
    let in_a_row = median(ROUNDS_MAX, |round| {
        time(set, count, round, &table, &mut out)
    });
    let looked = table.looked();
    let matched_count = out.len();
    let between = median(ROUNDS_COLD, |round| {
        for byte in other_work.iter_mut().step_by(64) {
            *byte = byte.wrapping_add(1);
        }
        time(set, count, round, &table, &mut out)
    });
    println!(
        "| {} | {count} | {matched_count} | {} | {} | {} | {} | {} |",
        set.name,
        looked.met_count,
        looked.compared_count,
        looked.lookups_count,
        in_a_row.as_nanos(),
        between.as_nanos(),
    );
}

fn median(rounds_max: usize, mut time: impl FnMut(usize) -> Duration) -> Duration {
    let started_at = Instant::now();
    let mut times = Vec::new();
    while times.len() < ROUNDS_MIN || (started_at.elapsed() < ROW_TIME && times.len() < rounds_max)
    {
        times.push(time(times.len()));
    }
    times.sort_unstable();
    times[times.len() / 2]
}

fn time(
    set: &Set,
    count: usize,
    round: usize,
    table: &MatcherTable,
    out: &mut Vec<MatcherId>,
) -> Duration {
    // All over the set, so that no event finds in the caches what the last one left there.
    let event = (set.event)((round + 1) * 7919 % count);
    out.clear();
    let begun_at = Instant::now();
    table.matching(event.iter().map(String::as_str), out);
    begun_at.elapsed()
}
