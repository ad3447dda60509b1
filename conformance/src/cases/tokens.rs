//! 1.6 which tokens are good, and where they are looked for.

use super::{ensure, nothing_before};
use crate::target::HUB;
use crate::{Case, Need, Target, case};
use gush_testkit::{Claims, Outcome, Request, Response, TokenKey, unsigned_token};
use serde_json::json;

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = GOOD
        .iter()
        .map(|&(name, claims)| {
            case(&format!("1.6/good-{name}"), &[], GOOD_RULE, move |t| {
                publish_as(t, &t.publisher.sign(&claims())?)?.expect_status(&[200])?;
                let topic = t.topic();
                let token = t.subscriber.sign(&claims())?;
                let mut stream = t.subscribe_as(&token, &[("topic", &topic)])?;
                t.publish(&[("topic", &topic), ("data", "secret"), ("private", "on")])?;
                stream.expect_data("secret").map(drop)
            })
        })
        .collect();
    cases.extend(BAD.iter().map(|&(name, claims)| {
        case(&format!("1.6/bad-{name}"), &[], BAD_RULE, move |t| {
            publish_as(t, &t.publisher.sign(&claims())?)?.expect_status(&[401])?;
            subscribe_as(t, &t.subscriber.sign(&claims())?)?.expect_status(&[401])
        })
    }));
    cases.push(case(
        "1.6/thousand-selectors",
        &[],
        "up to a thousand selectors in a list are taken, more are refused",
        |t| {
            for (count, status) in [(1000, 200), (1001, 401)] {
                let list = selectors(count);
                let publish = t.publisher.sign(&Claims::new().publish(&list))?;
                publish_as(t, &publish)?.expect_status(&[status])?;
                let subscribe = t.subscriber.sign(&Claims::new().subscribe(&list))?;
                subscribe_as(t, &subscribe)?.expect_status(&[status])?;
            }
            Ok(())
        },
    ));
    cases.extend(forged());
    cases.extend(places());
    cases.extend(odd_places());
    cases
}

const GOOD_RULE: &str = "exp and nbf are enforced when present, exp is not required; iss, aud and \
     sub are not looked at; the claim may be called https://mercure.rocks/, which replaces mercure";
const BAD_RULE: &str = "expired, not yet valid, or with a claim of the wrong shape: 401, also where \
     anonymous subscribers are let in";

type Make = fn() -> Claims;

fn all() -> Claims {
    Claims::new().publish(&["*"]).subscribe(&["*"])
}

/// Of the shortest kind, so that the token is not refused for its size.
fn selectors(count: usize) -> Vec<&'static str> {
    let mut list = vec!["a"; count - 1];
    list.push("*");
    list
}

const GOOD: &[(&str, Make)] = &[
    ("without-exp", all),
    ("with-exp", || all().expires_in(3600)),
    ("with-nbf", || all().not_before_in(-3600)),
    ("with-other-claims", || {
        all()
            .claim("iss", json!("nobody"))
            .claim("aud", json!(["elsewhere"]))
            .claim("sub", json!("me"))
            .claim("x", json!({"y": [1, null]}))
    }),
    ("namespaced", || {
        Claims::new().claim(
            "https://mercure.rocks/",
            json!({"publish": ["*"], "subscribe": ["*"]}),
        )
    }),
    ("namespaced-replaces", || {
        Claims::new()
            .publish(&["nothing"])
            .subscribe(&["nothing"])
            .claim(
                "https://mercure.rocks/",
                json!({"publish": ["*"], "subscribe": ["*"]}),
            )
    }),
    ("other-fields-in-claim", || {
        let claim = json!({"publish": ["*"], "subscribe": ["*"], "payload": [1], "other": {}});
        Claims::new().claim("mercure", claim)
    }),
];

const BAD: &[(&str, Make)] = &[
    ("expired", || all().expires_in(-2)),
    ("expired-long-ago", || all().claim("exp", json!(1))),
    ("not-yet-valid", || all().not_before_in(600)),
    ("exp-is-text", || all().claim("exp", json!("tomorrow"))),
    ("selectors-not-texts", || {
        Claims::new().claim(
            "mercure",
            json!({"publish": ["*", 1], "subscribe": ["*", null]}),
        )
    }),
    ("selectors-not-a-list", || {
        Claims::new().claim("mercure", json!({"publish": "*", "subscribe": {"a": "*"}}))
    }),
];

fn publish_as(t: &Target, token: &str) -> Outcome<Response> {
    t.send(&Request::form(HUB, &[("topic", &t.topic())]).bearer(token))
}

fn subscribe_as(t: &Target, token: &str) -> Outcome<Response> {
    refused(
        t,
        &Target::subscribe_bare(&[("topic", &t.topic())]).bearer(token),
    )
}

/// Sends a subscribe that should be refused; reads only the head, as a stream has no end.
fn refused(t: &Target, request: &Request) -> Outcome<Response> {
    let mut connection = t.connect()?;
    connection.send_request(request)?;
    let head = connection.read_head(gush_testkit::Deadline::after(gush_testkit::PATIENCE))?;
    Ok(Response {
        head,
        body: Vec::new(),
    })
}

