//! Rows 38, 39, 41, 43 and 44: topics and templates.

use super::{Healthy, status};
use crate::cases::ensure;
use crate::target::HUB;
use crate::{Case, Target, case};
use gush_testkit::{Outcome, Request, encode_component, encode_form};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = many();
    cases.extend(TOPICS.iter().map(topic_case));
    cases.push(templates());
    cases
}

const TOO_MANY: &[u16] = &[400, 414, 431, 0];

fn many() -> Vec<Case> {
    let asked = |what: &str, rule: &'static str, query: fn() -> String| {
        case(&format!("abuse/38-{what}"), &[], rule, move |t| {
            let mut healthy = Healthy::open(t)?;
            let mut connection = t.connect()?;
            let request =
                Request::get(&format!("{HUB}?{}", query())).bearer(&t.subscriber_token()?);
            let _ = connection.send_request(&request);
            let got = status(&mut connection)?;
            ensure(TOO_MANY.contains(&got), || {
                format!("400 was to come, not {got}")
            })?;
            healthy.check(t)
        })
    };
    vec![
        asked("2000-topics", "2,000 topics in a query: 400 or 414", || {
            (0..2000).fold(String::new(), |all, n| format!("{all}&topic={n}"))
        }),
        asked(
            "20000-parameters",
            "20,000 parameters in a query: 400, 414 or 431, fast",
            || "topic=x&".to_owned() + &"a=b&".repeat(20_000),
        ),
        asked(
            "30000-empty-parameters",
            "30,000 empty parameters and no topic: 400",
            || "&".repeat(30_000),
        ),
    ]
}

/// A topic as percent-encoded bytes that no side may take.
struct Topic {
    row: u8,
    what: &'static str,
    encoded: fn() -> String,
}

#[rustfmt::skip]
static TOPICS: &[Topic] = &[
    Topic { row: 41, what: "topic-of-60-kb", encoded: || "t".repeat(60_000) },
    Topic { row: 43, what: "topic-of-bad-utf-8", encoded: || "a%FF%FEb".into() },
    Topic { row: 43, what: "topic-of-a-cut-character", encoded: || "a%E2%82".into() },
    Topic { row: 43, what: "topic-of-an-overlong-slash", encoded: || "a%C0%AFb".into() },
    Topic { row: 43, what: "topic-of-a-surrogate", encoded: || "a%ED%A0%80b".into() },
    Topic { row: 44, what: "topic-with-nul", encoded: || "a%00b".into() },
    Topic { row: 44, what: "topic-with-cr", encoded: || "a%0Db".into() },
    Topic { row: 44, what: "topic-with-lf", encoded: || "a%0Ab".into() },
    Topic { row: 44, what: "topic-with-crlf-and-a-header", encoded: || "a%0D%0ASet-Cookie:%20x=y".into() },
    Topic { row: 44, what: "topic-with-del", encoded: || "a%7Fb".into() },
    Topic { row: 44, what: "topic-with-esc", encoded: || "a%1B%5B2Jb".into() },
    Topic { row: 44, what: "topic-with-nel", encoded: || "a%C2%85b".into() },
    Topic { row: 44, what: "topic-with-tab", encoded: || "a%09b".into() },
    Topic { row: 44, what: "topic-with-bidi-override", encoded: || "a%E2%80%AEb".into() },
    Topic { row: 44, what: "topic-with-bidi-isolate", encoded: || "a%E2%81%A6b".into() },
    Topic { row: 44, what: "topic-with-zero-width-space", encoded: || "a%E2%80%8Bb".into() },
    Topic { row: 44, what: "topic-with-byte-order-mark", encoded: || "%EF%BB%BFab".into() },
    Topic { row: 44, what: "topic-with-soft-hyphen", encoded: || "a%C2%ADb".into() },
    Topic { row: 44, what: "topic-with-tag-character", encoded: || "a%F3%A0%81%81b".into() },
    Topic { row: 44, what: "template-with-zero-width-space", encoded: || "a/%7Bb%7D%E2%80%8B".into() },
];

fn topic_case(row: &'static Topic) -> Case {
    case(
        &format!("abuse/{:02}-{}", row.row, row.what),
        &[],
        "400 on both sides, never a split head",
        |t| {
            let mut healthy = Healthy::open(t)?;
            let subscribe = Request::get(&format!("{HUB}?topic={}", (row.encoded)()));
            let answer = t.send(&subscribe.bearer(&t.subscriber_token()?))?;
            answer.expect_status(&[400, 414])?;
            ensure(answer.header("set-cookie").is_none(), || {
                answer.head.raw.clone()
            })?;
            let publish = Request::new("POST", HUB)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .bearer(&t.publisher_token()?)
                .body(format!("data=x&topic={}", (row.encoded)()));
            t.send(&publish)?.expect_status(&[400])?;
            healthy.check(t)
        },
    )
}

/// Templates and what they could be made to try again and again.
fn templates() -> Case {
    case(
        "abuse/39-templates-built-to-backtrack",
        &[],
        "matching is linear or limited, or the template is refused; others are served meanwhile",
        |t| {
            let mut healthy = Healthy::open(t)?;
            let bombs = [
                "{a}".repeat(60) + "!",
                "{+a}{+b}{+c}{+d}{+e}{+f}{+g}{+h}!".to_owned(),
                "{a*}{b*}{c*}{d*}{e*}{f*}!".to_owned(),
                "{/a*}{/b*}{/c*}{/d*}{/e*}!".to_owned(),
                "a{x}a{y}a{z}a{w}a{v}a{u}!".to_owned(),
                "{?q*}{&r*}{&s*}!".to_owned(),
                "{a}".repeat(1300),
                "{".repeat(4000),
                "}{".repeat(2000),
            ];
            let mut crowd = Vec::new();
            for _ in 0..10 {
                for bomb in &bombs {
                    let mut connection = t.connect()?;
                    let query = encode_form(&[("topic", bomb)]);
                    let request = Request::get(&format!("{HUB}?{query}"));
                    connection.send_request(&request.bearer(&t.subscriber_token()?))?;
                    let got = status(&mut connection)?;
                    ensure([200, 400, 414, 429, 503].contains(&got), || {
                        format!("{got} for {bomb:.60}")
                    })?;
                    crowd.push(connection);
                }
            }
            for filling in ["a", "/a", "a,", "%41", "&a=a", "aaaa!"] {
                published(t, &filling.repeat(4000 / filling.len()))?;
                healthy.check(t)?;
            }
            Ok(())
        },
    )
}

fn published(t: &Target, topic: &str) -> Outcome<()> {
    let body = format!("data=x&topic={}", encode_component(topic));
    let publish = Request::new("POST", HUB)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .bearer(&t.publisher_token()?)
        .body(body);
    t.send(&publish)?.expect_status(&[200])
}
