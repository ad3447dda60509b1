//! 1.6 what a good token allows, and cookies from other sites.

use super::{nothing_before, tokens};
use crate::target::HUB;
use crate::{Case, Need, Target, case};
use gush_testkit::{Claims, Deadline, Outcome, PATIENCE, Request, Response};
use serde_json::json;
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = publishing();
    cases.extend(private_updates());
    cases.extend(subscribing());
    cases.extend(limits_of_tokens());
    cases.extend(cookies_from_allowed_origins());
    cases.extend(cookies_from_elsewhere());
    cases
}

/// 401 in deployed hubs, 403 in the draft.
const DENIED: &[u16] = &[401, 403];

fn publish_with(t: &Target, claims: &Claims, fields: &[(&str, &str)]) -> Outcome<Response> {
    t.send(&Request::form(HUB, fields).bearer(&t.publisher.sign(claims)?))
}

fn publishing() -> Vec<Case> {
    const NOTHING: &str = "a missing, null or empty list allows nothing (401 or 403)";
    let mut cases = vec![
        case(
            "1.6/publish-inside-the-claim",
            &[],
            "a topic that a selector matches: 200",
            |t| {
                let topic = t.topic();
                let inner = format!("{topic}/1");
                let template = format!("{topic}/{{id}}");
                for selectors in [vec![inner.as_str()], vec!["x", &template], vec!["*"]] {
                    let claims = Claims::new().publish(&selectors);
                    publish_with(t, &claims, &[("topic", &inner)])?.expect_status(&[200])?;
                }
                Ok(())
            },
        ),
        case(
            "1.6/publish-outside-the-claim",
            &[],
            "outside the claim: refused for private and public alike (401 or 403), and not \
             delivered",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let claims = Claims::new().publish(&[&format!("{topic}/{{id}}"), "y"]);
                publish_with(t, &claims, &[("topic", &topic)])?.expect_status(DENIED)?;
                let fields = [("topic", topic.as_str()), ("private", "on")];
                publish_with(t, &claims, &fields)?.expect_status(DENIED)?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
        case(
            "1.6/publish-every-topic-counts",
            &[],
            "every topic of an update must match a selector (401 or 403)",
            |t| {
                let (a, b) = (t.topic(), t.topic());
                let mut stream = t.subscribe(&[("topic", &a), ("topic", &b)])?;
                let both = [("topic", a.as_str()), ("topic", b.as_str())];
                publish_with(t, &Claims::new().publish(&[&a]), &both)?.expect_status(DENIED)?;
                publish_with(t, &Claims::new().publish(&[&b]), &both)?.expect_status(DENIED)?;
                nothing_before(t, &mut stream, &a)?;
                publish_with(t, &Claims::new().publish(&[&b, &a]), &both)?.expect_status(&[200])
            },
        ),
    ];
    for (name, claims) in [
        ("missing-claim", Claims::new()),
        ("missing-list", Claims::new().subscribe(&["*"])),
        (
            "null-list",
            Claims::new().claim("mercure", json!({"publish": null})),
        ),
        ("empty-list", Claims::new().publish(&[])),
    ] {
        cases.push(case(
            &format!("1.6/publish-{name}"),
            &[],
            NOTHING,
            move |t| publish_with(t, &claims, &[("topic", &t.topic())])?.expect_status(DENIED),
        ));
    }
    cases
}

/// Topics are written as letters; the case puts its own base in front of each.
struct Private {
    name: &'static str,
    asked: &'static [&'static str],
    granted: &'static [&'static str],
    published: &'static [&'static str],
    delivered: bool,
}