/// Changes the last-but-one character of the signature, so that decoding still works.
fn flip_signature(token: &str) -> String {
    let mut bytes = token.as_bytes().to_vec();
    let at = bytes.len() - 2;
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    String::from_utf8_lossy(&bytes).into_owned()
}

fn forged() -> Vec<Case> {
    let mut cases = vec![
        case(
            "1.6/forged-flipped-signature",
            &[],
            "a signature that does not fit: 401",
            |t| {
                publish_as(t, &flip_signature(&t.publisher_token()?))?.expect_status(&[401])?;
                subscribe_as(t, &flip_signature(&t.subscriber_token()?))?.expect_status(&[401])
            },
        ),
        case(
            "1.6/forged-payload-changed",
            &[],
            "a payload of another token: 401",
            |t| {
                let limited = t.publisher.sign(&Claims::new().publish(&["x"]))?;
                let wide = t.publisher_token()?;
                let mut parts: Vec<&str> = limited.split('.').collect();
                parts[1] = wide.split('.').nth(1).unwrap_or_default();
                publish_as(t, &parts.join("."))?.expect_status(&[401])
            },
        ),
        case(
            "1.6/forged-other-hmac",
            &[Need::Hmac],
            "another HMAC size than set: 401",
            |t| {
                for algorithm in ["HS256", "HS384", "HS512"] {
                    if algorithm == t.publisher.algorithm() {
                        continue;
                    }
                    let header = json!({"alg": algorithm, "typ": "JWT"}).to_string();
                    // Right key and wrong algorithm name; the signature cannot fit either way.
                    let token = t.publisher.sign_texts(&header, &all().to_json())?;
                    publish_as(t, &token)?.expect_status(&[401])?;
                    let token = t.subscriber.sign_texts(&header, &all().to_json())?;
                    subscribe_as(t, &token)?.expect_status(&[401])?;
                }
                Ok(())
            },
        ),
        case(
            "1.6/forged-keys-are-separate",
            &[],
            "the other side's key: 401",
            |t| {
                let publish = publish_as(t, &t.subscriber.sign(&all())?)?;
                let subscribe = subscribe_as(t, &t.publisher.sign(&all())?)?;
                // Hubs may be set up with one key for both.
                if publish.status() == 200 && subscribe.status() == 200 {
                    return Ok(());
                }
                publish.expect_status(&[401])?;
                subscribe.expect_status(&[401])
            },
        ),
    ];
    cases.extend(not_tokens());
    cases
}

fn not_tokens() -> Vec<Case> {
    let mut cases = Vec::new();
    for spelling in ["none", "None", "NONE", "nOnE", ""] {
        cases.push(case(
            &format!(
                "1.6/forged-alg-{}",
                if spelling.is_empty() {
                    "empty"
                } else {
                    spelling
                }
            ),
            &[],
            "a token without a signature is refused in any spelling: 401",
            move |t| {
                let token = unsigned_token(spelling, &all());
                publish_as(t, &token)?.expect_status(&[401])?;
                subscribe_as(t, &token)?.expect_status(&[401])
            },
        ));
    }
    for (name, text) in [
        ("no-dots", "a".repeat(60)),
        ("four-parts", format!("{0}.{0}.{0}.{0}", "YWFh".repeat(6))),
        ("not-base64", format!("{0}.{0}.{0}", "!!!!".repeat(6))),
        ("not-json", format!("{0}.{0}.{0}", "YWFh".repeat(6))),
        ("short", "a.b.c".to_owned()),
    ] {
        cases.push(case(
            &format!("1.6/forged-{name}"),
            &[],
            "what is not a token, or shorter than any (41 characters): 401",
            move |t| {
                publish_as(t, &text)?.expect_status(&[401])?;
                subscribe_as(t, &text)?.expect_status(&[401])
            },
        ));
    }
    cases
}

fn places() -> Vec<Case> {
    vec![
        case(
            "1.6/place-header",
            &[],
            "Authorization: Bearer TOKEN",
            |t| publish_as(t, &t.publisher_token()?)?.expect_status(&[200]),
        ),
        case(
            "1.6/place-query-subscribe",
            &[],
            "query authorization=TOKEN on GET",
            |t| {
                let (topic, token) = (t.topic(), t.subscriber_token()?);
                let query = [("topic", topic.as_str()), ("authorization", &token)];
                let mut stream = t.open(&Target::subscribe_bare(&query))?;
                t.publish(&[("topic", &topic), ("data", "secret"), ("private", "on")])?;
                stream.expect_data("secret").map(drop)
            },
        ),
        case(
            "1.6/place-query-publish",
            &[],
            "query authorization=TOKEN on POST",
            |t| {
                let target = format!("{HUB}?authorization={}", t.publisher_token()?);
                t.send(&Request::form(&target, &[("topic", &t.topic())]))?
                    .expect_status(&[200])
            },
        ),
        case(
            "1.6/place-cookie-subscribe",
            &[],
            "cookie mercureAuthorization on GET",
            |t| {
                let (topic, token) = (t.topic(), t.subscriber_token()?);
                let cookie = format!("a=b; mercureAuthorization={token}; c=d");
                let request =
                    Target::subscribe_bare(&[("topic", &topic)]).header("Cookie", &cookie);
                let mut stream = t.open(&request)?;
                t.publish(&[("topic", &topic), ("data", "secret"), ("private", "on")])?;
                stream.expect_data("secret").map(drop)
            },
        ),
    ]
}

