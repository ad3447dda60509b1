use proptest::prelude::*;

use super::*;

fn matches(matcher: &str, topic: &str) -> bool {
    Matcher::parse(matcher)
        .expect("within the bounds")
        .matches(topic)
}

/// The probes of the protocol description, section 1.3, against the reference hub.
#[test]
fn the_reference_hubs_probes() {
    #[rustfmt::skip]
    let probes: &[(&str, &[&str], &[&str])] = &[
        ("x{id}y", &["xy", "x1y", "x1,2y", "x.jsony", "x%2Fy"], &["x/y", "x:y", "x?y", "x y", "xéy", "x=y", "x%y", "x%2y"]),
        ("{w:3}", &["", "1", "12345", "1,2", ".json"], &["/", ":"]),
        ("{a,b}", &["1", "1,2", "", "1,2,3"], &["=", "1,k=2", "/"]),
        ("{l*}", &["1", "1,2", "k=1,l=2"], &["/"]),
        ("{+p}", &["https://e.com/a?b=c&d#e[1]!$'()*+,;@", "%20", ""], &["é", " ", "%", "\""]),
        ("{#f}", &["", "#x", "#", "#a/b"], &["x", "# "]),
        ("{.e}", &["", ".json", ".", ".tar.gz"], &["json", "./"]),
        ("{/a,b}", &["", "/1", "/1/2", "/", "//"], &["1", "/1/2/3", "/1:2"]),
        ("{/a}", &["", "/1", "/"], &["/1/2"]),
        ("{/l*}", &["", "/1", "/1/2", "/1/2/3/4", "/k=1"], &["1"]),
        ("{;u}", &["", ";u=1", ";x", ";"], &["u=1", ";u=1;v=2"]),
        ("{;u,v}", &[";u=1;v=2", ";u;v"], &[";u;v;w"]),
        ("{?q}", &["", "?q=1", "?other=1", "?"], &["?q=1&p=2", "q=1"]),
        ("{?q,p}", &["?q=1", "?q=1&p=2"], &["?q=1&p=2&r=3"]),
        ("{?l*}", &["?a=1&b=2&c=3"], &["a=1"]),
        ("{&q}", &["", "&q=1", "&"], &["q=1", "?q=1"]),
        ("*", &["a", "*", "https://example.com/é"], &[]),
        ("a%2Fb", &["a%2Fb"], &["a%2fb", "a/b"]),
        ("https://example.com/books/{id}", &["https://example.com/books/1", "https://example.com/books/"], &["https://example.com/books/1/2", "https://example.com/Books/1", "http://example.com/books/1"]),
        ("/.well-known/mercure/subscriptions{/topic}{/subscriber}", &["/.well-known/mercure/subscriptions/a%20b/urn%3Auuid%3A1", "/.well-known/mercure/subscriptions"], &["/.well-known/mercure/subscriptions/a+b/urn%3Auuid%3A1"]),
        ("{id}", &["5"], &["urn:uuid:1", "https://example.com/1"]),
        // The first run takes `=` when the first variable is exploded, later ones when any is.
        ("{a,b*}", &["1,k=2"], &["k=1", "k=1,2"]),
        ("{a*,b}", &["k=1,2", "k=1,l=2"], &[]),
        ("é{id}", &["é1", "é"], &["e1"]),
        ("{}", &["", "1"], &["/"]),
        ("{a}{b}{+c}", &["x/y"], &["x y"]),
        ("{a.b}-{%41}", &["1-2"], &["1/2"]),
    ];
    for (matcher, fitting, foreign) in probes {
        for topic in *fitting {
            assert!(matches(matcher, topic), "{matcher} should match {topic:?}");
        }
        for topic in *foreign {
            assert!(
                !matches(matcher, topic),
                "{matcher} should not match {topic:?}"
            );
        }
    }
}

#[test]
fn a_malformed_template_is_a_plain_text() {
    let malformed = [
        "{",
        "}",
        "a}b{c}",
        "{a",
        "{a{b}}",
        "{=a}",
        "{,a}",
        "{!a}",
        "{@a}",
        "{|a}",
        "{a b}",
        "{a:0}",
        "{a:}",
        "{a:12345}",
        "{a:3*}",
        "{a**}",
        "{%4}",
        "{a}%4",
        "{a}%zz",
        "{a} ",
        "{a}\"",
        "{a}'",
        "<{a}",
        "{a}>",
        "\\{a}",
        "{a}^",
        "{a}`",
        "{a}|",
        "{+",
        "{+*a}",
        "{é}",
        "{a}\u{FFFE}",
        "{a}\u{1FFFF}",
        "{a}\u{FFFD}",
    ];
    for text in malformed {
        let matcher = Matcher::parse(text).expect("within the bounds");
        assert!(!matcher.is_template(), "{text}");
        assert!(matcher.matches(text), "{text}");
        assert!(!matcher.matches("1"), "{text}");
        assert_eq!(matcher.literal_prefix(), text);
    }
    for text in [
        "{a}",
        "{}",
        "{a:3}",
        "{a:1000}",
        "{a,}",
        "{*}",
        "{+a*,b:4}",
        "x{?}",
        "é{a}%20",
    ] {
        assert!(
            Matcher::parse(text)
                .expect("within the bounds")
                .is_template(),
            "{text}"
        );
    }
}

