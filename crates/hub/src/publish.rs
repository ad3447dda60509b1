//! From a publish request to an event in the log and the answer with its id.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use gush_log::{AppendError, AppendErrorKind, Appended, AtOnce, Draft, Located, Position};
use gush_middleware::{BodyLimit, TooLarge};
use gush_sse::Topic;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, EXPECT, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::sync::oneshot;

use crate::admit::{self, InFlight, Limit, Publisher, Rejection};
use crate::answered::Answered;
use crate::change::CHANGE_BYTES_MAX;
use crate::config::Settings;
use crate::dialect::{self, PAIRS_MAX};
use crate::form::parse_pairs;
use crate::hub::Hub;
use crate::peer::Peer;
use crate::policy::Policy;
use crate::pressure::Step;
use crate::request::{has_type, is_batch};
use crate::token::Claims;
use crate::transport::Stage;

/// How long a publisher is told to wait when the log cannot take its event.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Most bytes of a refused body that are read and thrown away, and for how long: closing at once
/// would reset the connection before its peer, still sending, reads why.
const DISCARD_BYTES_MAX: usize = 16 * 1024 * 1024;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(2);

/// Appends what a request publishes; the event's place and id once it is in the log as durably as
/// configured.
///
/// # Errors
///
/// 401 and 403 by the token, 400 by the fields, 503 when the log cannot take the event. After an
/// error nothing is published.
pub async fn publish(hub: &Hub, head: &Parts, mut body: Incoming) -> Result<Appended, Rejection> {
    let published = read_and_append(hub, head, &mut body).await;
    if published.is_err() {
        discard_unless_expected(head, body);
    }
    published
}

async fn read_and_append(
    hub: &Hub,
    head: &Parts,
    body: &mut Incoming,
) -> Result<Appended, Rejection> {
    let policy = hub.policy.load_full();
    let query = head.uri.query().unwrap_or("");
    let claims = admit_head(hub, &policy, &head.headers, query).await?;
    let settings = &policy.settings;
    let publisher = Publisher {
        policy: &policy,
        claims: &claims,
        peer: Peer::of_request(head),
        headers: &head.headers,
    };
    let body = in_time(settings, collect(hub, body, settings.max_body)).await??;
    if let Some(stage) = head.extensions.get::<Arc<Stage>>() {
        stage.body_read();
    }
    let started_at = Instant::now();
    let (draft, in_flight) = draft(hub, &publisher, &body)?;
    let appended = append(hub, draft, in_flight).await?;
    hub.metrics.published_in(1, started_at.elapsed());
    Ok(appended)
}

/// Whether a request with this head may publish at all: decided before any of its body is read.
pub(crate) async fn admit_head(
    hub: &Hub,
    policy: &Policy,
    headers: &HeaderMap,
    query: &str,
) -> Result<Arc<Claims>, Rejection> {
    admit::unless_given_up(hub, Step::Publishes)?;
    let pairs = parse_pairs(query.as_bytes(), PAIRS_MAX)
        .map_err(|error| Rejection::bad_request(error.to_string()))?;
    let claims = admit::publisher(policy, headers, &pairs, hub.now_unix()).await?;
    check_codings(headers)?;
    check_content_type(headers)?;
    Ok(claims)
}

/// The checked event of a form body, and what it holds until the log has decided.
pub(crate) fn draft(
    hub: &Hub,
    publisher: &Publisher<'_>,
    body: &[u8],
) -> Result<(Draft, InFlight), Rejection> {
    let form =
        parse_pairs(body, PAIRS_MAX).map_err(|error| Rejection::bad_request(error.to_string()))?;
    let draft = dialect::publish_request(&form)?;
    let in_flight = check_draft(hub, publisher, &draft)?;
    Ok((draft, in_flight))
}

/// What is checked of an event beyond its form.
pub(crate) fn check_draft(
    hub: &Hub,
    publisher: &Publisher<'_>,
    draft: &Draft,
) -> Result<InFlight, Rejection> {
    check_own_id(hub, draft)?;
    admit::topics(publisher.claims, draft.topics.iter().map(Topic::as_str))?;
    hub.limits.publish(publisher, draft)
}

/// Puts an event into the log; returns once it is there as durably as configured.
pub(crate) async fn append(
    hub: &Hub,
    draft: Draft,
    in_flight: InFlight,
) -> Result<Appended, Rejection> {
    let draft = match hub.log.append_at_once(draft) {
        AtOnce::Done(outcome) => return outcome.map_err(|error| not_appended(hub, &error)),
        AtOnce::MustWait(draft) => draft,
    };
    let (reply, answer) = oneshot::channel();
    let waiting = hub.log_waits.begin(1, draft.data.len());
    hub.log.append(
        draft,
        Box::new(move |outcome| {
            // Whether or not the publisher is still there: so long its event waited.
            drop((waiting, in_flight));
            // The publisher may have gone away; its event stays.
            Answered::One(reply, outcome).deliver();
        }),
    );
    match answer.await {
        Ok(outcome) => outcome.map_err(|error| not_appended(hub, &error)),
        Err(_) => Err(log_gone()),
    }
}

/// Puts many events into the log. The outcomes come when the last one is decided; an error means
/// [`log_gone`] for all.
pub(crate) fn start_batch(
    hub: &Hub,
    drafts: Vec<Draft>,
    in_flight: Vec<InFlight>,
) -> oneshot::Receiver<Vec<Result<Position, AppendError>>> {
    let (reply, outcomes) = oneshot::channel();
    let bytes = drafts.iter().map(|draft| draft.data.len()).sum();
    let waiting = hub.log_waits.begin(drafts.len(), bytes);
    hub.log.append_batch(
        drafts,
        Box::new(move |outcomes| {
            drop((waiting, in_flight));
            // The publisher may have gone away; its events stay.
            Answered::Many(reply, outcomes).deliver();
        }),
    );
    outcomes
}

