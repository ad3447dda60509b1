//! 1.3 the subscribe request, apart from templates.

use super::{ensure, nothing_before, same};
use crate::target::HUB;
use crate::{Case, Need, Target, case};
use gush_testkit::{Outcome, Request, encode_component};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = matching();
    cases.extend(texts());
    cases.extend(limits());
    cases.extend(cursors());
    cases.extend(empty_cursors());
    cases
}

fn limits() -> Vec<Case> {
    vec![
        case("1.3/no-topic", &[], "no `topic` parameter: 400", |t| {
            for query in ["", "?", "?other=x", "?Topic=x"] {
                let request = Request::get(&format!("{HUB}{query}")).bearer(&t.subscriber_token()?);
                t.send(&request)?
                    .expect_status(&[400])
                    .map_err(|f| f.within(query))?;
            }
            Ok(())
        }),
        case(
            "1.3/thousand-topics",
            &[],
            "a thousand topics are allowed",
            |t| {
                let topic = t.unique();
                let request = Request::get(&format!("{}&topic={topic}", many_topics(999)))
                    .bearer(&t.subscriber_token()?);
                nothing_before(t, &mut t.open(&request)?, &topic)
            },
        ),
        case(
            "1.3/too-many-topics",
            &[],
            "more than a thousand topics: 400 (414 and 431 will do)",
            |t| {
                let request = Request::get(&many_topics(1001)).bearer(&t.subscriber_token()?);
                t.send(&request)?.expect_status(&[400, 414, 431])
            },
        ),
        case(
            "1.3/unknown-parameters",
            &[],
            "unknown query parameters are ignored",
            |t| {
                let topic = t.topic();
                let query = [
                    ("foo", "bar"),
                    ("topic", topic.as_str()),
                    ("topics", "x"),
                    ("", "y"),
                ];
                nothing_before(t, &mut t.subscribe(&query)?, &topic)
            },
        ),
        case(
            "1.3/accept-ignored",
            &[],
            "the Accept header is ignored",
            |t| {
                let topic = t.topic();
                let request = Target::subscribe_bare(&[("topic", &topic)])
                    .bearer(&t.subscriber_token()?)
                    .header("Accept", "application/json, image/png;q=0.5");
                nothing_before(t, &mut t.open(&request)?, &topic)
            },
        ),
    ]
}

fn many_topics(count: usize) -> String {
    let topics: Vec<String> = (0..count).map(|n| format!("topic={n}")).collect();
    format!("{HUB}?{}", topics.join("&"))
}