#[rustfmt::skip]
const PRIVATE: &[Private] = &[
    Private { name: "same-topic", asked: &["a"], granted: &["a"], published: &["a"], delivered: true },
    Private { name: "not-granted", asked: &["a"], granted: &["b"], published: &["a"], delivered: false },
    Private { name: "nothing-granted", asked: &["a"], granted: &[], published: &["a"], delivered: false },
    Private { name: "claim-never-subscribes", asked: &["b"], granted: &["a"], published: &["a"], delivered: false },
    Private { name: "granted-by-template", asked: &["a/1"], granted: &["a/{id}"], published: &["a/1"], delivered: true },
    Private { name: "asked-by-template", asked: &["a/{id}"], granted: &["a/1"], published: &["a/1"], delivered: true },
    Private { name: "asked-wider-than-granted", asked: &["a/{id}"], granted: &["a/1"], published: &["a/2"], delivered: false },
    Private { name: "different-topics-match", asked: &["a"], granted: &["b"], published: &["a", "b"], delivered: true },
    Private { name: "alternate-per-user", asked: &["a/{id}"], granted: &["user/7"], published: &["a/1", "user/7"], delivered: true },
    Private { name: "alternate-of-another-user", asked: &["a/{id}"], granted: &["user/7"], published: &["a/1", "user/8"], delivered: false },
    Private { name: "granted-text-is-the-selector", asked: &["a/{id}"], granted: &["a/{id}"], published: &["a/5"], delivered: true },
];

fn private_updates() -> Vec<Case> {
    PRIVATE
        .iter()
        .map(|row| {
            case(
                &format!("1.6/private-{}", row.name),
                &[],
                "a private update is delivered if one of its topics matches a query selector and \
                 one of its topics, not necessarily the same, matches a claim selector",
                |t| private_row(t, row),
            )
        })
        .collect()
}

fn private_row(t: &Target, row: &Private) -> Outcome<()> {
    let base = t.topic();
    let full = |names: &[&str]| -> Vec<String> {
        names.iter().map(|name| format!("{base}/{name}")).collect()
    };
    let (mut asked, granted, published) = (full(row.asked), full(row.granted), full(row.published));
    let end = t.topic();
    asked.push(end.clone());
    let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
    let token = t.subscriber.sign(&Claims::new().subscribe(&granted))?;
    let query: Vec<_> = asked
        .iter()
        .map(|topic| ("topic", topic.as_str()))
        .collect();
    let mut stream = t.subscribe_as(&token, &query)?;
    let mut fields: Vec<_> = published
        .iter()
        .map(|topic| ("topic", topic.as_str()))
        .collect();
    fields.extend([("data", "secret"), ("private", "on")]);
    t.publish(&fields)?;
    if row.delivered {
        stream.expect_data("secret")?;
    }
    nothing_before(t, &mut stream, &end)
}

