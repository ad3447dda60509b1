//! 1.1 URL and methods, 1.2 discovery.

use super::{ensure, nothing_before};
use crate::target::HUB;
use crate::{Case, Need, Target, case};
use gush_testkit::{Deadline, Outcome, PATIENCE, Request, encode_component};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = methods();
    cases.extend(other_methods());
    cases.extend(answers());
    cases
}

fn methods() -> Vec<Case> {
    vec![
        case(
            "1.1/get-subscribes",
            &[],
            "GET on the hub's path subscribes",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
        case(
            "1.1/post-publishes",
            &[],
            "POST on the hub's path publishes",
            |t| t.say(&t.topic(), "x").map(drop),
        ),
        case(
            "1.1/head",
            &[],
            "HEAD is answered like a subscribe, with a head only",
            head,
        ),
        case(
            "1.1/head-without-topic",
            &[],
            "HEAD is routed to subscribe, so that no topic is an error there too",
            |t| {
                let request = Request::new("HEAD", HUB).bearer(&t.subscriber_token()?);
                t.send(&request)?.head.expect_status(&[400])
            },
        ),
        case(
            "1.1/options",
            &[],
            "OPTIONS is the preflight; without an origin any success or 405 will do",
            |t| {
                t.send(&Request::new("OPTIONS", HUB))?
                    .expect_status(&[200, 204, 405])
            },
        ),
    ]
}

fn answers() -> Vec<Case> {
    vec![
        case(
            "1.1/other-path",
            &[],
            "no other path below the hub's exists: 404",
            |t| {
                let request =
                    Request::get(&format!("{HUB}/nothing")).bearer(&t.subscriber_token()?);
                t.send(&request)?.expect_status(&[404])
            },
        ),
        case(
            "1.1/security-headers",
            &[],
            "answers tell browsers not to sniff, not to frame, and to trust no foreign source \
             (X-Xss-Protection is not asked for: browsers have dropped it)",
            security_headers,
        ),
        case(
            "1.2/cursor-from-a-link",
            &[Need::History],
            "the `last-event-id` of a discovery link is handed to the hub as `lastEventID` (the \
             links themselves are the application's)",
            |t| {
                let topic = t.topic();
                let id = t.say(&topic, "rendered into the page")?;
                t.say(&topic, "published since")?;
                let mut stream = t.subscribe(&[("topic", &topic), ("lastEventID", &id)])?;
                stream.expect_data("published since").map(drop)
            },
        ),
    ]
}

fn other_methods() -> Vec<Case> {
    let mut cases = Vec::new();
    for method in ["PUT", "DELETE", "PATCH", "TRACE", "INVENTED"] {
        cases.push(case(
            &format!("1.1/method-{}", method.to_lowercase()),
            &[],
            "any other method: 405 (for one nobody knows 501 and 400 will do too)",
            move |t| {
                let request =
                    Request::new(method, &format!("{HUB}?topic=x")).bearer(&t.subscriber_token()?);
                let wanted: &[u16] = if method == "INVENTED" {
                    &[405, 501, 400]
                } else {
                    &[405]
                };
                t.send(&request)?.expect_status(wanted)
            },
        ));
    }
    cases
}

fn head(t: &Target) -> Outcome<()> {
    let target = format!("{HUB}?topic={}", encode_component(&t.topic()));
    let request = Request::new("HEAD", &target).bearer(&t.subscriber_token()?);
    let mut connection = t.connect()?;
    connection.send_request(&request.header("Connection", "close"))?;
    let head = connection.read_head(Deadline::after(PATIENCE))?;
    head.expect_status(&[200])?;
    head.expect_header("Content-Type", "text/event-stream")?;
    let rest = connection.read_to_close(PATIENCE)?;
    ensure(rest.is_empty(), || {
        format!(
            "a HEAD answer has no body, got {:?}",
            String::from_utf8_lossy(&rest)
        )
    })
}

fn security_headers(t: &Target) -> Outcome<()> {
    let topic = t.topic();
    let answers = [
        t.subscribe(&[("topic", &topic)])?.head().clone(),
        t.try_publish(&[("topic", &topic)])?.head,
        t.try_publish(&[])?.head,
    ];
    for head in answers {
        head.expect_header("X-Content-Type-Options", "nosniff")?;
        head.expect_header("X-Frame-Options", "DENY")?;
        let policy = head.header("Content-Security-Policy").unwrap_or_default();
        ensure(policy.contains("default-src"), || {
            format!(
                "Content-Security-Policy with default-src expected in\n{}",
                head.raw
            )
        })?;
    }
    Ok(())
}
