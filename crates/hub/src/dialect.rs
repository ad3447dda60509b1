//! Dialect 0.x of the protocol (Mercure draft-07): what requests mean and how documents are
//! written. Another dialect is another file like this one; nothing else knows field names.

use std::borrow::Cow;

use http::HeaderMap;

use gush_log::{Conflation, Draft};
use gush_sse::{EventId, EventType, Topic};
use serde_json::{Map, Value, json};

use crate::admit::Rejection;
use crate::form::{Pair, percent_encode_path_segment};
use crate::presence::Present;
use crate::replay::Gap;
use crate::topic::{Matcher, parse_topic};

/// Where the hub lives.
pub const HUB_PATH: &str = "/.well-known/mercure";

/// Where the active-subscriptions API lives.
pub const SUBSCRIPTIONS_PATH: &str = "/.well-known/mercure/subscriptions";

/// Most topics of one subscribe, and of one publish. The reference's figure.
pub const TOPICS_MAX: usize = 1000;

/// Most expressions in all the templates of one subscribe: two for each topic it may have. They are
/// what an event costs at worst, for as long as the stream lives.
pub const EXPRESSIONS_MAX: usize = 2000;

/// Most parameters of a query, and fields of a form, known or not.
pub const PAIRS_MAX: usize = 10_000;

/// The cursor that asks for everything stored.
pub const EARLIEST: &str = "earliest";

/// The query parameter that asks for the in-band gap event. Ours.
pub const GAP_PARAMETER: &str = "gush_gap";

/// The field of a publish that lets a newer event stand for this one where a reader is behind.
/// Ours.
pub const LATEST_FIELD: &str = "gush_latest";

/// The field of a publish that keeps such events of the same topics apart. Ours.
pub const KEY_FIELD: &str = "gush_key";

/// Most bytes of a key. Ours: as long as ids of things are.
pub const KEY_BYTES_MAX: usize = 256;

/// The SSE type of the gap event. Ours.
pub const GAP_EVENT: &str = "gush-gap";

/// Query names of the cursor: the protocol's, then what polyfills send.
const CURSOR_NAMES: [&str; 4] = [
    "lastEventID",
    "lastEventId",
    "Last-Event-ID",
    "Last-Event-Id",
];

/// Where a subscriber wants to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// With what is published from now on.
    Now,
    /// With everything stored.
    Earliest,
    /// After the event with this id.
    After(String),
}

/// What a subscribe request asks for.
#[derive(Debug)]
pub struct SubscribeRequest {
    /// One subscription each, in the order given.
    pub matchers: Vec<Matcher>,
    /// Where to begin.
    pub cursor: Cursor,
    /// Whether the gap event is wanted.
    pub wants_gap: bool,
}

/// Reads a subscribe request.
///
/// # Errors
///
/// 400: no topic, too many, one that cannot be.
pub fn subscribe_request(
    headers: &HeaderMap,
    query: &[Pair<'_>],
) -> Result<SubscribeRequest, Rejection> {
    let topics = query.iter().filter(|pair| pair.0 == "topic");
    let count = topics.clone().count();
    if count == 0 {
        return Err(Rejection::bad_request("Missing \"topic\" parameter."));
    }
    if count > TOPICS_MAX {
        return Err(Rejection::bad_request(format!(
            "more than {TOPICS_MAX} topics"
        )));
    }
    let matchers = topics
        .map(|pair| Matcher::parse(&pair.1))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Rejection::bad_request(error.to_string()))?;
    let expressions: usize = matchers.iter().map(Matcher::expressions).sum();
    if expressions > EXPRESSIONS_MAX {
        return Err(Rejection::bad_request(format!(
            "the topics hold more than {EXPRESSIONS_MAX} template expressions"
        )));
    }
    let wants_gap = query
        .iter()
        .any(|pair| pair.0 == GAP_PARAMETER && is_on(&pair.1));
    Ok(SubscribeRequest {
        matchers,
        cursor: cursor(headers, query),
        wants_gap,
    })
}