fn matching() -> Vec<Case> {
    vec![
        case(
            "1.3/several-topics",
            &[],
            "one stream carries all topics asked for",
            |t| {
                let (a, b) = (t.topic(), t.topic());
                let mut stream = t.subscribe(&[("topic", &a), ("topic", &b)])?;
                t.say(&a, "1")?;
                t.say(&t.topic(), "foreign")?;
                t.say(&b, "2")?;
                t.say(&a, "3")?;
                stream.expect_all(&["1", "2", "3"])
            },
        ),
        case(
            "1.3/sent-once",
            &[],
            "an update is sent once however many selectors match, and selectors may be repeated",
            |t| {
                let (a, b) = (t.topic(), t.topic());
                let template = format!("{a}{{/rest}}");
                let query = [
                    ("topic", a.as_str()),
                    ("topic", &a),
                    ("topic", &b),
                    ("topic", &template),
                ];
                let mut stream = t.subscribe(&query)?;
                t.publish(&[("topic", &a), ("topic", &b), ("data", "once")])?;
                stream.expect_data("once")?;
                nothing_before(t, &mut stream, &a)
            },
        ),
        case("1.3/star", &[], "`*` matches every topic", |t| {
            let mut stream = t.subscribe(&[("topic", "*")])?;
            for topic in [
                t.topic(),
                t.unique(),
                format!("urn:x:{}", t.unique()),
                "*".into(),
            ] {
                let marker = t.unique();
                t.say(&topic, &marker)?;
                // Others may use the hub while the suite runs.
                while stream.next_event()?.data != marker {}
            }
            Ok(())
        }),
        case(
            "1.3/star-inside",
            &[],
            "`*` means all only when it is the whole selector",
            |t| {
                let topic = t.topic();
                let mut stream =
                    t.subscribe(&[("topic", &format!("{topic}*")), ("topic", &topic)])?;
                t.say(&format!("{topic}/x"), "no")?;
                t.say(&format!("{topic}x"), "no")?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
    ]
}

fn texts() -> Vec<Case> {
    vec![
        case(
            "1.3/no-normalising",
            &[],
            "selectors and topics are compared byte by byte: no case folding, no decoding, no \
             Unicode normal form, no dot segments, no default port",
            no_normalising,
        ),
        case(
            "1.3/any-text-is-a-topic",
            &[],
            "a topic need not be a URL",
            |t| {
                for text in [
                    "plain",
                    "with space",
                    "emoji \u{1f600}",
                    "a+b",
                    "a&b=c",
                    "q?x#y",
                    "[x]",
                ] {
                    let topic = format!("{text} {}", t.unique());
                    let mut stream = t.subscribe(&[("topic", &topic)])?;
                    nothing_before(t, &mut stream, &topic).map_err(|f| f.within(text))?;
                }
                Ok(())
            },
        ),
        case(
            "1.3/plus-is-space",
            &[],
            "`+` and `%20` in the query are a space",
            |t| {
                let topic = format!("a b {}", t.unique());
                let encoded = encode_component(&topic);
                for form in [encoded.replace("%20", "+"), encoded.clone()] {
                    let request =
                        Request::get(&format!("{HUB}?topic={form}")).bearer(&t.subscriber_token()?);
                    nothing_before(t, &mut t.open(&request)?, &topic)?;
                }
                Ok(())
            },
        ),
    ]
}

fn no_normalising(t: &Target) -> Outcome<()> {
    let base = format!("http://Conformance.example:80/{}", t.unique());
    let variants = [
        format!("{base}/a%2Fb"),
        format!("{base}/a%2fb"),
        format!("{base}/a/b"),
        format!("{base}/a/b/"),
        format!("{base}/A/b"),
        format!("{base}/./a/b"),
        base.replace(":80", "") + "/a/b",
        base.replace('C', "c") + "/a/b",
        format!("{base}/\u{e9}"),
        format!("{base}/e\u{301}"),
        format!("{base}/%C3%A9"),
    ];
    for (at, selector) in variants.iter().enumerate() {
        let mut stream = t.subscribe(&[("topic", selector)])?;
        for (n, topic) in variants.iter().enumerate() {
            t.say(topic, &n.to_string())?;
        }
        let place = |f: gush_testkit::Failure| f.within(selector);
        stream.expect_data(&at.to_string()).map_err(place)?;
        nothing_before(t, &mut stream, selector).map_err(place)?;
    }
    Ok(())
}

fn cursors() -> Vec<Case> {
    let needs = &[Need::History];
    vec![
        case(
            "1.3/cursor-header",
            needs,
            "`Last-Event-ID` header: replay from there",
            |t| {
                let (topic, first) = three(t)?;
                t.resume(&topic, &first)?.expect_all(&["2", "3"])
            },
        ),
        case(
            "1.3/cursor-query",
            needs,
            "`lastEventID` in the query: replay from there",
            |t| {
                let (topic, first) = three(t)?;
                t.subscribe(&[("topic", &topic), ("lastEventID", &first)])?
                    .expect_all(&["2", "3"])
            },
        ),
        case(
            "1.3/cursor-header-wins",
            needs,
            "the header comes before the query",
            |t| {
                let topic = t.topic();
                let first = t.say(&topic, "1")?;
                let second = t.say(&topic, "2")?;
                t.say(&topic, "3")?;
                let request = Target::subscribe_bare(&[("topic", &topic), ("lastEventID", &first)])
                    .bearer(&t.subscriber_token()?)
                    .header("Last-Event-ID", &second);
                let mut stream = t.open(&request)?;
                stream.head().expect_header("Last-Event-ID", &second)?;
                stream.expect_data("3")?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
    ]
}

fn empty_cursors() -> Vec<Case> {
    let needs = &[Need::History];
    vec![
        case(
            "1.3/empty-cursor",
            needs,
            "an empty cursor is none: no replay, no header",
            |t| {
                let (topic, _) = three(t)?;
                let with_header = Target::subscribe_bare(&[("topic", &topic)])
                    .bearer(&t.subscriber_token()?)
                    .header("Last-Event-ID", "");
                let with_query = Target::subscribe_bare(&[("topic", &topic), ("lastEventID", "")])
                    .bearer(&t.subscriber_token()?);
                for request in [with_header, with_query] {
                    let mut stream = t.open(&request)?;
                    let header = stream.head().header("Last-Event-ID").map(str::to_owned);
                    same("Last-Event-ID of the answer", &header, &None)?;
                    nothing_before(t, &mut stream, &topic)?;
                }
                Ok(())
            },
        ),
        case(
            "1.3/empty-header-then-query",
            needs,
            "an empty header leaves the query's cursor standing",
            |t| {
                let (topic, first) = three(t)?;
                let request = Target::subscribe_bare(&[("topic", &topic), ("lastEventID", &first)])
                    .bearer(&t.subscriber_token()?)
                    .header("Last-Event-ID", "");
                t.open(&request)?.expect_all(&["2", "3"])
            },
        ),
        case(
            "1.3/no-cursor",
            needs,
            "without a cursor nothing is replayed",
            |t| {
                let (topic, _) = three(t)?;
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                ensure(stream.head().header("Last-Event-ID").is_none(), || {
                    format!("no Last-Event-ID expected in\n{}", stream.head().raw)
                })?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
    ]
}

/// Publishes 1, 2, 3 on a topic of its own; the topic and the first id.
fn three(t: &Target) -> Outcome<(String, String)> {
    let topic = t.topic();
    let first = t.say(&topic, "1")?;
    t.say(&topic, "2")?;
    t.say(&topic, "3")?;
    Ok((topic, first))
}