fn subscribing() -> Vec<Case> {
    vec![
        case(
            "1.6/anonymous-gets-public-only",
            &[Need::Anonymous],
            "no token where anonymous is on: public updates only",
            |t| {
                let topic = t.topic();
                let mut stream = t.open(&Target::subscribe_bare(&[("topic", &topic)]))?;
                t.publish(&[("topic", &topic), ("data", "secret"), ("private", "on")])?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
        case(
            "1.6/no-subscribe-claim-gets-public-only",
            &[],
            "a valid token without mercure.subscribe: public updates only",
            |t| {
                for claims in [
                    Claims::new(),
                    Claims::new().publish(&["*"]),
                    Claims::new().claim("mercure", json!({"subscribe": null})),
                    Claims::new().subscribe(&[]),
                ] {
                    let topic = t.topic();
                    let token = t.subscriber.sign(&claims)?;
                    let mut stream = t.subscribe_as(&token, &[("topic", &topic)])?;
                    t.publish(&[("topic", &topic), ("data", "secret"), ("private", "on")])?;
                    nothing_before(t, &mut stream, &topic)?;
                }
                Ok(())
            },
        ),
        case(
            "1.6/public-needs-no-grant",
            &[],
            "public updates reach every subscriber, whatever its claim",
            |t| {
                let topic = t.topic();
                let token = t
                    .subscriber
                    .sign(&Claims::new().subscribe(&["something else"]))?;
                let mut stream = t.subscribe_as(&token, &[("topic", &topic)])?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
    ]
}

fn limits_of_tokens() -> Vec<Case> {
    vec![
        case(
            "1.6/foreign-key",
            &[],
            "a key that is not configured: 401",
            |t| {
                let token = tokens::foreign_key().sign(&Claims::new().publish(&["*"]))?;
                let request = Request::form(HUB, &[("topic", &t.topic())]).bearer(&token);
                t.send(&request)?.expect_status(&[401])
            },
        ),
        case(
            "1.6/stream-ends-at-exp",
            &[],
            "the stream is closed when the token expires (some hubs spread it over the last fifth \
             of its life)",
            |t| {
                let topic = t.topic();
                let claims = Claims::new().subscribe(&["*"]).expires_in(4);
                let token = t.subscriber.sign(&claims)?;
                let mut stream = t.subscribe_as(&token, &[("topic", &topic)])?;
                nothing_before(t, &mut stream, &topic)?;
                let deadline = Deadline::after(Duration::from_secs(8));
                while let Some(item) = stream
                    .next_item(deadline)
                    .map_err(|f| f.within("still open after exp"))?
                {
                    drop(item);
                }
                Ok(())
            },
        ),
    ]
}

/// A publish with the token in the cookie and these further headers.
fn with_cookie(t: &Target, headers: &[(&str, &str)]) -> Outcome<Response> {
    let mut request = Request::form(HUB, &[("topic", &t.topic())]).header(
        "Cookie",
        &format!("mercureAuthorization={}", t.publisher_token()?),
    );
    for (name, value) in headers {
        request = request.header(name, value);
    }
    t.send(&request)
}

fn cookies_from_allowed_origins() -> Vec<Case> {
    let allowed = |t: &Target| t.publish_origin.clone().unwrap_or_default();
    let needs = &[Need::PublishOrigin];
    vec![
        case(
            "1.6/cookie-publish-allowed-origin",
            needs,
            "allowed Origin: 200",
            move |t| with_cookie(t, &[("Origin", &allowed(t))])?.expect_status(&[200]),
        ),
        case(
            "1.6/cookie-publish-allowed-referer",
            needs,
            "else the Referer's: 200",
            move |t| {
                let page = format!("{}/some/page?x=y", allowed(t));
                with_cookie(t, &[("Referer", &page)])?.expect_status(&[200])
            },
        ),
        case(
            "1.6/cookie-publish-origin-before-referer",
            needs,
            "the Origin decides when both are there (401 or 403)",
            move |t| {
                let page = format!("{}/page", allowed(t));
                with_cookie(t, &[("Origin", "https://evil.example"), ("Referer", &page)])?
                    .expect_status(DENIED)
            },
        ),
        case(
            "1.6/cookie-publish-similar-origin",
            needs,
            "an origin that only begins or ends like an allowed one is foreign (401 or 403)",
            move |t| {
                let allowed = allowed(t);
                for foreign in [
                    format!("{allowed}.evil.example"),
                    format!("{allowed}:8443"),
                    format!("x{allowed}"),
                ] {
                    with_cookie(t, &[("Origin", &foreign)])?.expect_status(DENIED)?;
                    with_cookie(t, &[("Referer", &format!("{foreign}/p"))])?
                        .expect_status(DENIED)?;
                }
                Ok(())
            },
        ),
    ]
}

fn cookies_from_elsewhere() -> Vec<Case> {
    vec![
        case(
            "1.6/cookie-publish-foreign-origin",
            &[],
            "foreign Origin or Referer: refused (401 or 403)",
            |t| {
                with_cookie(t, &[("Origin", "https://evil.example")])?.expect_status(DENIED)?;
                with_cookie(t, &[("Origin", "null")])?.expect_status(DENIED)?;
                with_cookie(t, &[("Referer", "https://evil.example/x")])?.expect_status(DENIED)
            },
        ),
        case(
            "1.6/cookie-publish-no-origin",
            &[],
            "a cookie with neither Origin nor Referer: refused (401 or 403)",
            |t| with_cookie(t, &[])?.expect_status(DENIED),
        ),
        case(
            "1.6/header-publish-any-origin",
            &[],
            "a token in the header needs no origin check",
            |t| {
                let request = Request::form(HUB, &[("topic", &t.topic())])
                    .bearer(&t.publisher_token()?)
                    .header("Origin", "https://evil.example");
                t.send(&request)?.expect_status(&[200])
            },
        ),
        case(
            "1.6/cookie-subscribe-any-origin",
            &[],
            "on GET a cookie needs no origin check (that is what CORS does)",
            |t| {
                let topic = t.topic();
                let request = Target::subscribe_bare(&[("topic", &topic)])
                    .header(
                        "Cookie",
                        &format!("mercureAuthorization={}", t.subscriber_token()?),
                    )
                    .header("Origin", "https://evil.example");
                let mut connection = t.connect()?;
                connection.send_request(&request)?;
                connection
                    .read_head(Deadline::after(PATIENCE))?
                    .expect_status(&[200])
            },
        ),
    ]
}