/// Whether a switch of ours is on.
fn is_on(text: &str) -> bool {
    !matches!(text, "" | "0" | "false")
}

fn cursor(headers: &HeaderMap, query: &[Pair<'_>]) -> Cursor {
    let header = headers
        .get("last-event-id")
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .filter(|id| !id.is_empty());
    let from_query = || {
        CURSOR_NAMES.iter().find_map(|name| {
            query
                .iter()
                .find(|pair| pair.0 == *name && !pair.1.is_empty())
                .map(|pair| pair.1.clone().into_owned())
        })
    };
    match header.or_else(from_query) {
        None => Cursor::Now,
        Some(id) if id == EARLIEST => Cursor::Earliest,
        Some(id) => Cursor::After(id),
    }
}

/// What a publish asks for, in whatever form it came; nothing is checked yet.
#[derive(Debug)]
pub struct PublishRequest<'a, T> {
    /// In the order given.
    pub topics: &'a [T],
    /// Empty when absent.
    pub data: Cow<'a, str>,
    /// Empty when absent.
    pub id: &'a str,
    /// Empty when absent.
    pub kind: &'a str,
    /// What [`Self::checked`] is to make of the reconnect delay.
    pub retry: Retry,
    /// Whether only granted subscribers may get it.
    pub is_private: bool,
    /// Whether a newer event may stand for it.
    pub is_latest: bool,
    /// Empty when absent.
    pub key: &'a str,
}

/// A reconnect delay as a publisher gave it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// It gave none.
    #[default]
    Absent,
    /// In milliseconds.
    Millis(u64),
    /// Something else.
    Invalid,
}

impl<T: AsRef<str>> PublishRequest<'_, T> {
    /// The event, if it can be one.
    ///
    /// # Errors
    ///
    /// 400 for a field that cannot be; 403 for a topic that only the hub publishes to.
    pub fn checked(self) -> Result<Draft, Rejection> {
        if self.topics.is_empty() {
            return Err(Rejection::bad_request("Missing \"topic\" parameter."));
        }
        if self.topics.len() > TOPICS_MAX {
            return Err(Rejection::bad_request(format!(
                "more than {TOPICS_MAX} topics"
            )));
        }
        // With its room made first: a fallible `collect` makes it twice.
        let mut topics = Vec::with_capacity(self.topics.len());
        for topic in self.topics {
            topics.push(published_topic(topic.as_ref())?);
        }
        let id = EventId::parse(self.id).map_err(|error| invalid("id", &error))?;
        let kind = EventType::parse(self.kind).map_err(|error| invalid("type", &error))?;
        let retry_ms = match self.retry {
            Retry::Absent => None,
            Retry::Millis(retry_ms) => Some(retry_ms).filter(|retry_ms| *retry_ms > 0),
            Retry::Invalid => {
                let reason = "it has to be a whole number of milliseconds below 2^64";
                return Err(invalid("retry", &reason));
            }
        };
        check_key(self.key)?;
        Ok(Draft {
            topics: topics.into(),
            is_private: self.is_private,
            id,
            kind,
            retry_ms,
            conflation: Conflation {
                is_latest: self.is_latest,
                key: (!self.key.is_empty()).then(|| self.key.into()),
            },
            data: self.data.into(),
        })
    }
}

fn published_topic(text: &str) -> Result<Topic, Rejection> {
    let topic = parse_topic(text).map_err(|error| Rejection::bad_request(error.to_string()))?;
    if memchr::memmem::find(text.as_bytes(), HUB_PATH.as_bytes()).is_some() {
        return Err(Rejection::forbidden(format!(
            "topics that contain {HUB_PATH} are reserved for the hub"
        )));
    }
    Ok(topic)
}

fn check_key(key: &str) -> Result<(), Rejection> {
    if key.len() > KEY_BYTES_MAX {
        let reason = format!("it is longer than {KEY_BYTES_MAX} bytes");
        return Err(invalid(KEY_FIELD, &reason));
    }
    if key.chars().any(char::is_control) {
        return Err(invalid(KEY_FIELD, &"it holds a control character"));
    }
    Ok(())
}

