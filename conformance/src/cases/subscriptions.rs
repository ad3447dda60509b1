//! 1.8 subscription events and the active-subscriptions API.

use super::{ensure, nothing_before, same};
use crate::target::HUB;
use crate::{Case, Need, Target, case};
use gush_testkit::{
    Claims, Failure, Outcome, PATIENCE, Request, Response, SseEvent, SseStream, encode_component,
    eventually,
};
use serde_json::{Value, json};

const NEEDS: &[Need] = &[Need::Subscriptions];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = events();
    cases.extend(payload_and_privacy());
    cases.extend(encoding_and_history());
    cases.extend(api());
    cases.extend(api_single());
    cases.extend(api_cursor());
    cases.extend(grants());
    cases.push(case(
        "1.8/switched-off",
        &[Need::NoSubscriptions],
        "where the option is off there is no API: 404",
        |t| get(t, "/subscriptions", &t.subscriber_token()?)?.expect_status(&[404]),
    ));
    cases
}

fn get(t: &Target, below: &str, token: &str) -> Outcome<Response> {
    t.send(&Request::get(&format!("{HUB}{below}")).bearer(token))
}

/// A stream of the subscription events of exactly this selector.
fn watch(t: &Target, selector: &str) -> Outcome<SseStream> {
    let topic = format!(
        "{HUB}/subscriptions/{}{{/subscriber}}",
        encode_component(selector)
    );
    t.subscribe(&[("topic", &topic)])
}

fn document(event: &SseEvent) -> Outcome<Value> {
    serde_json::from_str(&event.data)
        .map_err(|e| Failure::new(format!("not JSON ({e}): {:?}", event.data)))
}

