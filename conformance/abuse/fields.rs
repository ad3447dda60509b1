//! Rows 47, 48 and what is beyond CR, LF and NUL in 45: fields of an event.

use super::Healthy;
use crate::cases::{ensure, nothing_before};
use crate::target::HUB;
use crate::{Case, case};
use gush_testkit::Request;

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = FIELDS.iter().map(field_case).collect();
    cases.extend(data());
    cases
}

/// A field whose value no event may have.
struct Field {
    row: u8,
    what: &'static str,
    encoded: fn() -> String,
    allowed: &'static [u16],
}

#[rustfmt::skip]
static FIELDS: &[Field] = &[
    Field { row: 45, what: "id-with-nel", encoded: || "id=a%C2%85b".into(), allowed: &[400] },
    Field { row: 45, what: "id-with-bidi-override", encoded: || "id=a%E2%80%AEb".into(), allowed: &[400] },
    Field { row: 45, what: "id-with-zero-width-space", encoded: || "id=a%E2%80%8Bb".into(), allowed: &[400] },
    Field { row: 45, what: "id-with-byte-order-mark", encoded: || "id=a%EF%BB%BFb".into(), allowed: &[400] },
    Field { row: 45, what: "id-with-soft-hyphen", encoded: || "id=a%C2%ADb".into(), allowed: &[400] },
    Field { row: 45, what: "type-with-zero-width-space", encoded: || "type=a%E2%80%8Bb".into(), allowed: &[400] },
    Field { row: 45, what: "type-with-soft-hyphen", encoded: || "type=a%C2%ADb".into(), allowed: &[400] },
    Field { row: 45, what: "type-with-bidi-override", encoded: || "type=a%E2%80%AEb".into(), allowed: &[400] },
    Field { row: 45, what: "type-with-line-and-data", encoded: || "type=a%0Adata:%20forged%0A%0A".into(), allowed: &[400] },
    Field { row: 45, what: "id-of-bad-utf-8", encoded: || "id=a%FFb".into(), allowed: &[400] },
    Field { row: 48, what: "id-of-64-kib", encoded: || format!("id={}", "i".repeat(65_536)), allowed: &[400] },
    Field { row: 48, what: "type-of-64-kib", encoded: || format!("type={}", "i".repeat(65_536)), allowed: &[400] },
    Field { row: 48, what: "id-with-hash", encoded: || "id=%23x".into(), allowed: &[400] },
    Field { row: 48, what: "id-earliest", encoded: || "id=earliest".into(), allowed: &[400] },
    Field { row: 49, what: "retry-of-40-digits", encoded: || format!("retry={}", "9".repeat(40)), allowed: &[400] },
    Field { row: 49, what: "retry-of-other-digits", encoded: || "retry=%D9%A1%D9%A2".into(), allowed: &[400] },
    Field { row: 47, what: "data-of-bad-utf-8", encoded: || "data=a%FFb".into(), allowed: &[400] },
];

fn field_case(row: &'static Field) -> Case {
    case(
        &format!("abuse/{:02}-{}", row.row, row.what),
        &[],
        "400, and nothing is delivered",
        |t| {
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            let body = format!(
                "topic={}&{}",
                gush_testkit::encode_component(&topic),
                (row.encoded)()
            );
            let request = Request::new("POST", HUB)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .bearer(&t.publisher_token()?)
                .body(body);
            t.send(&request)?.expect_status(row.allowed)?;
            nothing_before(t, &mut stream, &topic)
        },
    )
}

fn data() -> Vec<Case> {
    vec![case(
        "abuse/47-nul-in-data",
        &[],
        "NUL in data is refused or passed on as it is; the stream stays good UTF-8",
        |t| {
            let mut healthy = Healthy::open(t)?;
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            let response = t.try_publish(&[("topic", &topic), ("data", "a\0b")])?;
            response.expect_status(&[200, 400])?;
            if response.status() == 200 {
                let event = stream.next_event()?;
                ensure(
                    ["a\0b", "a\u{fffd}b"].contains(&event.data.as_str()),
                    || format!("{:?}", event.data),
                )?;
            }
            healthy.check(t)
        },
    )]
}
