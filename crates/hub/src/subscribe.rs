//! From a subscribe request to a subscriber with a cursor.
//!
//! The cursor is taken before the answer's head is sent. So an event published after the head was
//! seen is at or behind the cursor, whichever thread gets to it first, and cannot be missed.

use std::sync::Arc;

use gush_log::{Bounds, Flow, Located, Log, Offset, Position, ReadLimit};
use http::HeaderMap;

use crate::admit::{self, ConnectionPermit, Rejection, Shares};
use crate::dialect::{self, Cursor, EARLIEST, PAIRS_MAX, SubscribeRequest};
use crate::form::{Pair, parse_pairs};
use crate::hub::Hub;
use crate::peer::{Client, Peer};
use crate::policy::Policy;
use crate::presence::Attendance;
use crate::pressure::Step;
use crate::refuse;
use crate::selection::Selection;
use crate::shard::{NewSubscriber, ShardPlace};
use crate::socket::Arriving;
use crate::token::Claims;
use crate::topic::Matcher;

/// Most stored events looked at for the id in the answer's header when the cursor is unknown.
/// The reference's figure for the same search.
const READABLE_SCAN_MAX: u64 = 10_000;

/// Most comparisons of an event with a matcher for it. A usual one takes some tens of nanoseconds,
/// the worst one that can be made some ten microseconds.
const READABLE_COMPARISONS_MAX: u64 = 100_000;

/// Events of one step back.
const READABLE_STEP: u64 = 256;

/// A subscriber that may have its stream.
#[derive(Debug)]
pub struct Admission {
    /// Whom it is for.
    pub client: Client,
    /// What it wants and may read.
    pub selection: Arc<Selection>,
    /// The first offset it has not had.
    pub start: Offset,
    /// When its token expires, in milliseconds of the hub's clock.
    pub expires_at_ms: Option<u64>,
    /// Its entry in the active subscriptions, if those are on.
    pub present: Option<Attendance>,
    /// Its way into a shard, unless nothing but the head was asked for.
    pub place: Option<ShardPlace>,
    /// The answer's `Last-Event-ID`; only when the request had a cursor.
    pub answer_id: Option<String>,
    /// How large the crowd was for which its delay was drawn.
    pub told_level: u8,
    /// What it holds of the limits per address and per subject.
    pub(crate) shares: Shares,
    /// What every stream begins with: a comment, `retry:`, and the gap event if there is a gap.
    pub first: Vec<u8>,
}

impl Admission {
    /// The subscriber on its way into its shard; `None` if it has none to go to.
    #[must_use]
    pub fn subscriber(
        self,
        sink: Arriving,
        mut connection: ConnectionPermit,
    ) -> Option<NewSubscriber> {
        let Shares { address, subject } = self.shares;
        connection.count_for_address(address);
        Some(NewSubscriber {
            sink,
            selection: self.selection,
            start: self.start,
            expires_at_ms: self.expires_at_ms,
            present: self.present,
            told_level: self.told_level,
            place: self.place?,
            client: Some(self.client),
            connection,
            subject,
            resumed: None,
        })
    }
}

/// The headers of a stream's answer, without those that frame it.
///
/// Source: the reference hub's list, and `no-transform` against proxies that compress and hold.
pub const STREAM_HEADERS: [(&str, &str); 5] = [
    ("content-type", "text/event-stream"),
    (
        "cache-control",
        "private, no-cache, no-store, must-revalidate, max-age=0, no-transform",
    ),
    ("pragma", "no-cache"),
    ("expire", "0"),
    ("x-accel-buffering", "no"),
];

/// What a subscribe request is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Becomes {
    /// A stream on the socket that it came by.
    Socket,
    /// A stream inside hyper's connection.
    Pipe,
    /// Only the head of an answer: nobody is entered anywhere.
    Head,
}