/// What a publisher is told of an event that the log did not take.
pub(crate) fn not_appended(hub: &Hub, error: &AppendError) -> Rejection {
    let text = error.kind.public_text();
    if error.kind == AppendErrorKind::TooLarge {
        return Rejection::bad_request(text);
    }
    if error.kind == AppendErrorKind::Busy {
        hub.limits.count(Limit::MaxInFlight);
    }
    tracing::warn!(%error, "an event was not published");
    Rejection::unavailable(text, RETRY_AFTER)
}

/// The log ended without an answer.
pub(crate) fn log_gone() -> Rejection {
    Rejection::unavailable(AppendErrorKind::Closed.public_text(), RETRY_AFTER)
}

/// What reading a body brings, if it has come within `body_timeout`.
pub(crate) async fn in_time<T>(
    settings: &Settings,
    read: impl Future<Output = T>,
) -> Result<T, Rejection> {
    let read = tokio::time::timeout(settings.body_timeout, read).await;
    read.map_err(|_| body_too_slow())
}

pub(crate) fn body_too_slow() -> Rejection {
    Rejection::bad_request("the request body took too long to arrive")
}

/// A generated id is a place in this log, and readers resume there: a publisher's own id must not
/// claim one. Those of other hubs, mirrored here, are ids like any other.
fn check_own_id(hub: &Hub, draft: &Draft) -> Result<(), Rejection> {
    let claimed = draft
        .id
        .as_ref()
        .and_then(|id| Position::parse(id.as_str()));
    let Some((position, id)) = claimed.zip(draft.id.as_ref()) else {
        return Ok(());
    };
    let is_here = position.epoch == hub.log.bounds().epoch
        || matches!(hub.log.locate(id.as_str()), Located::After(_));
    if is_here {
        return Err(Rejection::bad_request(
            "Invalid \"id\" parameter: it is one of the ids that this hub generates",
        ));
    }
    Ok(())
}

/// The body is taken as it is: one that is coded would read as broken fields.
fn check_codings(headers: &HeaderMap) -> Result<(), Rejection> {
    let is_other = |name, plain: &str| {
        let values = headers.get_all(name);
        values.iter().any(|value| {
            let value = value.to_str().unwrap_or("");
            !value.trim().eq_ignore_ascii_case(plain)
        })
    };
    if is_other(CONTENT_ENCODING, "identity") || is_other(TRANSFER_ENCODING, "chunked") {
        return Err(Rejection::unsupported(
            "the request body has to be sent without a content or transfer coding",
        ));
    }
    Ok(())
}

/// Only forms, and lines of a batch, carry fields; another type reads as "no topic", as with the
/// reference, but says so.
fn check_content_type(headers: &HeaderMap) -> Result<(), Rejection> {
    if has_type(headers, "application/x-www-form-urlencoded") || is_batch(headers) {
        return Ok(());
    }
    Err(Rejection::bad_request(
        "Missing \"topic\" parameter: the body has to be sent as \
         application/x-www-form-urlencoded",
    ))
}

/// Reads a change of the limits.
///
/// # Errors
///
/// 403 from a web page, 415 for another type, 400 for a body that is too large or too slow.
pub(crate) async fn read_change(
    hub: &Hub,
    head: &Parts,
    mut body: Incoming,
) -> Result<Bytes, Rejection> {
    // A page that the operator looks at must not change the hub beside it.
    if head.headers.contains_key(ORIGIN) {
        return Err(Rejection::forbidden("limits are not changed by web pages"));
    }
    if !has_type(&head.headers, "application/json") {
        let text = "a change has to be sent as application/json";
        return Err(Rejection::unsupported(text));
    }
    let policy = hub.policy.load_full();
    in_time(&policy.settings, collect(hub, &mut body, CHANGE_BYTES_MAX)).await?
}

async fn collect(hub: &Hub, body: &mut Incoming, bytes_max: usize) -> Result<Bytes, Rejection> {
    let too_large = |TooLarge| {
        hub.limits.count(Limit::MaxBody);
        Rejection::bad_request(format!("the request body is larger than {bytes_max} bytes"))
    };
    let mut limit = BodyLimit::new(bytes_max as u64);
    limit
        .check_length(body.size_hint().lower())
        .map_err(too_large)?;
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Rejection::bad_request("the request body ended before its end"))?;
        let data = match frame.into_data() {
            Ok(data) => data,
            // Trailers without one are what hyper makes of an end of chunks that is none.
            Err(trailers) if trailers.trailers_ref().is_some_and(HeaderMap::is_empty) => {
                return Err(admit::unclear_framing());
            }
            Err(_) => continue,
        };
        limit.take(data.len()).map_err(too_large)?;
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}

/// [`discard`], unless the peer waits for "100 Continue": then it has sent nothing yet, and need
/// not.
pub(crate) fn discard_unless_expected(head: &Parts, body: Incoming) {
    if !head.headers.contains_key(EXPECT) {
        discard(body);
    }
}

/// Reads the rest of a refused body, for a while.
pub(crate) fn discard(mut body: Incoming) {
    if body.is_end_stream() {
        return;
    }
    let reading = async move {
        let mut discarded = 0;
        while discarded < DISCARD_BYTES_MAX {
            let Some(Ok(frame)) = body.frame().await else {
                return;
            };
            discarded += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    tokio::spawn(tokio::time::timeout(DISCARD_TIME_MAX, reading));
}