/// The refusal of one field of a publish.
pub(crate) fn invalid(name: &str, reason: &dyn std::fmt::Display) -> Rejection {
    Rejection::bad_request(format!("Invalid \"{name}\" parameter: {reason}"))
}

/// Reads the form of a publish.
///
/// # Errors
///
/// As [`PublishRequest::checked`].
pub fn publish_request(form: &[Pair<'_>]) -> Result<Draft, Rejection> {
    let topics: Vec<&str> = form
        .iter()
        .filter(|pair| pair.0 == "topic")
        .map(|pair| &*pair.1)
        .collect();
    let field = |name: &str| form.iter().find(|pair| pair.0 == name).map(|pair| &*pair.1);
    let request = PublishRequest {
        topics: &topics,
        data: Cow::Borrowed(field("data").unwrap_or("")),
        id: field("id").unwrap_or(""),
        kind: field("type").unwrap_or(""),
        retry: match field("retry") {
            None | Some("") => Retry::Absent,
            Some(text) => decimal(text).map_or(Retry::Invalid, Retry::Millis),
        },
        is_private: field("private").is_some(),
        is_latest: field(LATEST_FIELD).is_some_and(is_on),
        key: field(KEY_FIELD).unwrap_or(""),
    };
    request.checked()
}

/// An unsigned decimal; no sign, no space (which `str::parse` would partly allow).
fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// The gap event for a cursor that cannot be served.
///
/// `last_id` is the newest stored id: with it the subscriber's next cursor is good again.
#[must_use]
pub fn gap_unknown(requested: &str, is_trimmed: bool, last_id: Option<&str>) -> String {
    let reason = if is_trimmed { "trimmed" } else { "unknown" };
    // The id goes on the wire as an SSE field only if it can: own ids are checked, and so is this.
    let id = last_id.map_or_else(String::new, |id| format!("id: {id}\n"));
    let data = json!({ "requested": requested, "reason": reason });
    format!("event: {GAP_EVENT}\n{id}data: {data}\n\n")
}

/// The gap event for stored events that a subscriber needed and that are gone.
#[must_use]
pub fn gap_lost(gap: Gap) -> String {
    let reason = if gap.is_trimmed { "trimmed" } else { "damaged" };
    let data = json!({ "reason": reason, "events": gap.until.since(gap.from) });
    format!("event: {GAP_EVENT}\ndata: {data}\n\n")
}

/// The topic of a subscription: also its id and the path of its document.
#[must_use]
pub fn subscription_topic(matcher: &str, subscriber: &str) -> String {
    let mut topic = String::from(SUBSCRIPTIONS_PATH);
    topic.push('/');
    percent_encode_path_segment(matcher, &mut topic);
    topic.push('/');
    percent_encode_path_segment(subscriber, &mut topic);
    topic
}

/// The data of a subscription event.
#[must_use]
pub fn subscription_event(
    present: &Present,
    matcher: &str,
    topic: &str,
    is_active: bool,
) -> String {
    pretty(&with_context(subscription(
        present, matcher, topic, is_active,
    )))
}

/// The document of one subscription.
#[must_use]
pub fn subscription_document(
    present: &Present,
    matcher: &str,
    topic: &str,
    last_id: &str,
) -> String {
    let mut members = subscription(present, matcher, topic, true);
    members.insert("lastEventID".to_owned(), last_id.into());
    pretty(&with_context(members))
}

/// The document of many subscriptions; `id` is the request's own URI.
#[must_use]
pub fn subscriptions_document(
    id: &str,
    last_id: &str,
    subscriptions: impl Iterator<Item = (std::sync::Arc<Present>, String)>,
) -> String {
    let list: Vec<Value> = subscriptions
        .map(|(present, matcher)| {
            let topic = subscription_topic(&matcher, &present.subscriber);
            Value::Object(subscription(&present, &matcher, &topic, true))
        })
        .collect();
    let mut members = Map::new();
    members.insert("id".to_owned(), id.into());
    members.insert("type".to_owned(), "Subscriptions".into());
    members.insert("lastEventID".to_owned(), last_id.into());
    members.insert("subscriptions".to_owned(), list.into());
    pretty(&with_context(members))
}

fn subscription(
    present: &Present,
    matcher: &str,
    topic: &str,
    is_active: bool,
) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("id".to_owned(), topic.into());
    members.insert("type".to_owned(), "Subscription".into());
    members.insert("subscriber".to_owned(), present.subscriber.as_str().into());
    members.insert("topic".to_owned(), matcher.into());
    members.insert("active".to_owned(), is_active.into());
    if let Some(payload) = &present.payload {
        members.insert("payload".to_owned(), payload.clone());
    }
    members
}

