//! The only place that refuses: connections, tokens, topics.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::credentials::{self, Place};
use crate::form::Pair;
use crate::hub::Hub;
use crate::keys::KeyRing;
use crate::matcher_table::crowds::Crowded;
use crate::origin;
use crate::policy::Policy;
use crate::pressure::Step;
use crate::request::Door;
use crate::shard::ShardPlace;
use crate::token::{Claims, TokenError};

// Open connections, counted until their streams end.
mod connections;

// How much one address, one subject, one topic may have.
mod limits;

// What is given back when a stream ends.
mod held;

pub use connections::{Carrier, ConnectionGate, ConnectionPermit, LobbyPermit};
pub(crate) use held::HELD_BYTES;
pub use held::Held;
pub(crate) use limits::{InFlight, Publisher, Shares};
pub use limits::{KeyCounts, Limit, Limits, RATE_KEYS_MAX, TOPIC_KEYS_MAX};

/// A request that is not served, and what the peer may read about it: a sentence that says why and
/// what would help, never a key or a token. [`crate::refuse`] makes the answer of it.
pub type Rejection = gush_middleware::Refusal;

/// What the hub failed at is in its log.
#[must_use]
pub fn failed() -> Rejection {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Rejection::final_with(status, "the hub failed; its log says more")
}

/// The same of a request for a stream. An event source must survive it: what failed once may work
/// when it comes back.
#[must_use]
pub fn stream_failed() -> Rejection {
    Rejection {
        retry: Some(Duration::ZERO),
        may_be_soft: true,
        ..failed()
    }
}

/// The refusal of a subscribe while the hub drains.
#[must_use]
pub fn while_draining() -> Rejection {
    Rejection::unavailable("the hub is shutting down", Duration::ZERO)
}

/// The refusal of a connection over the limit.
#[must_use]
pub fn no_connection() -> Rejection {
    Rejection::unavailable("the hub has no connection to spare", Duration::ZERO)
}

/// Whether there are new streams at all.
///
/// # Errors
///
/// 503 or softly, while the hub drains or has too much to do.
pub fn new_stream(hub: &Hub) -> Result<(), Rejection> {
    if hub.is_draining() {
        return Err(while_draining());
    }
    if hub.balance.refuses() {
        let text = "the hub takes no new streams for now";
        return Err(Rejection::unavailable(text, Duration::ZERO));
    }
    unless_given_up(hub, Step::Streams)
}

/// Serves what asks for this, unless the hub has given it up to serve the rest.
///
/// # Errors
///
/// 503, or softly.
pub fn unless_given_up(hub: &Hub, what: Step) -> Result<(), Rejection> {
    if hub.brownout() < what {
        return Ok(());
    }
    Err(Rejection::unavailable(
        "the hub has too much to do",
        Duration::ZERO,
    ))
}

/// The refusal of a connection of an address that has too many.
#[must_use]
pub fn no_connection_of_address() -> Rejection {
    let text = "too many connections from this address; close one of them first";
    Rejection::too_many(text, limits::OPEN_RETRY)
}

/// The refusal of whatever is asked for on a connection that should not be there.
#[must_use]
pub fn at_full(hub: &Hub, door: Door) -> Rejection {
    match door {
        _ if hub.is_draining() => while_draining(),
        Door::AddressFull => no_connection_of_address(),
        Door::Public | Door::Admin | Door::Full | Door::FullAdmin => no_connection(),
    }
}

/// The end of a subscribe to nothing but topics that have ended.
#[must_use]
pub fn ended() -> Rejection {
    Rejection::stop("these topics have ended")
}

/// The place of a subscriber whose connection was admitted. There may be none: connections of the
/// public listeners are as many as there are places, those of the admin listener come on top.
///
/// # Errors
///
/// 503, as at the limit of connections.
pub fn place(found: Option<ShardPlace>) -> Result<ShardPlace, Rejection> {
    found.ok_or_else(no_connection)
}

/// The share of a stream inside a connection that carries many, and whether it is one more than
/// the connection.
///
/// # Errors
///
/// 503: there are as many as there may be.
pub(crate) fn stream(
    hub: &Hub,
    door: Door,
    carrier: &Carrier,
) -> Result<(ConnectionPermit, bool), Rejection> {
    hub.gate_of(door).admit_stream(carrier).ok_or_else(|| {
        count_full(hub, door);
        no_connection()
    })
}

/// Counts what `max_connections` refuses. The admin listener has a bound of its own, which no
/// option sets.
pub(crate) fn count_full(hub: &Hub, door: Door) {
    if door.when_full() == Door::Full {
        hub.limits.count(Limit::MaxConnections);
    }
}

/// Nobody leaves sooner for the sake of one who asks again.
const CROWDED_RETRY_AFTER: Duration = Duration::from_secs(10);

