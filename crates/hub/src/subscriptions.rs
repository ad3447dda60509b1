//! The active-subscriptions API.

use http::HeaderMap;

use crate::admit::{self, Rejection};
use crate::dialect::{self, EARLIEST, PAIRS_MAX, SUBSCRIPTIONS_PATH};
use crate::form::{Plus, parse_pairs, percent_decode_segment};
use crate::hub::Hub;

/// A document and the id its entity tag is made of.
#[derive(Debug)]
pub struct Document {
    /// The id of the newest stored event; also the `ETag`, without quotes as in the reference.
    pub last_id: String,
    /// JSON-LD; absent when the peer has this version.
    pub json: Option<String>,
}

/// Answers a request of the API.
///
/// # Errors
///
/// 404 while subscriptions are off and for a subscription that is not there; 401 unless the
/// token's `mercure.subscribe` matches the request's URI as it was sent.
pub async fn answer(
    hub: &Hub,
    headers: &HeaderMap,
    rest: &str,
    query: Option<&str>,
) -> Result<Document, Rejection> {
    let policy = hub.policy.load_full();
    if !policy.settings.subscriptions {
        return Err(Rejection::not_found(
            "the active subscriptions are off on this hub (--subscriptions)",
        ));
    }
    let pairs = parse_pairs(query.unwrap_or("").as_bytes(), PAIRS_MAX)
        .map_err(|error| Rejection::bad_request(error.to_string()))?;
    let uri = match query {
        Some(query) => format!("{SUBSCRIPTIONS_PATH}{rest}?{query}"),
        None => format!("{SUBSCRIPTIONS_PATH}{rest}"),
    };
    let claims = admit::subscriber(&policy, headers, &pairs, hub.now_unix()).await?;
    if policy.subscriber.is_some() {
        let may_read = claims.is_some_and(|claims| claims.may_read(std::iter::once(uri.as_str())));
        if !may_read {
            return Err(Rejection::unauthorized(format!(
                "the token's mercure.subscribe claim has to match {SUBSCRIPTIONS_PATH}{{/topic}}\
                 {{/subscriber}} or the URI of this request"
            )));
        }
    }
    // Before the list: what is published meanwhile is behind this id, so nothing falls between.
    let last_id = hub
        .log
        .bounds()
        .last_id
        .map_or_else(|| EARLIEST.to_owned(), String::from);
    let known = headers
        .get("if-none-match")
        .and_then(|value| value.to_str().ok());
    if known == Some(last_id.as_str()) {
        return Ok(Document {
            last_id,
            json: None,
        });
    }
    let json = write(hub, rest, &uri, &last_id)?;
    Ok(Document {
        last_id,
        json: Some(json),
    })
}

fn write(hub: &Hub, rest: &str, uri: &str, last_id: &str) -> Result<String, Rejection> {
    let mut segments = rest.split('/').skip(1);
    let (topic, subscriber, more) = (segments.next(), segments.next(), segments.next());
    if more.is_some() {
        return Err(Rejection::not_found("no such subscription"));
    }
    let decode = |segment: &str, plus| {
        percent_decode_segment(segment, plus)
            .map_err(|error| Rejection::bad_request(error.to_string()))
    };
    let Some(topic) = topic else {
        let all = hub.presence.list().into_iter().flat_map(|present| {
            let matchers = present.matchers.clone();
            matchers
                .into_iter()
                .map(move |matcher| (present.clone(), matcher))
        });
        return Ok(dialect::subscriptions_document(uri, last_id, all));
    };
    // The reference writes a space as "+", we as "%20"; a client may ask with either.
    let literal = decode(topic, Plus::Literal)?;
    let spaced = decode(topic, Plus::Space)?;
    let is_topic = |matcher: &String| *matcher == literal || *matcher == spaced;
    let Some(subscriber) = subscriber else {
        let some = hub.presence.list().into_iter().filter_map(|present| {
            let matcher = present
                .matchers
                .iter()
                .find(|matcher| is_topic(matcher))
                .cloned();
            matcher.map(|matcher| (present, matcher))
        });
        return Ok(dialect::subscriptions_document(uri, last_id, some));
    };
    let subscriber = decode(subscriber, Plus::Literal)?;
    let found = hub.presence.list().into_iter().find_map(|present| {
        let matcher = present
            .matchers
            .iter()
            .find(|matcher| is_topic(matcher))
            .cloned()?;
        (present.subscriber == subscriber).then_some((present, matcher))
    });
    let Some((present, matcher)) = found else {
        return Err(Rejection::not_found("no such subscription"));
    };
    let id = dialect::subscription_topic(&matcher, &present.subscriber);
    Ok(dialect::subscription_document(
        &present, &matcher, &id, last_id,
    ))
}
