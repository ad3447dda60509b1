//! The only place that refuses: connections, tokens, topics.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};

use crate::credentials::{self, Place};
use crate::form::Pair;
use crate::keys::KeyRing;
use crate::matcher_table::crowds::Crowded;
use crate::origin;
use crate::policy::Policy;
use crate::shard::ShardPlace;
use crate::token::{Claims, TokenError};

// What is given back when a stream ends.
mod held;

pub use held::Held;

/// A request that is not served, and what the peer may read about it.
#[derive(Debug)]
pub struct Rejection {
    /// The status of the answer.
    pub status: StatusCode,
    /// One sentence for the peer: why, and what would help. Never a key or a token.
    pub text: String,
    /// When a retry helps.
    pub retry_after: Option<Duration>,
    /// The peer is an event source, which gives up for ever on an error status: it gets an empty
    /// stream with this delay instead.
    pub soft_retry: Option<Duration>,
}

impl Rejection {
    /// The request itself is wrong; a retry does not help.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            text: text.into(),
            retry_after: None,
            soft_retry: None,
        }
    }

    /// No usable token.
    pub fn unauthorized(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            text: text.into(),
            retry_after: None,
            soft_retry: None,
        }
    }

    /// A good token that does not open this.
    pub fn forbidden(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::FORBIDDEN,
            text: text.into(),
            retry_after: None,
            soft_retry: None,
        }
    }

    /// A body in a form the hub does not read; another form works.
    pub fn unsupported(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            text: text.into(),
            retry_after: None,
            soft_retry: None,
        }
    }

    /// Nothing of that name.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            text: text.into(),
            retry_after: None,
            soft_retry: None,
        }
    }

    /// The hub failed at it, which is in its log.
    pub fn failed() -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            ..Self::bad_request("the hub failed; its log says more")
        }
    }

    /// Not now; later it works.
    pub fn unavailable(text: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            text: text.into(),
            retry_after: Some(retry_after),
            soft_retry: None,
        }
    }
}

/// The delay told while draining when no other is configured: a client must not come back at once,
/// and again.
const DRAINING_RETRY: Duration = Duration::from_secs(2);

/// The refusal of a subscribe while the hub drains: soft for an event source, with a status for
/// every other client.
pub fn while_draining(policy: &Policy, headers: &HeaderMap) -> Rejection {
    let retry = Some(policy.settings.retry)
        .filter(|retry| !retry.is_zero())
        .unwrap_or(DRAINING_RETRY);
    let wants_stream = headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"));
    let jittered = Duration::from_secs(1 + fastrand::u64(0..=retry.as_secs().max(1) * 2));
    Rejection {
        soft_retry: wants_stream.then_some(retry),
        ..Rejection::unavailable("the hub is shutting down", jittered)
    }
}

/// The refusal of a connection over the limit.
pub fn no_connection() -> Rejection {
    let wait = Duration::from_secs(fastrand::u64(1..=10));
    Rejection::unavailable("the hub has no connection to spare", wait)
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

/// The refusal of templates that are too many alike. Others leave, so later there may be room.
pub fn crowded(refused: Crowded) -> Rejection {
    let wait = Duration::from_secs(fastrand::u64(10..=60));
    Rejection::unavailable(refused.to_string(), wait)
}

/// Counts open connections against their limits.
#[derive(Debug)]
pub struct ConnectionGate {
    counts: Arc<Counts>,
    max: usize,
    lobby_max: usize,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    /// Those that no shard has taken over.
    lobby: AtomicUsize,
}

/// One connection's share of the limit, given back on drop: for a subscriber when its stream ends.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<Counts>);

/// The permit of a connection that no shard has taken over.
#[derive(Debug)]
pub struct LobbyPermit {
    connection: ConnectionPermit,
    _lobby: LobbyShare,
}

#[derive(Debug)]
struct LobbyShare(Arc<Counts>);

impl ConnectionGate {
    /// At most `max` connections, of which at most `lobby_max` are still in the process's own
    /// descriptor table.
    #[must_use]
    pub fn new(max: usize, lobby_max: usize) -> Self {
        Self {
            counts: Arc::default(),
            max,
            lobby_max,
        }
    }

    /// A permit, or `None` at a limit.
    #[must_use]
    pub fn admit(&self) -> Option<LobbyPermit> {
        let before = self.counts.open.fetch_add(1, Ordering::Relaxed);
        let in_lobby = self.counts.lobby.fetch_add(1, Ordering::Relaxed);
        let permit = LobbyPermit {
            connection: ConnectionPermit(Arc::clone(&self.counts)),
            _lobby: LobbyShare(Arc::clone(&self.counts)),
        };
        (before < self.max && in_lobby < self.lobby_max).then_some(permit)
    }

    /// Connections now open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::Relaxed)
    }
}

impl LobbyPermit {
    /// The connection goes on in a shard.
    #[must_use]
    pub fn leave_lobby(self) -> ConnectionPermit {
        self.connection
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for LobbyShare {
    fn drop(&mut self) {
        self.0.lobby.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Checks the token of a publish: from the head alone, so that a stranger's body is never read.
///
/// # Errors
///
/// 401 without a usable token, or with a cookie from an origin that may not publish.
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
        Some(_) => Err(Rejection::unauthorized(
            "publishing by cookie is not allowed from this origin; the hub's operator lists it \
             with --publish-origin",
        )),
        None => Err(Rejection::unauthorized(
            "publishing by cookie needs an Origin or Referer header",
        )),
    }
}