/// Decides a subscribe request.
///
/// # Errors
///
/// 400 for a request that cannot be, 401 without a good token, 204 for topics that have ended, 429
/// for too many streams, 503 while the hub drains or has too much to do, 503 without a place for
/// the stream, 503 for many templates of which others have too many alike.
pub async fn admit(
    hub: &Hub,
    peer: Peer,
    headers: &HeaderMap,
    query: &str,
    becomes: Becomes,
) -> Result<Admission, Rejection> {
    #[cfg(test)]
    tests::strike(query);
    let policy = hub.policy.load_full();
    admit::new_stream(hub)?;
    // A HEAD as well: what this bounds is the checking of tokens.
    let address = peer.client_address(&policy, headers);
    hub.limits.begin_from(&policy, address)?;
    let pairs: Vec<Pair<'_>> = parse_pairs(query.as_bytes(), PAIRS_MAX)
        .map_err(|error| Rejection::bad_request(error.to_string()))?;
    let claims = admit::subscriber(&policy, headers, &pairs, hub.now_unix()).await?;
    if claims.is_none() {
        admit::unless_given_up(hub, Step::Anonymous)?;
    }
    let request = dialect::subscribe_request(headers, &pairs)?;
    hub.limits.topics(&policy, request.matchers.len())?;
    unless_ended(hub, &policy, &request.matchers).await?;
    let client = peer.client(&policy, headers, claims.as_ref());
    let shares = shares(hub, &policy, peer, &client, becomes)?;
    let expires_at_ms = claims.as_ref().and_then(|claims| expiry(hub, claims));
    let grants = claims.map(|claims| claims.grants);
    let (grants, payload) = grants.map_or((Vec::new(), None), |grants| {
        (grants.subscribe.unwrap_or_default(), grants.payload)
    });
    let SubscribeRequest {
        matchers,
        cursor,
        wants_gap,
    } = request;
    let place = match becomes {
        Becomes::Head => None,
        Becomes::Socket => Some(admit::place(hub.claim_place())?),
        Becomes::Pipe => Some(hub.place_without_socket()),
    };
    let texts = policy.settings.subscriptions && place.is_some();
    let texts: Option<Vec<String>> = texts.then(|| texts_of(&matchers));
    let places = hub.crowds.enter(&matchers).map_err(admit::crowded)?;
    let mut selection = Selection {
        matchers: matchers.into(),
        grants: grants.into(),
        wants_gap,
        told_until: None,
        places,
    };
    let found = locate(hub, &mut selection, cursor).await?;
    let selection = Arc::new(selection);
    let told = hub.crowd.tell(&policy.settings);
    let first = first_bytes(told.line, found.gap.filter(|_| wants_gap));
    let present = texts.map(|texts| hub.presence.enter(texts, payload));
    Ok(Admission {
        client,
        selection,
        start: found.start,
        expires_at_ms,
        present,
        place,
        answer_id: found.answer_id,
        told_level: told.level,
        shares,
        first,
    })
}

async fn unless_ended(hub: &Hub, policy: &Policy, topics: &[Matcher]) -> Result<(), Rejection> {
    if !policy.has_ended(topics) {
        return Ok(());
    }
    refuse::hold_back(hub).await;
    Err(admit::ended())
}

/// What the stream holds of the limits per address and per subject.
fn shares(
    hub: &Hub,
    policy: &Policy,
    peer: Peer,
    client: &Client,
    becomes: Becomes,
) -> Result<Shares, Rejection> {
    if becomes == Becomes::Head {
        return Ok(Shares::default());
    }
    // The connection of a listed proxy counts for nobody, so a stream for which it names nobody
    // counts for the proxy.
    let is_counted = peer.is_counted
        && client.address == peer.address
        && !policy.trusted_proxies.includes(peer.address);
    hub.limits.begin(policy, client, is_counted)
}

fn texts_of(matchers: &[Matcher]) -> Vec<String> {
    let texts = matchers.iter().map(Matcher::text);
    texts.map(str::to_owned).collect()
}

fn first_bytes(retry_line: Vec<u8>, gap: Option<String>) -> Vec<u8> {
    let mut first = b":\n".to_vec();
    first.extend(retry_line);
    first.extend(gap.unwrap_or_default().into_bytes());
    first
}

/// The token's end on the hub's own clock, rounded down: a stream never outlives its token.
fn expiry(hub: &Hub, claims: &Claims) -> Option<u64> {
    let left_ms = claims
        .expires_unix?
        .saturating_mul(1000)
        .saturating_sub(hub.clock.unix_ms());
    Some(hub.clock.now_ms() + left_ms)
}

/// Where a cursor leads.
struct Found {
    start: Offset,
    answer_id: Option<String>,
    gap: Option<String>,
}

