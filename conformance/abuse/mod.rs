//! The abuse catalogue: hostile input and behaviour, and the answer each must get.
//!
//! A case is named `abuse/ROW-WHAT`, with the row of the catalogue in README.md beside this file.
//! Rows that the protocol's cases check already are taken from there under this name as well, so
//! that `--abuse` is the whole catalogue. After every attack somebody well-behaved must be served.

mod bodies;
mod crowds;
mod fields;
mod framing;
mod heads;
mod http2;
mod tokens;
mod topics;

use crate::target::HUB;
use crate::{Case, Target, case, cases};
use gush_testkit::{Connection, Deadline, Failure, Outcome, PATIENCE, Request, SseStream};
use std::time::Duration;

/// Every case of the catalogue.
pub fn abuse() -> Vec<Case> {
    let mut all = heads::cases();
    all.extend(framing::cases());
    all.extend(bodies::cases());
    all.extend(http2::cases());
    all.extend(topics::cases());
    all.extend(fields::cases());
    all.extend(tokens::cases());
    all.extend(crowds::cases());
    all.extend(known());
    all
}

/// Rows of the catalogue and the protocol's case that checks them.
const KNOWN: &[(u8, &[&str])] = &[
    (
        17,
        &[
            "1.1/method-put",
            "1.1/method-delete",
            "1.1/method-trace",
            "1.1/method-invented",
        ],
    ),
    (18, &["1.1/head"]),
    (19, &["1.9/cors-foreign", "1.9/cors-off"]),
    (37, &["1.5/no-topic", "1.3/no-topic"]),
    (40, &["1.3/template-malformed"]),
    (
        42,
        &[
            "1.5/bad-encoding-data",
            "1.5/bad-encoding-cut",
            "1.5/bad-encoding-end",
        ],
    ),
    (
        45,
        &[
            "1.5/id-with-lf",
            "1.5/id-with-cr",
            "1.5/id-with-nul",
            "1.5/type-with-lf",
            "1.5/type-with-cr",
            "1.5/type-with-nul",
        ],
    ),
    (
        46,
        &[
            "1.4/data-lf",
            "1.4/data-cr",
            "1.4/data-crlf",
            "1.4/data-looks-like-fields",
        ],
    ),
    (
        49,
        &[
            "1.5/retry-negative",
            "1.5/retry-fraction",
            "1.5/retry-space",
            "1.5/retry-over-64-bit",
        ],
    ),
    (50, &["1.4/retry-zero"]),
    (51, &["1.7/no-injection"]),
    (
        53,
        &[
            "1.5/body-json",
            "1.5/body-multipart",
            "1.5/body-plain",
            "1.5/body-no-type",
        ],
    ),
    (58, &["1.4/large-data"]),
    (
        61,
        &[
            "1.6/forged-alg-none",
            "1.6/forged-alg-None",
            "1.6/forged-alg-NONE",
            "1.6/forged-alg-nOnE",
            "1.6/forged-alg-empty",
            "1.6/forged-other-hmac",
        ],
    ),
    (
        62,
        &["1.6/forged-flipped-signature", "1.6/forged-payload-changed"],
    ),
    (
        63,
        &[
            "1.6/forged-keys-are-separate",
            "1.6/bad-selectors-not-texts",
            "1.6/bad-selectors-not-a-list",
            "1.6/publish-missing-claim",
        ],
    ),
    (
        64,
        &[
            "1.6/bad-expired",
            "1.6/bad-not-yet-valid",
            "1.6/bad-exp-is-text",
        ],
    ),
    (68, &["1.6/place-two-headers"]),
    (69, &["1.6/bad-token-is-not-anonymous"]),
    (
        70,
        &[
            "1.6/cookie-publish-foreign-origin",
            "1.6/cookie-publish-no-origin",
        ],
    ),
    (
        71,
        &[
            "1.6/private-not-granted",
            "1.6/private-nothing-granted",
            "1.6/private-alternate-of-another-user",
            "1.7/private-in-replay",
        ],
    ),
    (72, &["1.6/stream-ends-at-exp"]),
];