/// The refusal of a request whose body could end in two places: what follows it on the connection
/// is never taken for a request.
pub(crate) fn unclear_framing() -> Rejection {
    Rejection::bad_request(UNCLEAR_FRAMING)
}

/// Whether it is that one: the connection has to end behind it.
pub(crate) fn is_unclear_framing(rejection: &Rejection) -> bool {
    rejection.text == UNCLEAR_FRAMING
}

const UNCLEAR_FRAMING: &str =
    "where the body ends is unclear: send one Content-Length, or Transfer-Encoding: chunked";

/// The refusal of templates that are too many alike. Others leave, so later there may be room.
pub fn crowded(refused: Crowded) -> Rejection {
    Rejection::unavailable(refused.to_string(), CROWDED_RETRY_AFTER)
}

/// Checks the token of a publish: from the head alone, so that a stranger's body is never read.
///
/// # Errors
///
/// 401 without a usable token, 403 with a cookie from an origin that may not publish.
pub async fn publisher(
    policy: &Policy,
    headers: &HeaderMap,
    query: &[Pair<'_>],
    now_unix: u64,
) -> Result<Arc<Claims>, Rejection> {
    let Some(ring) = &policy.publisher else {
        return Err(Rejection::unauthorized(
            "this hub has no publisher key; its operator sets one with --publisher-key",
        ));
    };
    let found = credentials::find(headers, query, &policy.settings.cookie_name)
        .map_err(|error| Rejection::unauthorized(error.to_string()))?;
    let Some(credential) = found else {
        return Err(Rejection::unauthorized(NO_TOKEN));
    };
    if credential.place == Place::Cookie {
        check_publish_origin(policy, headers)?;
    }
    let verdict = ring.verify_known(credential.token, now_unix).await;
    verdict.map_err(|error| token_refused(ring, error))
}

/// Checks the token of a subscriber; `None` for an anonymous one.
///
/// # Errors
///
/// 401 for a token that is not good (also where anonymous is allowed), or for none where it is not.
pub async fn subscriber(
    policy: &Policy,
    headers: &HeaderMap,
    query: &[Pair<'_>],
    now_unix: u64,
) -> Result<Option<Claims>, Rejection> {
    let anonymous = policy.settings.anonymous;
    let Some(ring) = &policy.subscriber else {
        if anonymous {
            return Ok(None);
        }
        return Err(Rejection::unauthorized(
            "this hub has no subscriber key and takes no anonymous subscribers; its operator sets \
             --subscriber-key or --anonymous",
        ));
    };
    let found = credentials::find(headers, query, &policy.settings.cookie_name)
        .map_err(|error| Rejection::unauthorized(error.to_string()))?;
    match found {
        Some(credential) => {
            let verdict = ring.verify(credential.token, now_unix).await;
            verdict
                .map(Some)
                .map_err(|error| token_refused(ring, error))
        }
        None if anonymous => Ok(None),
        None => Err(Rejection::unauthorized(NO_TOKEN)),
    }
}

/// May this publisher publish to all of these topics?
///
/// # Errors
///
/// 403 that names the first topic its token does not open.
pub fn topics<'a>(
    claims: &Claims,
    mut topics: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), Rejection> {
    if claims.may_publish(topics.clone()) {
        return Ok(());
    }
    let refused = topics.find(|topic| !claims.may_publish(std::iter::once(*topic)));
    Err(Rejection::forbidden(match refused {
        Some(topic) => {
            let shown: String = topic.chars().take(200).collect();
            format!("the token's mercure.publish claim does not allow the topic {shown:?}")
        }
        None => "the token's mercure.publish claim allows no topic".to_owned(),
    }))
}

const NO_TOKEN: &str = "no token: send it as \"Authorization: Bearer <token>\", as the query \
                        parameter \"authorization\" or as a cookie";

fn token_refused(ring: &KeyRing, error: TokenError) -> Rejection {
    tracing::debug!(role = ring.name(), detail = %error.detail(), "token refused");
    if error.is_ours() {
        // The token may be good: a 401 would make clients give up for ever.
        return Rejection::unavailable(error.to_string(), KEYS_RETRY_AFTER);
    }
    Rejection::unauthorized(error.to_string())
}

/// When a key set that could not be fetched is worth another try.
const KEYS_RETRY_AFTER: Duration =
    Duration::from_secs(gush_middleware::auth::jwks::FETCH_FLOOR_SECONDS);

fn check_publish_origin(policy: &Policy, headers: &HeaderMap) -> Result<(), Rejection> {
    match origin::request_origin(headers) {
        Some(origin) if policy.publish_origins.allows(&origin) => Ok(()),
        Some(_) => Err(Rejection::forbidden(
            "publishing by cookie is not allowed from this origin; the hub's operator lists it \
             with --publish-origin",
        )),
        None => Err(Rejection::forbidden(
            "publishing by cookie needs an Origin or Referer header",
        )),
    }
}
