use super::super::{Looked, MatcherTable};
use super::*;
use crate::dialect::{EXPRESSIONS_MAX, TOPICS_MAX};

fn matcher(text: &str) -> Matcher {
    Matcher::parse(text).expect("within the bounds")
}

/// As many of the texts as one subscribe may carry, until there are none left.
fn streams(texts: impl Iterator<Item = String>) -> Vec<Vec<Matcher>> {
    let mut streams = vec![Vec::new()];
    let mut expressions = 0;
    for matcher in texts.map(|text| matcher(&text)) {
        expressions += matcher.expressions();
        let full = |stream: &Vec<Matcher>| stream.len() == TOPICS_MAX;
        if expressions > EXPRESSIONS_MAX || streams.last().is_none_or(full) {
            expressions = matcher.expressions();
            streams.push(Vec::new());
        }
        streams.last_mut().expect("there is one").push(matcher);
    }
    streams
}

/// Somebody who opens as many streams as there may be, each with as much as it is let in with.
#[derive(Default)]
struct Attacker {
    crowds: Arc<Crowds>,
    table: MatcherTable,
    places: Vec<Places>,
}

impl Attacker {
    fn subscribe(&mut self, stream: &[Matcher], streams_max: usize) {
        if self.places.len() == streams_max {
            return;
        }
        if let Ok(places) = self.crowds.enter(stream) {
            self.places.push(places);
            for matcher in stream {
                self.table.intern(matcher);
            }
        } else if stream.len() > 1 {
            let (one, other) = stream.split_at(stream.len() / 2);
            self.subscribe(one, streams_max);
            self.subscribe(other, streams_max);
        }
    }

    /// What matching the topic looks at.
    fn publish(&self, topic: &str) -> Looked {
        self.table.matching(std::iter::once(topic), &mut Vec::new());
        self.table.looked()
    }

    fn leave(self) {
        drop(self.places);
        let state = self.crowds.lock();
        assert!(state.programs.is_empty() && state.crowds.is_empty());
    }
}

/// Bit by bit: another part for each 0 and each 1.
fn choices(number: usize, bits: u32, parts: [&str; 2]) -> String {
    (0..bits).map(|bit| parts[number >> bit & 1]).collect()
}

fn kinds(number: usize) -> String {
    const KINDS: [&str; 4] = ["{/a,b}", "{.a}", "{;a*}", "{?a}"];
    (0..64)
        .map(|place| KINDS[number >> (2 * (place % 9)) & 3])
        .collect()
}

type Shape = (&'static str, fn(usize) -> String, String);

/// Each with a topic that has all the literals of all the templates.
fn shapes() -> [Shape; 7] {
    [
        ("expressions in every order", kinds, "/b.c;d=e?f=g".into()),
        (
            "literals in every order",
            |i| choices(i, 17, ["{+x}a", "{+x}b"]) + "{+x}a{y}b{y}",
            "ab".repeat(40),
        ),
        (
            "some of many literals",
            |i| choices(i, 17, ["{+x}/", "{/x}-"]) + &format!("{{+x}}{}{{y}}", i % 10),
            "/a-b.c~d".repeat(8) + "0123456789!",
        ),
        (
            "prefixes of every length",
            |i| {
                format!(
                    "{}{}",
                    "a".repeat(i % 40),
                    choices(i / 40, 12, ["{x}a", "{/x}a"])
                )
            },
            "a".repeat(40) + "!a",
        ),
        (
            "suffixes of every length",
            |i| {
                format!(
                    "{}{}",
                    choices(i / 40, 12, ["a{x}", "a{/x}"]),
                    "a".repeat(i % 40)
                )
            },
            "a!".to_owned() + &"a".repeat(60),
        ),
        (
            "prefixes and suffixes of every length, and names",
            |i| {
                let (prefix, suffix) = ("a".repeat(i % 30), "a".repeat(i / 30 % 30));
                format!("{prefix}{{x{i}}}/{{y}}{suffix}")
            },
            "a".repeat(30) + "!/" + &"a".repeat(30),
        ),
        (
            "numbers of variables",
            |i| {
                format!(
                    "/{{?a{}}}{{&b{}}}",
                    ",a".repeat(i % 99),
                    ",b".repeat(i / 99)
                )
            },
            "/?a=1&b=2/".into(),
        ),
    ]
}

#[test]
fn what_somebody_can_make_an_event_cost_has_a_bound() {
    for (what, text, topic) in shapes() {
        let streams = streams((0..20_000).map(text));
        let [few, many] = [100, 1000].map(|streams_max| {
            let mut attacker = Attacker::default();
            for stream in &streams {
                attacker.subscribe(stream, streams_max);
            }
            let looked = attacker.publish(&topic);
            let count = attacker.places.len();
            println!("{what}: {count} streams, {looked:?}");
            let bound = steps_max(topic.len(), count);
            assert!(looked.steps_count <= bound, "{what}");
            attacker.leave();
            (looked.steps_count, count)
        });
        // Once the crowds are full another stream adds what is free for it, and no more.
        let free = (many.1 - few.1) * FREE_EXPRESSIONS * topic.len();
        assert!(many.0 <= few.0 + free, "{what}");
    }
}

#[test]
fn a_stream_with_few_templates_is_let_in_whatever_others_hold() {
    let crowds = Arc::new(Crowds::default());
    let attack = (0..100).map(|i| crowds.enter(&[matcher(&kinds(i))]));
    let places: Vec<_> = attack.collect();
    assert!(places[0].is_ok() && places[99].is_err());
    let few = |count: usize| [matcher(&"{.a}{;b}".repeat(count))];
    assert!(crowds.enter(&few(FREE_EXPRESSIONS / 2)).is_ok());
    let refused = crowds.enter(&few(FREE_EXPRESSIONS / 2 + 1));
    assert_eq!(refused.err(), Some(Crowded));
    drop(places);
    assert!(crowds.enter(&few(FREE_EXPRESSIONS / 2 + 1)).is_ok());
}

#[test]
fn templates_that_accept_the_same_take_one_place() {
    let crowds = Arc::new(Crowds::default());
    let named = |stream: usize| -> Vec<_> {
        let text = |i| format!("/{{a{stream}_{i}}}{{?b}}");
        (0..1000).map(|i| matcher(&text(i))).collect()
    };
    let places: Vec<_> = (0..20).map(|stream| crowds.enter(&named(stream))).collect();
    assert!(places.iter().all(Result::is_ok));
    assert_eq!(crowds.lock().programs.len(), 1);
    let sizes: usize = crowds.lock().crowds.values().sum();
    assert_eq!(sizes, 2);
}

#[test]
fn templates_with_literals_of_their_own_are_never_too_many() {
    let crowds = Arc::new(Crowds::default());
    let shapes: [fn(usize) -> String; 4] = [
        |i| format!("https://example.com/users/{i}/{{kind}}{{?q}}"),
        |i| format!("https://example.com/x/{{a}}/{i}/{{b}}"),
        |i| format!("{{+base}}/k{i}{{?q*}}"),
        |i| format!("https://example.com/{}/{{x}}/{}{{?q}}", i / 300, i % 300),
    ];
    let mut places = Vec::new();
    for shape in shapes {
        for stream in streams((0..50_000).map(shape)) {
            places.push(crowds.enter(&stream).expect("told apart"));
        }
    }
    assert_eq!(crowds.lock().programs.len(), 200_000);
}