fn known() -> Vec<Case> {
    let mut all = cases::all();
    let mut taken = Vec::new();
    for (row, names) in KNOWN {
        for name in *names {
            let at = all.iter().position(|case| case.name == *name);
            let mut case = all.swap_remove(at.expect("KNOWN names cases there are, each once"));
            let what = name.split_once('/').map_or(*name, |(_, what)| what);
            case.name = format!("abuse/{row:02}-{what}");
            taken.push(case);
        }
    }
    taken
}

/// Stands for "closed without an answer" among the statuses that will do.
const CLOSED: u16 = 0;

/// Bytes, and the answers that will do. The connection has to be closed after any of them: after
/// bytes whose meaning is unclear, what follows must never be taken for a request.
struct Attack {
    row: u8,
    what: &'static str,
    rule: &'static str,
    bytes: fn(&Target) -> Outcome<Vec<u8>>,
    allowed: &'static [u16],
}

impl Attack {
    fn case(&'static self) -> Case {
        let name = format!("abuse/{:02}-{}", self.row, self.what);
        case(&name, &[], self.rule, |target| {
            let mut healthy = Healthy::open(target)?;
            let mut connection = target.connect()?;
            // The hub may close before it has read all.
            let _ = connection.send(&(self.bytes)(target)?);
            expect_status(&mut connection, self.allowed)?;
            expect_closed(&mut connection)?;
            healthy.check(target)
        })
    }
}

/// A subscriber that has to get what is published after an attack, and nothing else.
struct Healthy {
    topic: String,
    stream: SseStream,
}

impl Healthy {
    fn open(target: &Target) -> Outcome<Self> {
        let topic = target.topic();
        let stream = target.subscribe(&[("topic", &topic)])?;
        Ok(Self { topic, stream })
    }

    fn check(&mut self, target: &Target) -> Outcome<()> {
        cases::nothing_before(target, &mut self.stream, &self.topic)
            .map_err(|failure| failure.within("a well-behaved pair after the attack"))
    }
}

/// The status of the answer; [`CLOSED`] when the hub closed without one.
fn status(connection: &mut Connection) -> Outcome<u16> {
    match connection.read_head(Deadline::after(PATIENCE)) {
        Ok(head) => Ok(head.status),
        Err(failure) if failure.to_string().contains("nothing came in time") => Err(failure),
        Err(_) => Ok(CLOSED),
    }
}

fn expect_status(connection: &mut Connection, allowed: &[u16]) -> Outcome<()> {
    let got = status(connection)?;
    if allowed.contains(&got) {
        return Ok(());
    }
    let wanted = format!("{allowed:?} (0: closed without an answer)");
    Failure::mismatch("status", wanted, format!("{got}"))
}

fn expect_closed(connection: &mut Connection) -> Outcome<()> {
    connection
        .read_to_close(PATIENCE)
        .map(drop)
        .map_err(|failure| failure.within("the connection was to be closed after the answer"))
}

/// A publish request's head up to its framing, with a token for everything.
fn post_head(target: &Target) -> Outcome<String> {
    Ok(format!(
        "POST {HUB} HTTP/1.1\r\nHost: hub.example\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n",
        target.publisher_token()?
    ))
}

/// A subscribe request's head without its end, with a token for everything.
fn get_head(target: &Target) -> Outcome<String> {
    Ok(format!(
        "GET {HUB}?topic=x HTTP/1.1\r\nHost: hub.example\r\nAuthorization: Bearer {}\r\n",
        target.subscriber_token()?
    ))
}

/// A good publish to a topic of nobody.
fn good_post(target: &Target) -> Outcome<Request> {
    let fields = [("topic", "https://abuse.example/nobody"), ("data", "x")];
    Ok(Request::form(HUB, &fields).bearer(&target.publisher_token()?))
}

/// How long a hub may take to end a connection that has its head timeout to finish: that, and room
/// for a loaded machine.
fn head_patience(target: &Target) -> Duration {
    target.head_timeout + PATIENCE
}