fn odd_places() -> Vec<Case> {
    let mut cases = vec![
        case(
            "1.6/place-two-headers",
            &[],
            "exactly one Authorization header: two are refused (401, or 400 for the whole head)",
            |t| {
                let token = t.publisher_token()?;
                let request = Request::form(HUB, &[("topic", &t.topic())])
                    .bearer(&token)
                    .bearer(&token);
                t.send(&request)?.expect_status(&[401, 400])
            },
        ),
        case(
            "1.6/place-two-in-query",
            &[],
            "exactly one query authorization: two are refused (401 or 400)",
            |t| {
                let token = t.publisher_token()?;
                let target = format!("{HUB}?authorization={token}&authorization={token}");
                let request = Request::form(&target, &[("topic", &t.topic())]);
                t.send(&request)?.expect_status(&[401, 400])
            },
        ),
        case(
            "1.6/place-body-does-not-count",
            &[],
            "a token in the form is not looked at",
            |t| {
                let token = t.publisher_token()?;
                let fields = [("topic", t.topic()), ("authorization", token)];
                let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
                t.send(&Request::form(HUB, &fields))?.expect_status(&[401])
            },
        ),
    ];
    for (name, prefix) in [
        ("lower-case", "bearer "),
        ("basic", "Basic "),
        ("bare", ""),
        ("two-spaces", "Bearer  "),
    ] {
        cases.push(case(
            &format!("1.6/place-scheme-{name}"),
            &[],
            "the header counts only as `Bearer ` in exactly this case, else 401 with no fall-back",
            move |t| {
                let token = t.publisher_token()?;
                let target = format!("{HUB}?authorization={token}");
                let request = Request::form(&target, &[("topic", &t.topic())])
                    .header("Authorization", &format!("{prefix}{token}"));
                t.send(&request)?.expect_status(&[401])
            },
        ));
    }
    cases.extend(first_decides());
    cases
}

fn first_decides() -> Vec<Case> {
    const RULE: &str = "header, query, cookie: the first that is present decides, and a bad one is \
         never rescued by a later one";
    fn request(t: &Target, header: &str, query: &str, cookie: &str) -> Request {
        let topic = t.topic();
        let mut fields = vec![("topic", topic.as_str())];
        if !query.is_empty() {
            fields.push(("authorization", query));
        }
        let mut request = Target::subscribe_bare(&fields);
        if !header.is_empty() {
            request = request.bearer(header);
        }
        if !cookie.is_empty() {
            request = request.header("Cookie", &format!("mercureAuthorization={cookie}"));
        }
        request
    }
    vec![
        case("1.6/first-bad-header-good-query", &[], RULE, |t| {
            let good = t.subscriber_token()?;
            refused(t, &request(t, &flip_signature(&good), &good, &good))?.expect_status(&[401])
        }),
        case("1.6/first-bad-query-good-cookie", &[], RULE, |t| {
            let good = t.subscriber_token()?;
            refused(t, &request(t, "", &flip_signature(&good), &good))?.expect_status(&[401])
        }),
        case("1.6/first-bad-cookie", &[], RULE, |t| {
            let bad = flip_signature(&t.subscriber_token()?);
            refused(t, &request(t, "", "", &bad))?.expect_status(&[401])
        }),
        case("1.6/first-good-header-bad-rest", &[], RULE, |t| {
            let good = t.subscriber_token()?;
            let bad = flip_signature(&good);
            let stream = t.open(&request(t, &good, &bad, &bad))?;
            ensure(stream.head().status == 200, || "200 expected".to_owned())
        }),
        case("1.6/first-good-query-bad-cookie", &[], RULE, |t| {
            let good = t.subscriber_token()?;
            let bad = flip_signature(&good);
            t.open(&request(t, "", &good, &bad)).map(drop)
        }),
        case(
            "1.6/bad-token-is-not-anonymous",
            &[Need::Anonymous],
            "a token that is present but invalid: 401 even when anonymous subscribers are let in",
            |t| {
                let token = t.subscriber.sign(&all().expires_in(-2))?;
                subscribe_as(t, &token)?.expect_status(&[401])?;
                let topic = t.topic();
                let mut stream = t.open(&Target::subscribe_bare(&[("topic", &topic)]))?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
    ]
}

/// A key nobody configured, for cases elsewhere.
pub(super) fn foreign_key() -> TokenKey {
    TokenKey::hmac(
        "HS256",
        "a key that was never configured anywhere, of decent length",
    )
}