#[test]
fn a_template_matches_its_own_text() {
    for text in ["{a}", "https://example.com/{id}", "{?q}"] {
        assert!(matches(text, text));
    }
}

#[test]
fn bounds_are_checked() {
    let long = "x".repeat(TOPIC_BYTES_MAX + 1);
    let rows = [
        ("", TopicError::Empty),
        (&long, TopicError::TooLong),
        ("a\0", TopicError::Control),
        ("a\rb", TopicError::Control),
        ("a\nb", TopicError::Control),
        ("\u{7f}", TopicError::Control),
        ("\u{1b}[2J", TopicError::Control),
        ("\u{85}", TopicError::Control),
        ("a\u{202e}b", TopicError::Format),
        ("\u{feff}a", TopicError::Format),
        ("{a\u{200b}}", TopicError::Format),
        ("\u{ad}*", TopicError::Format),
    ];
    for (text, error) in rows {
        assert_eq!(parse_topic(text), Err(error));
        assert_eq!(Matcher::parse(text).err(), Some(error));
    }
    assert!(parse_topic(&long[1..]).is_ok());
    assert!(parse_topic("https://example.com/é?x={y}").is_ok());
    let many = "{+a}/".repeat(MATCHER_EXPRESSIONS_MAX + 1);
    assert_eq!(
        Matcher::parse(&many).err(),
        Some(TopicError::TooManyExpressions)
    );
    assert!(Matcher::parse(&many[5..]).is_ok());
}

#[test]
fn prefix_and_suffix_are_the_outer_literals() {
    let rows = [
        ("*", "", ""),
        ("plain", "plain", "plain"),
        ("a{b}c{d}e", "a", "e"),
        ("{b}c{d}", "", ""),
        ("é{b}", "é", ""),
        ("{b}%C3é", "", "%C3é"),
    ];
    for (text, prefix, suffix) in rows {
        let matcher = Matcher::parse(text).expect("within the bounds");
        assert_eq!(
            (matcher.literal_prefix(), matcher.literal_suffix()),
            (prefix, suffix)
        );
    }
    // They may not share bytes of the topic.
    assert!(!matches("ab{x}ba", "aba"));
    assert!(matches("ab{x}ba", "abba"));
}

#[test]
fn templates_built_to_backtrack_cost_little() {
    // A backtracking engine needs longer than the universe is old for each of these. The check
    // is that the test ends at all; the time is a matter of the benchmarks.
    let topic = "a".repeat(TOPIC_BYTES_MAX - 1) + "!";
    let slashes = "/".repeat(TOPIC_BYTES_MAX);
    let triplets = "%aa".repeat(TOPIC_BYTES_MAX / 3) + " ";
    for expression in [
        "{a}", "{a,b*}", "{+a*}", "{/a*}", "{+a}/", "{.a,b,c}", "a{a}", "%aa{x}",
    ] {
        let template = expression.repeat(MATCHER_EXPRESSIONS_MAX) + "\u{e9}";
        for topic in [&topic, &slashes, &triplets] {
            assert!(!matches(&template, topic), "{expression}");
        }
    }
}

#[test]
fn topics_longer_than_a_topic_may_be_are_matched_too() {
    // The target of a request to the subscriptions API may be longer.
    let target = format!("/s/{}/{}", "a".repeat(9_000), "b".repeat(3_000));
    assert!(matches("/s{/topic}{/subscriber}", &target));
    assert!(!matches("/s{/topic}{/subscriber}c", &target));
}

// The oracle: a naive backtracking matcher over what the generator built, so it shares neither
// the parser nor the algorithm with the code under test.

#[derive(Clone, Debug)]
enum Piece {
    Literal(String),
    Expression {
        operator: &'static str,
        exploded: Vec<bool>,
    },
}

impl Piece {
    fn text(&self) -> String {
        match self {
            Self::Literal(text) => text.clone(),
            Self::Expression { operator, exploded } => {
                let names: Vec<_> = exploded
                    .iter()
                    .map(|&is| if is { "v*" } else { "v" })
                    .collect();
                format!("{{{operator}{}}}", names.join(","))
            }
        }
    }
}

