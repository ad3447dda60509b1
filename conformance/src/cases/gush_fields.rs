//! gush's own bounds on fields, selectors and encodings, and connections used more than once.

use super::{ensure, nothing_before};
use crate::target::HUB;
use crate::{Case, Target, case};
use gush_testkit::{Request, encode_component, encode_form};

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = CHECKS.iter().map(check_case).collect();
    cases.extend(bytes_cases());
    cases.extend(requests());
    cases
}

/// A publish field that gush refuses, or takes.
struct Check {
    name: &'static str,
    field: &'static str,
    value: fn() -> String,
    status: u16,
}

#[rustfmt::skip]
const CHECKS: &[Check] = &[
    Check { name: "topic-with-lf", field: "topic", value: || "a\nb".into(), status: 400 },
    Check { name: "topic-with-nul", field: "topic", value: || "a\0b".into(), status: 400 },
    Check { name: "topic-with-escape", field: "topic", value: || "a\u{1b}b".into(), status: 400 },
    Check { name: "topic-with-del", field: "topic", value: || "a\u{7f}b".into(), status: 400 },
    Check { name: "topic-with-c1", field: "topic", value: || "a\u{85}b".into(), status: 400 },
    Check { name: "topic-of-4096", field: "topic", value: || "t".repeat(4096), status: 200 },
    Check { name: "topic-of-4097", field: "topic", value: || "t".repeat(4097), status: 400 },
    Check { name: "id-with-hash", field: "id", value: || "#a".into(), status: 400 },
    Check { name: "id-earliest", field: "id", value: || "earliest".into(), status: 400 },
    Check { name: "id-with-format-character", field: "id", value: || "a\u{200b}b".into(), status: 400 },
    Check { name: "id-with-tab", field: "id", value: || "a\tb".into(), status: 400 },
    Check { name: "id-of-1024", field: "id", value: || "i".repeat(1024), status: 200 },
    Check { name: "id-of-1025", field: "id", value: || "i".repeat(1025), status: 400 },
    Check { name: "id-empty", field: "id", value: String::new, status: 200 },
    Check { name: "type-with-hash", field: "type", value: || "#a".into(), status: 200 },
    Check { name: "type-with-escape", field: "type", value: || "a\u{1b}".into(), status: 400 },
    Check { name: "type-of-1024", field: "type", value: || "i".repeat(1024), status: 200 },
    Check { name: "type-of-1025", field: "type", value: || "i".repeat(1025), status: 400 },
    Check { name: "retry-empty", field: "retry", value: String::new, status: 200 },
];

fn check_case(row: &'static Check) -> Case {
    case(
        &format!("gush/field-{}", row.name),
        &[],
        "topics up to 4096 bytes without control characters; ids and types up to 1024 bytes \
         without control and format characters; ids not starting with # and not `earliest`",
        |t| {
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            let value = (row.value)();
            let fields = [
                ("topic", topic.as_str()),
                ("data", "probe"),
                (row.field, &value),
            ];
            let response = t.try_publish(&fields)?;
            response.expect_status(&[row.status])?;
            if row.status == 200 {
                stream.expect_data("probe")?;
            } else {
                ensure(response.text().contains(row.field), || {
                    format!("the text should name the field, got {:?}", response.text())
                })?;
            }
            nothing_before(t, &mut stream, &topic)
        },
    )
}

fn bytes_cases() -> Vec<Case> {
    let post = |t: &Target, body: String| {
        let request = Request::new("POST", HUB)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .bearer(&t.publisher_token()?)
            .body(body);
        t.send(&request)
    };
    vec![
        case(
            "gush/data-not-utf-8",
            &[],
            "data that is no UTF-8: 400",
            move |t| {
                post(
                    t,
                    format!("topic={}&data=%FF", encode_component(&t.topic())),
                )?
                .expect_status(&[400])
            },
        ),
        case(
            "gush/topic-not-utf-8",
            &[],
            "a topic that is no UTF-8: 400 on both sides",
            move |t| {
                post(t, format!("topic={}%C0%80", encode_component(&t.topic())))?
                    .expect_status(&[400])?;
                let request =
                    Request::get(&format!("{HUB}?topic=a%FFb")).bearer(&t.subscriber_token()?);
                t.send(&request)?.expect_status(&[400])
            },
        ),
    ]
}

fn requests() -> Vec<Case> {
    vec![
        case(
            "gush/subscribe-with-controls",
            &[],
            "a selector with controls: 400",
            |t| {
                for selector in ["a\nb", "a\0b", "a\u{7f}"] {
                    let target = format!("{HUB}?{}", encode_form(&[("topic", selector)]));
                    t.send(&Request::get(&target).bearer(&t.subscriber_token()?))?
                        .expect_status(&[400])?;
                }
                Ok(())
            },
        ),
        case(
            "gush/subscribe-bad-encoding",
            &[],
            "bad percent-encoding in the query: 400",
            |t| {
                let request =
                    Request::get(&format!("{HUB}?topic=%zz")).bearer(&t.subscriber_token()?);
                t.send(&request)?.expect_status(&[400])
            },
        ),
        case(
            "gush/keep-alive",
            &[],
            "publish and subscribe on the same connection",
            |t| {
                let topic = t.topic();
                let mut connection = t.connect()?;
                let publish = Request::form(HUB, &[("topic", &topic), ("data", "0")])
                    .bearer(&t.publisher_token()?);
                connection.exchange(&publish)?.expect_status(&[200])?;
                connection
                    .exchange(&Request::get(HUB).bearer(&t.subscriber_token()?))?
                    .expect_status(&[400])?;
                let subscribe =
                    Target::subscribe_bare(&[("topic", &topic)]).bearer(&t.subscriber_token()?);
                connection.send_request(&subscribe)?;
                let mut stream = gush_testkit::SseStream::answered(connection)?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
    ]
}
