//! 1.9 CORS and health.

use super::ensure;
use crate::target::HUB;
use crate::{Case, Need, Target, case};
use gush_testkit::{Deadline, Head, Outcome, PATIENCE, Request};

const FOREIGN: &str = "https://evil.example";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = allowed_origins();
    cases.extend(foreign_origins());
    cases
}

fn allowed_origins() -> Vec<Case> {
    let needs = &[Need::Cors];
    vec![
        case(
            "1.9/cors-preflight",
            needs,
            "preflight of an allowed origin: 204 (or 200)",
            preflight,
        ),
        case(
            "1.9/cors-subscribe",
            needs,
            "a subscribe from an allowed origin",
            |t| {
                let head = subscribe_from(t, &origin(t))?;
                head.expect_status(&[200])?;
                allowed(t, &head)
            },
        ),
        case(
            "1.9/cors-publish",
            needs,
            "a publish from an allowed origin",
            |t| {
                let request = Request::form(HUB, &[("topic", &t.topic())])
                    .bearer(&t.publisher_token()?)
                    .header("Origin", &origin(t));
                let response = t.send(&request)?;
                response.expect_status(&[200])?;
                allowed(t, &response.head)
            },
        ),
        case(
            "1.9/cors-errors",
            needs,
            "errors carry the CORS headers too",
            |t| {
                let bad = [
                    Request::form(HUB, &[("topic", "x")]),
                    Request::form(HUB, &[]).bearer(&t.publisher_token()?),
                    Request::get(HUB).bearer(&t.subscriber_token()?),
                    Request::get(&format!("{HUB}?topic=x")).bearer(&"x".repeat(50)),
                ];
                for (request, status) in bad.into_iter().zip([401, 400, 400, 401]) {
                    let response = t.send(&request.header("Origin", &origin(t)))?;
                    response.expect_status(&[status])?;
                    allowed(t, &response.head)?;
                }
                Ok(())
            },
        ),
    ]
}

fn foreign_origins() -> Vec<Case> {
    vec![
        case(
            "1.9/cors-foreign",
            &[Need::Cors],
            "a foreign origin gets no CORS headers; the answer itself is normal",
            |t| {
                let head = subscribe_from(t, FOREIGN)?;
                head.expect_status(&[200])?;
                none(&head)?;
                let preflight = Request::new("OPTIONS", HUB)
                    .header("Origin", FOREIGN)
                    .header("Access-Control-Request-Method", "POST");
                none(&t.send(&preflight)?.head)
            },
        ),
        case(
            "1.9/cors-off",
            &[Need::NoCors],
            "no CORS headers where it is not set",
            |t| {
                let head = subscribe_from(t, FOREIGN)?;
                head.expect_status(&[200])?;
                none(&head)
            },
        ),
        case(
            "1.9/health",
            &[],
            "/healthz on the public port: 200 (the reference's comes from its default \
             configuration)",
            |t| t.send(&Request::get("/healthz"))?.expect_status(&[200]),
        ),
    ]
}

fn origin(t: &Target) -> String {
    t.cors_origin.clone().unwrap_or_default()
}

fn subscribe_from(t: &Target, origin: &str) -> Outcome<Head> {
    let mut connection = t.connect()?;
    let request = Target::subscribe_bare(&[("topic", &t.topic())])
        .bearer(&t.subscriber_token()?)
        .header("Origin", origin);
    connection.send_request(&request)?;
    connection.read_head(Deadline::after(PATIENCE))
}

fn allowed(t: &Target, head: &Head) -> Outcome<()> {
    head.expect_header("Access-Control-Allow-Origin", &origin(t))?;
    head.expect_header("Access-Control-Allow-Credentials", "true")?;
    let vary = head.joined("Vary").unwrap_or_default();
    ensure(vary.to_lowercase().contains("origin"), || {
        format!("Vary: Origin expected in\n{}", head.raw)
    })
}

fn none(head: &Head) -> Outcome<()> {
    let found = head
        .headers
        .iter()
        .find(|(name, _)| name.to_lowercase().starts_with("access-control-allow-"));
    ensure(found.is_none(), || {
        format!("no CORS header expected, got {found:?}")
    })
}

fn preflight(t: &Target) -> Outcome<()> {
    for method in ["GET", "POST"] {
        let request = Request::new("OPTIONS", HUB)
            .header("Origin", &origin(t))
            .header("Access-Control-Request-Method", method)
            .header(
                "Access-Control-Request-Headers",
                "authorization,cache-control,last-event-id",
            );
        let response = t.send(&request)?;
        response.expect_status(&[204, 200])?;
        allowed(t, &response.head)?;
        let methods = response
            .head
            .joined("Access-Control-Allow-Methods")
            .unwrap_or_default();
        ensure(methods.contains(method), || {
            format!("{method} allowed, got {methods:?}")
        })?;
        let fields = response
            .head
            .joined("Access-Control-Allow-Headers")
            .unwrap_or_default()
            .to_lowercase();
        for field in ["authorization", "cache-control", "last-event-id"] {
            ensure(fields.contains(field), || {
                format!("{field} allowed, got {fields:?}")
            })?;
        }
    }
    Ok(())
}