impl Piece {
    /// One topic the piece may stand for, so that the tests see matches often.
    fn expansion(&self) -> String {
        match self {
            Self::Literal(text) => text.clone(),
            Self::Expression { operator, exploded } => match *operator {
                "" | "+" => "a,".repeat(exploded.len()),
                "?" => "?a&".repeat(exploded.len()).replace("&?", "&"),
                other => format!("{other}a").repeat(exploded.len()),
            },
        }
    }
}

fn is_fitting(pieces: &[Piece], topic: &str) -> bool {
    let Some((piece, rest)) = pieces.split_first() else {
        return topic.is_empty();
    };
    match piece {
        Piece::Literal(text) => topic
            .strip_prefix(text.as_str())
            .is_some_and(|t| is_fitting(rest, t)),
        Piece::Expression { operator, exploded } => {
            let (first, separator) = match *operator {
                "" | "+" => ("", ","),
                "#" => ("#", ","),
                "?" => ("?", "&"),
                other => (other, other),
            };
            let is_wide = matches!(*operator, "+" | "#");
            let is_named = matches!(*operator, ";" | "?" | "&");
            let any = exploded.iter().any(|&is| is);
            let repeats = if any { usize::MAX } else { exploded.len() - 1 };
            let class = |with_equals: bool| {
                let mut class = String::from("-._~,");
                if is_wide {
                    class += "!#$&'()*+,/:;=?@[]";
                }
                if with_equals {
                    class.push('=');
                }
                class
            };
            let head = class(is_named || exploded[0]);
            let tail = class(is_named || any);
            is_fitting(rest, topic)
                || topic.strip_prefix(first).is_some_and(|inner| {
                    is_run_fitting(inner, &head, &mut |left| {
                        is_tail_fitting(left, separator, &tail, repeats, &|t| is_fitting(rest, t))
                    })
                })
        }
    }
}

/// Tries every end of a run over the class, longest last.
fn is_run_fitting(topic: &str, class: &str, then: &mut dyn FnMut(&str) -> bool) -> bool {
    if then(topic) {
        return true;
    }
    let mut chars = topic.chars();
    match chars.next() {
        Some('%') => {
            let digits = chars.as_str().get(..2).unwrap_or("");
            digits.len() == 2
                && digits.chars().all(|c| c.is_ascii_hexdigit())
                && is_run_fitting(&topic[3..], class, then)
        }
        Some(c) if c.is_ascii_alphanumeric() || class.contains(c) => {
            is_run_fitting(chars.as_str(), class, then)
        }
        _ => false,
    }
}

fn is_tail_fitting(
    topic: &str,
    separator: &str,
    class: &str,
    repeats: usize,
    then: &dyn Fn(&str) -> bool,
) -> bool {
    then(topic)
        || (repeats > 0
            && topic.strip_prefix(separator).is_some_and(|inner| {
                is_run_fitting(inner, class, &mut |left| {
                    is_tail_fitting(left, separator, class, repeats - 1, then)
                })
            }))
}

fn any_piece() -> impl Strategy<Value = Piece> {
    const OPERATORS: &[&str] = &["", "+", "#", ".", "/", ";", "?", "&"];
    prop_oneof![
        "(a|,|/|;|=|&|\\.|%2F|é){1,2}".prop_map(Piece::Literal),
        (
            prop::sample::select(OPERATORS),
            prop::collection::vec(any::<bool>(), 1..4)
        )
            .prop_map(|(operator, exploded)| Piece::Expression { operator, exploded }),
        // An exploded variable is the rarer case in the field.
        prop::sample::select(OPERATORS).prop_map(|operator| Piece::Expression {
            operator,
            exploded: vec![false, false]
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn agrees_with_a_naive_matcher(
        pieces in prop::collection::vec(any_piece(), 1..5),
        topics in prop::collection::vec("(a|,|/|;|=|&|\\.|\\?|#|%2F|%|é| ){0,9}", 8),
    ) {
        let text: String = pieces.iter().map(Piece::text).collect();
        let matcher = Matcher::parse(&text).expect("within the bounds");
        prop_assert_eq!(matcher.is_template(), text.contains('{'));
        let expansion: String = pieces.iter().map(Piece::expansion).collect();
        for topic in topics.into_iter().chain([expansion]) {
            prop_assert_eq!(
                matcher.matches(&topic), is_fitting(&pieces, &topic), "{} on {:?}", text, topic
            );
        }
    }

    #[test]
    fn parsing_and_matching_never_panic(text in "\\PC{0,40}", braces in "[{}+*,:%a-c0-9/?&é]{1,40}", topic in "\\PC{0,40}") {
        for matcher in [text, braces] {
            if let Ok(matcher) = Matcher::parse(&matcher) {
                let _ = matcher.matches(&topic);
                prop_assert!(matcher.matches(matcher.text()));
            }
        }
    }
}