async fn locate(hub: &Hub, selection: &mut Selection, cursor: Cursor) -> Result<Found, Rejection> {
    let bounds = hub.log.bounds();
    let (id, located) = match cursor {
        Cursor::Now => {
            return Ok(Found {
                start: bounds.next,
                answer_id: None,
                gap: None,
            });
        }
        Cursor::Earliest => {
            let answer_id = Some(EARLIEST.to_owned());
            // "Everything stored": what is known to be damaged is not. Who asked to be told of
            // gaps is told all the same.
            if !selection.wants_gap {
                let damaged = hub.replayer.damage.last_after(bounds.first);
                selection.told_until = damaged.map(|gap| gap.until);
            }
            return Ok(Found {
                start: bounds.first,
                answer_id,
                gap: None,
            });
        }
        Cursor::After(id) => {
            let located = hub.log.locate(&id);
            (id, located)
        }
    };
    let after = match located {
        Located::After(offset) => Some(offset),
        Located::Unknown => None,
        Located::Search => search(hub, &id).await?,
    };
    if let Some(start) = after {
        let Some(damaged) = hub
            .replayer
            .damage
            .last_after(start)
            .filter(|_| !selection.wants_gap)
        else {
            return Ok(Found {
                start,
                answer_id: Some(id),
                gap: None,
            });
        };
        // Another id than the one asked for is the protocol's signal of loss: here that of the
        // last lost event.
        selection.told_until = Some(damaged.until);
        let offset = Offset::from_u64(damaged.until.as_u64() - 1);
        let epoch = Position::parse(&id).map_or(bounds.epoch, |position| position.epoch);
        let lost = Position { epoch, offset };
        return Ok(Found {
            start,
            answer_id: Some(lost.to_string()),
            gap: None,
        });
    }
    let is_trimmed = Position::parse(&id)
        .is_some_and(|position| position.epoch <= bounds.epoch && position.offset < bounds.first);
    let gap = dialect::gap_unknown(&id, is_trimmed, newest_place(&bounds).as_deref());
    let answer_id = last_readable(hub, selection, bounds.next)
        .await?
        .unwrap_or_else(|| EARLIEST.to_owned());
    Ok(Found {
        start: bounds.next,
        answer_id: Some(answer_id),
        gap: Some(gap),
    })
}

/// An id that stands for everything stored so far. Never a publisher's own one: the newest event
/// may be private.
fn newest_place(bounds: &Bounds) -> Option<String> {
    let last_id = bounds.last_id.as_deref()?;
    if Position::parse(last_id).is_some() {
        return Some(last_id.to_owned());
    }
    let offset = Offset::from_u64(bounds.next.as_u64() - 1);
    let epoch = bounds.epoch;
    Some(Position { epoch, offset }.to_string())
}

/// Looks a publisher's own id up.
async fn search(hub: &Hub, id: &str) -> Result<Option<Offset>, Rejection> {
    let log = Arc::clone(&hub.log);
    let id = id.to_owned();
    match look_up(hub, move || log.search(&id)).await? {
        Some(Ok(offset)) => Ok(offset),
        Some(Err(error)) => {
            tracing::error!(%error, "a cursor could not be looked up; it counts as unknown");
            Ok(None)
        }
        None => Ok(None),
    }
}

/// The newest stored id below `end` that this subscriber may read. Looked for newest first, so that
/// usually one small read decides.
async fn last_readable(
    hub: &Hub,
    selection: &Selection,
    end: Offset,
) -> Result<Option<String>, Rejection> {
    let log = Arc::clone(&hub.log);
    let selection = selection.clone();
    let found = look_up(hub, move || newest_below(&*log, &selection, end)).await?;
    Ok(found.flatten())
}

/// Looks something up in the log, on a thread that may wait; `None` while the process ends.
///
/// # Errors
///
/// Softly where it may be: it panicked. A cursor of which nothing is known is not an unknown one.
async fn look_up<T: Send + 'static>(
    hub: &Hub,
    look: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, Rejection> {
    // Whatever strangers ask for, the blocking threads stay free for others.
    let Ok(_permit) = hub.lookups.acquire().await else {
        return Ok(None);
    };
    let guard = Arc::clone(&hub.metrics.panics.request);
    let looked = tokio::task::spawn_blocking(move || guard.run("a look-up in the log", look)).await;
    looked
        .ok()
        .transpose()
        .map_err(|_panicked| admit::stream_failed())
}

fn newest_below(log: &dyn Log, selection: &Selection, end: Offset) -> Option<String> {
    let comparisons = selection.matchers.len() + selection.grants.len();
    let mut left = READABLE_SCAN_MAX.min(READABLE_COMPARISONS_MAX / comparisons.max(1) as u64);
    let first = log.bounds().first;
    let mut end = end;
    while end > first && left > 0 {
        let count = READABLE_STEP.min(left).min(end.since(first));
        let from = Offset::from_u64(end.as_u64() - count);
        if let Some(id) = newest_between(log, selection, from, end) {
            return Some(id);
        }
        left -= count;
        end = from;
    }
    None
}

fn newest_between(
    log: &dyn Log,
    selection: &Selection,
    from: Offset,
    end: Offset,
) -> Option<String> {
    let mut newest = None;
    let mut next = from;
    while next < end {
        let limit = ReadLimit {
            events_max: usize::try_from(end.since(next)).unwrap_or(usize::MAX),
            bytes_max: 4 * 1024 * 1024,
        };
        let read = log.read(next, limit, &mut |record| {
            if record.offset() >= end {
                return Flow::StopBefore;
            }
            if selection.wants(record.topics.iter(), record.is_private) {
                newest = Some(record.wire_id().to_string());
            }
            Flow::Continue
        });
        match read {
            Ok(read) if read.next > next => next = read.next,
            _ => break,
        }
    }
    newest
}

#[cfg(test)]
mod tests;
