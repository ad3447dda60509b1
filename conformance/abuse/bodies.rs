//! Rows 5, 52 and 54 to 59: bodies that are slow, large, packed or many.

use super::{CLOSED, Healthy, expect_closed, expect_status, post_head};
use crate::cases::ensure;
use crate::target::HUB;
use crate::{Case, Target, case};
use gush_testkit::{Connection, Deadline, Outcome, PATIENCE, Request, peers};
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = slow();
    cases.extend(FORMS.iter().map(form_case));
    cases.extend(large());
    cases.extend(packed());
    cases
}

fn slow() -> Vec<Case> {
    vec![
        case(
            "abuse/05-body-never-sent",
            &[],
            "a body that is promised and never sent: 408, 400 or close",
            |t| {
                let mut healthy = Healthy::open(t)?;
                let mut connection = t.connect()?;
                let head = post_head(t)? + "Content-Length: 100\r\n\r\ntopic=";
                connection.send(head.as_bytes())?;
                late(t, &mut connection)?;
                healthy.check(t)
            },
        ),
        case(
            "abuse/05-body-dripping",
            &[],
            "a body that drips: 408, 400 or close, whatever its rate",
            |t| {
                let mut healthy = Healthy::open(t)?;
                let mut connection = t.connect()?;
                let head = post_head(t)? + "Content-Length: 100000\r\n\r\ntopic=x&data=";
                connection.send(head.as_bytes())?;
                let deadline = Deadline::after(t.body_timeout + PATIENCE);
                // The drip's pace is the wait of the look for an answer.
                while connection.send(b"a").is_ok() {
                    if peers::read_step(&connection, 512, Duration::from_millis(20)).is_ok() {
                        return healthy.check(t);
                    }
                    ensure(deadline.left().is_some(), || "still waited for".to_owned())?;
                }
                healthy.check(t)
            },
        ),
    ]
}

fn late(t: &Target, connection: &mut Connection) -> Outcome<()> {
    let answer = connection.read_to_close(t.body_timeout + PATIENCE)?;
    let answer = String::from_utf8_lossy(&answer);
    let will_do = answer.is_empty() || answer.contains(" 408 ") || answer.contains(" 400 ");
    ensure(will_do, || {
        format!("408, 400 or close was to come, not {answer:?}")
    })
}

/// A form, and the answers that will do.
struct Form {
    row: u8,
    what: &'static str,
    body: fn() -> String,
    allowed: &'static [u16],
}

#[rustfmt::skip]
static FORMS: &[Form] = &[
    Form { row: 52, what: "10000-topics", body: || "topic=a&".repeat(10_000), allowed: &[400, 413] },
    Form { row: 54, what: "90000-keys", body: || format!("topic=x&{}", "a=b&".repeat(90_000)), allowed: &[200, 400, 413] },
    Form { row: 54, what: "90000-different-keys", body: || (0..90_000).fold("topic=x".to_owned(), |all, n| format!("{all}&{n}=")), allowed: &[200, 400, 413] },
    Form { row: 54, what: "90000-empty-keys", body: || format!("topic=x{}", "&".repeat(90_000)), allowed: &[200, 400, 413] },
    Form { row: 59, what: "300000-empty-lines", body: || format!("topic=x&data={}", "%0A".repeat(300_000)), allowed: &[200, 413] },
];

fn form_case(row: &'static Form) -> Case {
    case(
        &format!("abuse/{:02}-{}", row.row, row.what),
        &[],
        "forms of many parts are read or refused in linear time",
        |t| {
            let mut healthy = Healthy::open(t)?;
            let request = Request::new("POST", HUB)
                .header("Content-Type", "application/x-www-form-urlencoded")
                .bearer(&t.publisher_token()?)
                .body((row.body)());
            t.send(&request)?.expect_status(row.allowed)?;
            healthy.check(t)
        },
    )
}

/// Sends a body piece by piece until the hub ends it; fails when it takes `most` bytes.
fn flood(connection: &mut Connection, piece: &[u8], most: usize) -> Outcome<()> {
    let mut sent = 0;
    while connection.send(piece).is_ok() {
        sent += piece.len();
        ensure(sent < most, || format!("{sent} bytes of a body were taken"))?;
    }
    Ok(())
}

const MIB: usize = 1 << 20;

fn large() -> Vec<Case> {
    vec![
        case(
            "abuse/55-body-of-1-gib",
            &[],
            "a body of 1 GiB by its length: 413 or 400 at once",
            |t| {
                let mut healthy = Healthy::open(t)?;
                let mut connection = t.connect()?;
                let head = post_head(t)? + "Content-Length: 1073741824\r\n\r\ntopic=x";
                connection.send(head.as_bytes())?;
                expect_status(&mut connection, &[400, 413])?;
                healthy.check(t)
            },
        ),
        case(
            "abuse/55-chunk-of-2-gib",
            &[],
            "one chunk of 2 GiB: ended at the limit, memory flat",
            |t| endless(t, b"80000000\r\n", &[b'x'; 64 << 10]),
        ),
        case(
            "abuse/55-endless-chunks",
            &[],
            "chunks without an end: ended at the limit, memory flat",
            |t| {
                let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
                endless(t, b"", piece.as_bytes())
            },
        ),
        case(
            "abuse/56-body-of-1-gib-without-token",
            &[],
            "1 GiB without a token: 401 from the head, the body is not read",
            |t| {
                let mut healthy = Healthy::open(t)?;
                let mut connection = t.connect()?;
                let head = format!(
                    "POST {HUB} HTTP/1.1\r\nHost: h\r\nContent-Length: 1073741824\r\n\
                     Content-Type: application/x-www-form-urlencoded\r\n\r\n"
                );
                connection.send(head.as_bytes())?;
                expect_status(&mut connection, &[401])?;
                flood(&mut connection, &[b'x'; 64 << 10], 64 * MIB)?;
                healthy.check(t)
            },
        ),
    ]
}

/// Bodies without an end, one after the other: none is kept.
fn endless(t: &Target, first: &[u8], piece: &[u8]) -> Outcome<()> {
    let mut healthy = Healthy::open(t)?;
    healthy.check(t)?;
    let before = t.memory_bytes()?;
    for _ in 0..3 {
        let mut connection = t.connect()?;
        let head = post_head(t)? + "Transfer-Encoding: chunked\r\n\r\n";
        connection.send(&[head.as_bytes(), first].concat())?;
        flood(&mut connection, piece, 128 * MIB)?;
        expect_status(&mut connection, &[400, 413, CLOSED])?;
        let _ = expect_closed(&mut connection);
        healthy.check(t)?;
    }
    // One body of at most 10 MiB at a time, in a buffer that doubles.
    t.memory_grew_less(before, 64 * MIB)
}

fn packed() -> Vec<Case> {
    vec![case(
        "abuse/57-gzip-bomb",
        &[],
        "a packed body: 415 or 400, never unpacked",
        |t| {
            let mut healthy = Healthy::open(t)?;
            for coding in ["gzip", "deflate", "br", "zstd", "identity, gzip"] {
                let bomb: &[u8] =
                    b"\x1f\x8b\x08\0\0\0\0\0\x02\xff\xed\xc1\x01\r\0\0\0\xc2\xa0\xf7O";
                let request = Request::new("POST", HUB)
                    .header("Content-Type", "application/x-www-form-urlencoded")
                    .header("Content-Encoding", coding)
                    .bearer(&t.publisher_token()?)
                    .body(bomb.to_vec());
                t.send(&request)?.expect_status(&[400, 415])?;
            }
            healthy.check(t)
        },
    )]
}