fn json_of(response: &Response) -> Outcome<Value> {
    serde_json::from_str(&response.text())
        .map_err(|e| Failure::new(format!("not JSON ({e}): {:?}", response.text())))
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn events() -> Vec<Case> {
    vec![
        case(
            "1.8/event-on-subscribe",
            NEEDS,
            "subscribing publishes a document",
            |t| {
                let selector = t.topic();
                let mut watcher = watch(t, &selector)?;
                let _stream = t.subscribe(&[("topic", &selector)])?;
                let event = watcher.next_event()?;
                same("SSE type", &event.event.as_str(), &"")?;
                ensure(event.id.is_some(), || format!("an id expected: {event:?}"))?;
                let got = document(&event)?;
                let subscriber = text(&got, "subscriber");
                let id = format!(
                    "{HUB}/subscriptions/{}/{}",
                    encode_component(&selector),
                    encode_component(&subscriber)
                );
                let expected = json!({
                    "@context": "https://mercure.rocks/",
                    "id": id,
                    "type": "Subscription",
                    "subscriber": subscriber,
                    "topic": selector,
                    "active": true,
                });
                same("document", &got, &expected)?;
                ensure(
                    subscriber.starts_with("urn:uuid:") && subscriber.len() == 45,
                    || format!("subscriber urn:uuid:… expected, got {subscriber:?}"),
                )
            },
        ),
        case(
            "1.8/event-on-leaving",
            NEEDS,
            "leaving publishes the document, inactive",
            |t| {
                let selector = t.topic();
                let mut watcher = watch(t, &selector)?;
                drop(t.subscribe(&[("topic", &selector)])?);
                let came = document(&watcher.next_event()?)?;
                let mut expected = came.clone();
                expected["active"] = json!(false);
                same("document", &document(&watcher.next_event()?)?, &expected)
            },
        ),
        case(
            "1.8/one-event-per-topic",
            NEEDS,
            "one event per topic parameter, one subscriber id for the stream, a fresh one per \
             connection",
            |t| {
                let (a, b) = (t.topic(), t.topic());
                let (mut on_a, mut on_b) = (watch(t, &a)?, watch(t, &b)?);
                let _first = t.subscribe(&[("topic", &a), ("topic", &b)])?;
                let first_a = text(&document(&on_a.next_event()?)?, "subscriber");
                let first_b = text(&document(&on_b.next_event()?)?, "subscriber");
                same("subscriber of both topics", &first_a, &first_b)?;
                let _second = t.subscribe(&[("topic", &a)])?;
                let second = text(&document(&on_a.next_event()?)?, "subscriber");
                ensure(second != first_a, || {
                    format!("the same subscriber twice: {second}")
                })
            },
        ),
    ]
}

fn payload_and_privacy() -> Vec<Case> {
    vec![
        case(
            "1.8/payload",
            NEEDS,
            "the token's payload is in the document, if it has one",
            |t| {
                let selector = t.topic();
                let mut watcher = watch(t, &selector)?;
                for payload in [
                    json!({"name": "\u{e9}", "n": [1, null]}),
                    json!("text"),
                    json!(7),
                ] {
                    let claims = Claims::new().subscribe(&["*"]).payload(payload.clone());
                    let stream =
                        t.subscribe_as(&t.subscriber.sign(&claims)?, &[("topic", &selector)])?;
                    same(
                        "payload",
                        &document(&watcher.next_event()?)?["payload"],
                        &payload,
                    )?;
                    drop(stream);
                    same(
                        "payload",
                        &document(&watcher.next_event()?)?["payload"],
                        &payload,
                    )?;
                }
                Ok(())
            },
        ),
        case(
            "1.8/events-are-private",
            NEEDS,
            "subscription events are private",
            |t| {
                let (selector, end) = (t.topic(), t.topic());
                let topic = format!(
                    "{HUB}/subscriptions/{}{{/subscriber}}",
                    encode_component(&selector)
                );
                let mut entitled = watch(t, &selector)?;
                let token = t.plain_token()?;
                let mut other = t.subscribe_as(&token, &[("topic", &topic), ("topic", &end)])?;
                let _stream = t.subscribe(&[("topic", &selector)])?;
                entitled.next_event()?;
                nothing_before(t, &mut other, &end)
            },
        ),
        case(
            "1.8/typical-claim",
            NEEDS,
            "the claim /.well-known/mercure/subscriptions{/topic}{/subscriber} sees them all",
            |t| {
                let selector = t.topic();
                let all = format!("{HUB}/subscriptions{{/topic}}{{/subscriber}}");
                let token = t.subscriber.sign(&Claims::new().subscribe(&[&all]))?;
                let mut watcher = t.subscribe_as(&token, &[("topic", &all)])?;
                let _stream = t.subscribe(&[("topic", &selector)])?;
                // Other subscriptions of the hub are seen too.
                while text(&document(&watcher.next_event()?)?, "topic") != selector {}
                Ok(())
            },
        ),
    ]
}

fn encoding_and_history() -> Vec<Case> {
    vec![
        case(
            "1.8/encoded-once",
            NEEDS,
            "both parts are percent-encoded once, a space as %20 (the reference's + is accepted)",
            |t| {
                let selector = format!("a b/{{c}}%2F?\u{e9}&{}", t.unique());
                let all = format!("{HUB}/subscriptions{{/topic}}{{/subscriber}}");
                let pluses = format!("{HUB}/subscriptions/{{+rest}}");
                let mut watcher = t.subscribe(&[("topic", &all), ("topic", &pluses)])?;
                let _stream = t.subscribe(&[("topic", &selector)])?;
                let got = loop {
                    let got = document(&watcher.next_event()?)?;
                    if text(&got, "topic") == selector {
                        break got;
                    }
                };
                let tail = encode_component(&text(&got, "subscriber"));
                let right = format!("{HUB}/subscriptions/{}/{tail}", encode_component(&selector));
                let id = text(&got, "id");
                ensure(id == right || id == right.replace("%20", "+"), || {
                    format!("id of the document\n  expected: {right}\n  got:      {id}")
                })
            },
        ),
        case(
            "1.8/events-are-stored",
            &[Need::Subscriptions, Need::History],
            "subscription events are in the history like any update",
            |t| {
                let selector = t.topic();
                let start = t.say(&t.topic(), "start")?;
                let mut watcher = watch(t, &selector)?;
                drop(t.subscribe(&[("topic", &selector)])?);
                let live = [watcher.next_event()?, watcher.next_event()?];
                let topic = format!(
                    "{HUB}/subscriptions/{}{{/subscriber}}",
                    encode_component(&selector)
                );
                let mut replayed = t.resume(&topic, &start)?;
                for event in live {
                    same(
                        "replayed event",
                        &replayed.next_event()?.lines,
                        &event.lines,
                    )?;
                }
                Ok(())
            },
        ),
    ]
}

/// The members of the collection, once `holds` says that it has settled.
fn collection(t: &Target, below: &str, holds: impl Fn(&[Value]) -> bool) -> Outcome<Value> {
    let token = t.subscriber_token()?;
    eventually(below, PATIENCE, || {
        let response = get(t, below, &token)?;
        response.expect_status(&[200])?;
        let document = json_of(&response)?;
        let members = document["subscriptions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(holds(&members).then_some(document))
    })
}

fn api() -> Vec<Case> {
    vec![
        case(
            "1.8/api-collection",
            NEEDS,
            "all active subscriptions",
            |t| {
                let selector = t.topic();
                let stream = t.subscribe(&[("topic", &selector)])?;
                let has = |members: &[Value]| members.iter().any(|m| text(m, "topic") == selector);
                let got = collection(t, "/subscriptions", has)?;
                same(
                    "@context",
                    &text(&got, "@context").as_str(),
                    &"https://mercure.rocks/",
                )?;
                same("id", &text(&got, "id"), &format!("{HUB}/subscriptions"))?;
                same("type", &text(&got, "type").as_str(), &"Subscriptions")?;
                ensure(!text(&got, "lastEventID").is_empty(), || {
                    format!("lastEventID in {got}")
                })?;
                drop(stream);
                collection(t, "/subscriptions", |members| !has(members)).map(drop)
            },
        ),
        case(
            "1.8/api-of-a-topic",
            NEEDS,
            "the subscriptions with exactly that selector",
            |t| {
                let selector = t.topic();
                let below = format!("/subscriptions/{}", encode_component(&selector));
                let _both = [
                    t.subscribe(&[("topic", &selector)])?,
                    t.subscribe(&[("topic", &selector)])?,
                ];
                let _other = t.subscribe(&[("topic", &format!("{selector}/x"))])?;
                let got = collection(t, &below, |members| members.len() == 2)?;
                same("id", &text(&got, "id"), &format!("{HUB}{below}"))?;
                for member in got["subscriptions"].as_array().into_iter().flatten() {
                    let id = format!(
                        "{HUB}{below}/{}",
                        encode_component(&text(member, "subscriber"))
                    );
                    let expected = json!({
                        "id": id,
                        "type": "Subscription",
                        "subscriber": text(member, "subscriber"),
                        "topic": selector,
                        "active": true,
                    });
                    same("member (without its own @context)", member, &expected)?;
                }
                Ok(())
            },
        ),
        case(
            "1.8/api-unknown-topic",
            NEEDS,
            "unknown selector: 200 and no members",
            |t| {
                let below = format!("/subscriptions/{}", encode_component(&t.topic()));
                let got = collection(t, &below, <[Value]>::is_empty)?;
                same("subscriptions", &got["subscriptions"], &json!([]))
            },
        ),
    ]
}

fn api_single() -> Vec<Case> {
    vec![
        case(
            "1.8/api-one",
            NEEDS,
            "one subscription: its document and lastEventID",
            |t| {
                let selector = t.topic();
                let mut watcher = watch(t, &selector)?;
                let _stream = t.subscribe(&[("topic", &selector)])?;
                let mut expected = document(&watcher.next_event()?)?;
                let path = text(&expected, "id");
                let response = t.send(&Request::get(&path).bearer(&t.subscriber_token()?))?;
                response.expect_status(&[200])?;
                let got = json_of(&response)?;
                ensure(got["lastEventID"].is_string(), || {
                    format!("lastEventID in {got}")
                })?;
                expected["lastEventID"] = got["lastEventID"].clone();
                same("document", &got, &expected)
            },
        ),
        case(
            "1.8/api-unknown-subscriber",
            NEEDS,
            "unknown subscriber: 404",
            |t| {
                let selector = t.topic();
                let _stream = t.subscribe(&[("topic", &selector)])?;
                let below = format!(
                    "/subscriptions/{}/urn%3Auuid%3Anone",
                    encode_component(&selector)
                );
                get(t, &below, &t.subscriber_token()?)?.expect_status(&[404])
            },
        ),
        case(
            "1.8/api-content-type",
            NEEDS,
            "Content-Type: application/ld+json",
            |t| {
                let response = get(t, "/subscriptions", &t.subscriber_token()?)?;
                response
                    .head
                    .expect_header("Content-Type", "application/ld+json")
            },
        ),
        case(
            "1.8/api-etag",
            NEEDS,
            "ETag is the lastEventID (with or without quotes); an equal If-None-Match: 304",
            api_etag,
        ),
    ]
}

fn api_cursor() -> Vec<Case> {
    vec![
        case(
            "1.8/api-last-event-id",
            NEEDS,
            "lastEventID is the last update stored, also a private one; as a cursor it closes the \
             gap",
            |t| {
                let topic = t.topic();
                let token = t.subscriber_token()?;
                // Subscriptions of earlier cases may still be ending, which stores updates too.
                let id = eventually("lastEventID", PATIENCE, || {
                    let fields = [("topic", topic.as_str()), ("data", "0"), ("private", "on")];
                    let id = t.publish(&fields)?;
                    let got = json_of(&get(t, "/subscriptions", &token)?)?;
                    Ok((text(&got, "lastEventID") == id).then_some(id))
                })?;
                t.say(&topic, "since")?;
                t.subscribe(&[("topic", &topic), ("lastEventID", &id)])?
                    .expect_data("since")
                    .map(drop)
            },
        ),
        case("1.8/api-get-only", NEEDS, "GET only: 405 for others", |t| {
            for method in ["POST", "PUT", "DELETE"] {
                let request = Request::new(method, &format!("{HUB}/subscriptions"))
                    .bearer(&t.subscriber_token()?)
                    .body("");
                t.send(&request)?
                    .expect_status(&[405])
                    .map_err(|f| f.within(method))?;
            }
            Ok(())
        }),
    ]
}

fn api_etag(t: &Target) -> Outcome<()> {
    let token = t.subscriber_token()?;
    // Between two requests something may be stored; then the next round is quieter.
    eventually("304", PATIENCE, || {
        let first = get(t, "/subscriptions", &token)?;
        first.expect_status(&[200])?;
        let tag = first.header("ETag").unwrap_or_default().to_owned();
        same(
            "ETag",
            &tag.trim_matches('"'),
            &text(&json_of(&first)?, "lastEventID").as_str(),
        )?;
        let request = Request::get(&format!("{HUB}/subscriptions"))
            .bearer(&token)
            .header("If-None-Match", &tag);
        let second = t.send(&request)?;
        if second.status() == 304 {
            ensure(second.body.is_empty(), || "a 304 has no body".to_owned())?;
            return Ok(Some(()));
        }
        second.expect_status(&[200])?;
        Ok(None)
    })?;
    let request = Request::get(&format!("{HUB}/subscriptions"))
        .bearer(&token)
        .header("If-None-Match", "something-else");
    t.send(&request)?.expect_status(&[200])
}

fn grants() -> Vec<Case> {
    vec![
        case(
            "1.8/api-needs-a-token",
            NEEDS,
            "the API needs a token; anonymous is never enough: 401",
            |t| {
                for below in ["/subscriptions", "/subscriptions/x", "/subscriptions/x/y"] {
                    t.send(&Request::get(&format!("{HUB}{below}")))?
                        .expect_status(&[401])?;
                }
                Ok(())
            },
        ),
        case(
            "1.8/api-needs-a-matching-claim",
            NEEDS,
            "the claim must match the request URI (401; the draft's 403 will do)",
            |t| {
                for claims in [
                    Claims::new(),
                    Claims::new().subscribe(&["https://x.example/"]),
                    Claims::new().publish(&["*"]),
                    Claims::new().subscribe(&[&format!("{HUB}/subscriptions/{{topic}}")]),
                ] {
                    let token = t.subscriber.sign(&claims)?;
                    get(t, "/subscriptions", &token)?.expect_status(&[401, 403])?;
                }
                Ok(())
            },
        ),
        case(
            "1.8/api-claim-of-the-uri-as-sent",
            NEEDS,
            "the claim is matched with path and query as sent, still percent-encoded",
            |t| {
                let selector = t.topic();
                let encoded = format!("{HUB}/subscriptions/{}", encode_component(&selector));
                let decoded = format!("{HUB}/subscriptions/{selector}");
                let token = |claim: &str| t.subscriber.sign(&Claims::new().subscribe(&[claim]));
                let ask =
                    |path: &str, claim: &str| t.send(&Request::get(path).bearer(&token(claim)?));
                ask(&encoded, &encoded)?.expect_status(&[200])?;
                ask(&encoded, &format!("{HUB}/subscriptions{{/topic}}"))?.expect_status(&[200])?;
                ask(&encoded, &decoded)?.expect_status(&[401, 403])?;
                let with_query = format!("{encoded}?a=b");
                ask(&with_query, &with_query)?.expect_status(&[200])?;
                ask(&with_query, &encoded)?.expect_status(&[401, 403])?;
                ask(&encoded.replace("%2F", "%2f"), &encoded)?.expect_status(&[401, 403])
            },
        ),
    ]
}
