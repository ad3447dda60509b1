//! From a routed request to its HTTP answer, for everything that hyper serves; and the answers
//! that the fast path of `accept.rs` shares with it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use gush_log::Appended;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Frame as BodyFrame, Incoming, SizeHint};

use crate::admit::{self, ConnectionPermit, Rejection};
use crate::change;
use crate::console;
use crate::hub::Hub;
use crate::orders;
use crate::origin;
use crate::peer::Peer;
use crate::publish;
use crate::publish_batch::{self, BatchBody};
use crate::refuse::{Asked, problem, refused};
use crate::request::{BATCH_TYPE, Door, Route, is_batch, is_host, is_plain_coding, route};
use crate::socket::{Arriving, PipeBody, Sink, pipe};
use crate::subscribe::{self, Admission, Becomes, STREAM_HEADERS};
use crate::subscriptions;
use crate::transport::Stage;

/// An answer as hyper sends it.
pub type Answer = Response<AnswerBody>;

/// Whole bytes, or a stream fed by a shard.
#[derive(Debug)]
pub struct AnswerBody {
    kind: BodyKind,
    busy: Option<Busy>,
    active: Option<Active>,
}

#[derive(Debug)]
enum BodyKind {
    /// `None` once it was handed on.
    Whole(Option<Bytes>),
    Stream(PipeBody),
    Batch(Box<BatchBody>),
}

/// Counts one request of an HTTP/2 connection until its answer is out; see `accept.rs`.
#[derive(Debug)]
pub(crate) struct Active(Arc<AtomicUsize>);

impl Active {
    pub(crate) fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Marks a connection as serving until its answer is out; see `transport.rs`.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Stage>);

impl Busy {
    pub(crate) fn begin(stage: &Arc<Stage>, has_body: bool) -> Self {
        stage.serving(has_body);
        Self(Arc::clone(stage))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.answered();
    }
}