fn with_context(members: Map<String, Value>) -> Value {
    let mut document = Map::new();
    document.insert("@context".to_owned(), "https://mercure.rocks/".into());
    document.extend(members);
    Value::Object(document)
}

fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).expect("a JSON value can be written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::parse_pairs;

    fn publish(body: &str) -> Result<Draft, Rejection> {
        publish_request(&parse_pairs(body.as_bytes(), PAIRS_MAX).expect("a good form"))
    }

    fn status(body: &str) -> u16 {
        publish(body).map_or_else(|rejection| rejection.status.as_u16(), |_| 200)
    }

    #[test]
    fn publish_fields_are_checked() {
        let table = [
            ("topic=a", 200),
            ("data=x", 400),
            ("topic=", 400),
            ("topic=a%0a", 400),
            ("topic=a%E2%80%AE", 400),
            ("topic=a&topic=%EF%BB%BFa", 400),
            ("topic=a&id=%0d", 400),
            ("topic=a&id=%00", 400),
            ("topic=a&type=%0a", 400),
            ("topic=a&id=%23x", 400),
            ("topic=a&id=earliest", 400),
            ("topic=a&retry=1.5", 400),
            ("topic=a&retry=-1", 400),
            ("topic=a&retry=%2B1", 400),
            ("topic=a&retry=18446744073709551615", 200),
            ("topic=a&retry=18446744073709551616", 400),
            ("topic=a&gush_latest=1&gush_key=k", 200),
            ("topic=a&gush_key=%0a", 400),
            ("topic=x%2F.well-known%2Fmercure%2Fy", 403),
        ];
        for (body, expected) in table {
            assert_eq!(status(body), expected, "{body}");
        }
    }

    #[test]
    fn private_is_a_matter_of_presence() {
        for body in ["topic=a&private", "topic=a&private=", "topic=a&private=0"] {
            assert!(publish(body).expect("valid").is_private, "{body}");
        }
        assert!(!publish("topic=a").expect("valid").is_private);
    }

    #[test]
    fn cursor_names_in_order() {
        let read = |query: &str| {
            let pairs = parse_pairs(query.as_bytes(), PAIRS_MAX).expect("a good query");
            subscribe_request(&HeaderMap::new(), &pairs)
                .expect("valid")
                .cursor
        };
        assert_eq!(read("topic=a"), Cursor::Now);
        assert_eq!(read("topic=a&lastEventID="), Cursor::Now);
        assert_eq!(read("topic=a&lastEventId=x"), Cursor::After("x".into()));
        assert_eq!(
            read("topic=a&Last-Event-Id=x&lastEventID=y"),
            Cursor::After("y".into())
        );
        assert_eq!(read("topic=a&Last-Event-ID=earliest"), Cursor::Earliest);
    }

    #[test]
    fn subscription_topics_use_percent_20() {
        assert_eq!(
            subscription_topic("a b/{c}", "urn:uuid:1"),
            "/.well-known/mercure/subscriptions/a%20b%2F%7Bc%7D/urn%3Auuid%3A1"
        );
    }
}