impl AnswerBody {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self {
            kind: BodyKind::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty())),
            busy: None,
            active: None,
        }
    }

    /// Keeps the stream counted as active until this body is gone.
    pub(crate) fn counting(mut self, active: Active) -> Self {
        self.active = Some(active);
        self
    }

    /// Keeps the connection marked as busy until this body is gone.
    pub(crate) fn holding(mut self, busy: Busy) -> Self {
        self.busy = Some(busy);
        self
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Self::Error>>> {
        match &mut self.kind {
            BodyKind::Whole(body) => {
                Poll::Ready(body.take().map(|bytes| Ok(BodyFrame::data(bytes))))
            }
            BodyKind::Stream(body) => Pin::new(body).poll_frame(context),
            BodyKind::Batch(body) => body.poll_part(context).map(|part| part.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            BodyKind::Whole(body) => body.is_none(),
            BodyKind::Stream(_) | BodyKind::Batch(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            BodyKind::Whole(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            BodyKind::Stream(_) | BodyKind::Batch(_) => SizeHint::default(),
        }
    }
}

/// Answers one request, with a refusal if that panics: other streams of its connection go on.
pub(crate) async fn guarded(hub: &Arc<Hub>, door: Door, request: Request<Incoming>) -> Answer {
    let guard = &hub.metrics.panics.request;
    // Only who asked for a stream is refused by its headers.
    let is_stream = matches!(
        route(request.method(), request.uri().path(), door),
        Route::Subscribe { .. }
    );
    let headers = is_stream.then(|| request.headers().clone());
    // hyper leaves the body out itself where it speaks HTTP/1.
    let is_bare = request.method() == Method::HEAD && request.version() == Version::HTTP_2;
    let answered = guard.watch("a request", answer(hub, door, request)).await;
    let answer = answered.unwrap_or_else(|_| match headers {
        Some(headers) => refused(hub, &headers, &admit::stream_failed(), Asked::Stream),
        None => refused(hub, &HeaderMap::new(), &admit::failed(), Asked::Other),
    });
    if is_bare { bare(answer) } else { answer }
}

/// The same answer without its body, as `HEAD` has it: with a body, clients take the stream for
/// broken (RFC 9113, 8.1.1).
fn bare(mut answer: Answer) -> Answer {
    if let BodyKind::Whole(body) = &mut answer.body_mut().kind
        && let Some(bytes) = body.take_if(|bytes| !bytes.is_empty())
    {
        let length = HeaderValue::from(bytes.len());
        answer.headers_mut().insert(CONTENT_LENGTH, length);
    }
    answer
}

/// Answers one request.
pub async fn answer(hub: &Arc<Hub>, door: Door, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    let (path, query) = (parts.uri.path(), parts.uri.query());
    #[cfg(test)]
    tests::strike(path);
    if let Err(rejection) = check_head(&parts) {
        return last(refused(hub, headers, &rejection, Asked::Other));
    }
    let route = route(&parts.method, path, door);
    let asked = match route {
        Route::Subscribe { .. } => Asked::Stream,
        _ => Asked::Other,
    };
    let outcome = match route {
        Route::Health => Ok(health(hub, door)),
        Route::Ready => Ok(ready(hub)),
        Route::Metrics => Ok(typed(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            hub.metrics_page(),
        )),
        _ if door.is_full() => Err(admit::at_full(hub, door)),
        Route::Subscribe { is_head } => subscribe_in_hyper(hub, door, &parts, is_head).await,
        Route::Publish if is_batch(headers) => {
            publish_batch::begin(hub, &parts, body).await.map(batch)
        }
        Route::Publish => publish::publish(hub, &parts, body)
            .await
            .map(|appended| accepted(&appended)),
        Route::Subscriptions { rest } => subscriptions::answer(hub, headers, rest, query)
            .await
            .map(document),
        Route::Options { allow } => Ok(options(hub, headers, allow)),
        Route::Limits { change: false } => Ok(limits(&change::limits(&hub.policy.load().settings))),
        Route::Limits { change: true } => match publish::read_change(hub, &parts, body).await {
            Ok(body) => hub.change_limits(&body).map(|in_force| limits(&in_force)),
            Err(rejection) => Err(rejection),
        },
        Route::Console { path } => Ok(console::file(path).map_or_else(
            || problem(StatusCode::NOT_FOUND, "not found"),
            |file| typed(StatusCode::OK, file.kind, file.bytes),
        )),
        Route::Upgrade | Route::Drain | Route::CancelDrain | Route::DrainStatus => {
            orders::obey(hub, route, headers, body).await.map(told)
        }
        Route::MethodNotAllowed { allow } => {
            let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allow));
            Ok(answer)
        }
        Route::NotFound => Ok(problem(StatusCode::NOT_FOUND, "not found")),
    };
    match outcome {
        Ok(answer) => finished(hub, headers, answer),
        Err(rejection) if admit::is_unclear_framing(&rejection) => {
            last(refused(hub, headers, &rejection, asked))
        }
        Err(rejection) => refused(hub, headers, &rejection, asked),
    }
}

/// What hyper lets through and HTTP/1.1 does not (RFC 9112, 3.2 and 6.1).
fn check_head(head: &http::request::Parts) -> Result<(), Rejection> {
    let hosts = head.headers.get_all(http::header::HOST);
    if head.version == Version::HTTP_11 && hosts.iter().count() != 1 {
        return Err(Rejection::bad_request("exactly one Host header is needed"));
    }
    if hosts.iter().count() > 1 || !hosts.iter().all(|host| is_host(host.as_bytes())) {
        return Err(Rejection::bad_request("the Host header names no host"));
    }
    // Of HTTP/1 none gets here that says its length twice: see `transport.rs`.
    if head.headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return Err(admit::unclear_framing());
    }
    if !is_plain_coding(&head.headers) {
        return Err(admit::unclear_framing());
    }
    Ok(())
}

/// The connection ends after it: what follows could be meant in two ways.
fn last(mut answer: Answer) -> Answer {
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(http::header::CONNECTION, close);
    answer
}

/// Adds what every answer carries: CORS, and the headers that keep browsers strict.
pub(crate) fn finished(hub: &Hub, request_headers: &HeaderMap, mut answer: Answer) -> Answer {
    let policy = hub.policy.load();
    let is_preflight = false;
    for (name, value) in origin::cors_headers(&policy.cors, request_headers, is_preflight) {
        // A preflight has them already, and a browser refuses an origin that is allowed twice.
        answer.headers_mut().insert(name, value);
    }
    secure(answer)
}

fn secure(mut answer: Answer) -> Answer {
    const SECURITY: [(&str, &str); 4] = [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("x-xss-protection", "1; mode=block"),
        ("content-security-policy", "default-src 'self'"),
    ];
    for (name, value) in SECURITY {
        answer.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    answer
}

fn options(hub: &Hub, headers: &HeaderMap, allow: &'static str) -> Answer {
    let mut answer = Response::new(AnswerBody::whole(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allow));
    let policy = hub.policy.load();
    for (name, value) in origin::cors_headers(&policy.cors, headers, true) {
        answer.headers_mut().append(name, value);
    }
    answer
}

/// The answer to a batch: as long as the batch, so nothing on the way may collect it.
fn batch(body: BatchBody) -> Answer {
    let mut answer = typed(StatusCode::OK, BATCH_TYPE, Bytes::new());
    let headers = answer.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-store, no-transform"),
    );
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer.body_mut().kind = BodyKind::Batch(Box::new(body));
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(AnswerBody::whole(body));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn document(document: subscriptions::Document) -> Answer {
    let mut answer = if let Some(json) = document.json {
        typed(StatusCode::OK, "application/ld+json", json)
    } else {
        let mut answer = Response::new(AnswerBody::whole(Bytes::new()));
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    };
    if let Ok(tag) = HeaderValue::from_str(&document.last_id) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    answer
}

fn limits(limits: &serde_json::Map<String, serde_json::Value>) -> Answer {
    let text = serde_json::to_string_pretty(limits).unwrap_or_default() + "\n";
    fresh(StatusCode::OK, text)
}

fn told((status, told): (StatusCode, serde_json::Value)) -> Answer {
    fresh(status, told.to_string())
}

/// JSON that is another a moment later.
fn fresh(status: StatusCode, text: String) -> Answer {
    let mut answer = typed(status, "application/json", text);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The log's place and its last failure are for the operator: only the admin listener tells.
fn health(hub: &Hub, door: Door) -> Answer {
    let writable = hub.log.writable();
    let log = if writable.is_ok() {
        "writable"
    } else {
        "not writable"
    };
    let mut body = serde_json::json!({ "status": "ok", "log": log });
    if matches!(door, Door::Admin | Door::FullAdmin) {
        body["engine"] = hub.log.describe().into();
        body["reason"] = writable.err().into();
    }
    typed(StatusCode::OK, "application/json", body.to_string())
}

fn ready(hub: &Hub) -> Answer {
    let reason = if hub.is_lame_duck() {
        Some("draining")
    } else if hub.balance.refuses() {
        Some("no new streams: gush drain --refuse")
    } else if hub.log.writable().is_err() {
        Some("the event log cannot be written")
    } else {
        None
    };
    let (status, body) = match reason {
        None => (StatusCode::OK, serde_json::json!({ "status": "ok" })),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            serde_json::json!({ "status": "unavailable", "reason": reason }),
        ),
    };
    typed(status, "application/json", body.to_string())
}

/// A stream's answer without its body; framing headers are the transport's.
fn stream_answer(admission: &Admission) -> Answer {
    let mut answer = Response::new(AnswerBody::whole(Bytes::new()));
    let headers = answer.headers_mut();
    for (name, value) in STREAM_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // A cursor may hold what no header can; then the header is left out, not the stream.
    let id = admission.answer_id.as_ref();
    if let Some(Ok(id)) = id.map(|id| HeaderValue::from_bytes(id.as_bytes())) {
        headers.insert("last-event-id", id);
    }
    answer
}

/// An HTTP/2 subscribe, or one that came to hyper's HTTP/1 connection behind other bytes.
async fn subscribe_in_hyper(
    hub: &Arc<Hub>,
    door: Door,
    parts: &http::request::Parts,
    is_head: bool,
) -> Result<Answer, Rejection> {
    let becomes = if is_head {
        Becomes::Head
    } else {
        Becomes::Pipe
    };
    let mut peer = Peer::of_request(parts);
    let query = parts.uri.query().unwrap_or("");
    let mut permit = ConnectionPermit::default();
    if let Some(carrier) = parts.extensions.get().filter(|_| !is_head) {
        // Before anything else, as for a connection.
        let is_further;
        (permit, is_further) = admit::stream(hub, door, carrier)?;
        if is_further {
            peer = peer.further();
        }
    }
    let mut admission = subscribe::admit(hub, peer, &parts.headers, query, becomes).await?;
    let mut answer = stream_answer(&admission);
    let (sink, body) = pipe(std::mem::take(&mut admission.first).into());
    let Some(subscriber) = admission.subscriber(Arriving::Here(Sink::Pipe(sink)), permit) else {
        return Ok(answer);
    };
    if parts.version < Version::HTTP_2 {
        answer.headers_mut().insert(
            http::header::CONNECTION,
            HeaderValue::from_static("keep-alive"),
        );
    }
    if let Some(stage) = parts.extensions.get::<Arc<Stage>>() {
        stage.streaming();
    }
    *answer.body_mut() = AnswerBody {
        kind: BodyKind::Stream(body),
        busy: None,
        active: None,
    };
    hub.hand_over(subscriber).await;
    Ok(answer)
}

/// The head of a stream's answer as the fast path sends it, and the first bytes of the stream.
#[must_use]
pub fn stream_head(
    hub: &Hub,
    request_headers: &HeaderMap,
    admission: &Admission,
    is_chunked: bool,
) -> Vec<u8> {
    let mut answer = stream_answer(admission);
    let framing = if is_chunked {
        [
            ("connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
        ]
        .as_slice()
    } else {
        [("connection", "close")].as_slice()
    };
    for (name, value) in framing {
        answer.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let (parts, _) = finished(hub, request_headers, answer).into_parts();
    let mut head = Vec::with_capacity(640);
    write_head(&parts, &mut head);
    head.extend_from_slice(b"\r\n");
    head
}

/// Appends a whole answer as a fast path sends it. With `is_last` the connection ends after it.
pub fn write_whole(answer: Answer, is_last: bool, out: &mut Vec<u8>) {
    let (mut parts, body) = answer.into_parts();
    let body = match body.kind {
        BodyKind::Whole(body) => body.unwrap_or_default(),
        // None is ever made for a fast path.
        BodyKind::Stream(_) | BodyKind::Batch(_) => Bytes::new(),
    };
    let headers = &mut parts.headers;
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    if is_last {
        let close = HeaderValue::from_static("close");
        headers.insert(http::header::CONNECTION, close);
    }
    write_head(&parts, out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
}

/// The answer to a publish that was accepted.
pub fn published(hub: &Hub, request_headers: &HeaderMap, appended: &Appended) -> Answer {
    finished(hub, request_headers, accepted(appended))
}

fn accepted(appended: &Appended) -> Answer {
    let id = Bytes::copy_from_slice(appended.id().as_bytes());
    text(StatusCode::OK, id)
}

/// The head of [`published`] without its length and its end: the same for all requests of a
/// second that have no origin.
#[must_use]
pub fn published_head(hub: &Hub) -> Vec<u8> {
    let answer = text(StatusCode::OK, Bytes::new());
    let (parts, _) = finished(hub, &HeaderMap::new(), answer).into_parts();
    let mut head = Vec::with_capacity(512);
    write_head(&parts, &mut head);
    head
}

/// Appends all of a head but its end.
fn write_head(answer: &http::response::Parts, out: &mut Vec<u8>) {
    let status = answer.status;
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(httpdate::fmt_http_date(std::time::SystemTime::now()).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in &answer.headers {
        // Title case, as hyper writes it on the other path.
        let mut begins_word = true;
        for byte in name.as_str().bytes() {
            out.push(if begins_word {
                byte.to_ascii_uppercase()
            } else {
                byte
            });
            begins_word = byte == b'-';
        }
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests;
