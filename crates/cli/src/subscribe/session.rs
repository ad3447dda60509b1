//! One attempt: request, answer, stream, and what its end means.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gush_sse::{Item, Parser};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::show::Printer;
use crate::client::{self, HubClient, headers, refusal};
use crate::credentials::{Credentials, Role};
use crate::failure::{Failure, note};

/// Largest event taken; above the largest body any hub takes by default (10 MiB), encoded.
const EVENT_BYTES_MAX: usize = 64 << 20;
/// A stream that lived this long, or brought an event, was a good one.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
const LAST_EVENT_ID: &str = "last-event-id";

/// How an attempt ended.
pub(super) enum Ended {
    /// Nothing more to do.
    Done,
    /// Another attempt would not help.
    Final(Failure),
    /// After a good spell.
    Healthy(String),
    /// Without one.
    Failed {
        why: String,
        /// The hub's wish.
        retry_after: Option<Duration>,
    },
}

/// What an attempt's stream held so far.
#[derive(Debug, Default)]
struct Heard {
    events: u64,
    comments: u64,
    retries: u64,
    /// It ended as it should, and was not cut.
    is_whole: bool,
}

impl Heard {
    /// A delay and the end. Streams begin with a comment.
    const fn is_soft_refusal(&self) -> bool {
        self.is_whole && self.retries > 0 && self.comments == 0 && self.events == 0
    }
}

/// What survives from attempt to attempt.
pub(super) struct Session {
    pub(super) hub: HubClient,
    pub(super) credentials: Credentials,
    pub(super) matchers: Vec<String>,
    pub(super) wants_gap: bool,
    /// Longest silence of a stream; `None` = any.
    pub(super) idle_timeout: Option<Duration>,
    /// Where the next attempt resumes.
    pub(super) last_event_id: Option<String>,
    /// The hub's `retry:`.
    pub(super) retry: Option<Duration>,
    pub(super) printer: Printer,
}

impl Session {
    pub(super) async fn attempt(&mut self) -> Ended {
        let headers = match self.request_headers() {
            Ok(headers) => headers,
            Err(failure) => return Ended::Final(failure),
        };
        let mut query: Vec<(&str, &str)> = self
            .matchers
            .iter()
            .map(|matcher| ("topic", matcher.as_str()))
            .collect();
        query.extend(self.wants_gap.then_some(("gush_gap", "1")));
        let response = match self.hub.get(&query, headers).await {
            Ok(response) => response,
            Err(why) => {
                return Ended::Failed {
                    why,
                    retry_after: None,
                };
            }
        };
        match response.status() {
            StatusCode::OK => self.stream(response).await,
            StatusCode::NO_CONTENT => {
                note("the hub says that there is nothing more (204)");
                Ended::Done
            }
            _ => refused(response).await,
        }
    }

    fn request_headers(&self) -> Result<HeaderMap, Failure> {
        let token = self.credentials.token(Role::Subscriber, &self.matchers)?;
        let mut headers = headers(token.as_deref())?;
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("text/event-stream"),
        );
        if let Some(id) = &self.last_event_id {
            // Bytes, not text: an id may be any UTF-8.
            let value = HeaderValue::from_bytes(id.as_bytes())
                .map_err(|_| Failure::usage("--last-event-id: holds characters that no id has"))?;
            headers.insert(LAST_EVENT_ID, value);
        }
        Ok(headers)
    }

    async fn stream(&mut self, response: Response<Incoming>) -> Ended {
        let kind = response.headers().get(header::CONTENT_TYPE);
        let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if !is_stream {
            let url = self.hub.url();
            let text =
                format!("{url} does not answer with an event stream (is this a hub? see --hub)");
            return Ended::Final(Failure::Failed(text));
        }
        self.compare_cursor(response.headers());
        let began = Instant::now();
        let mut heard = Heard::default();
        let why = match self.read(response.into_body(), &mut heard).await {
            Ok(why) => why,
            Err(ended) => return ended,
        };
        if heard.events > 0 || began.elapsed() >= HEALTHY_AFTER {
            return Ended::Healthy(why);
        }
        Ended::Failed {
            why: if heard.is_soft_refusal() {
                "the hub has no place now (a soft refusal: a delay and the end)".to_owned()
            } else {
                format!("{why} before it brought an event")
            },
            retry_after: None,
        }
    }

    /// Reads to the end of the stream and says why it ended.
    async fn read(&mut self, mut body: Incoming, heard: &mut Heard) -> Result<String, Ended> {
        let mut parser = Parser::new(EVENT_BYTES_MAX);
        loop {
            let frame = match self.idle_timeout {
                None => body.frame().await,
                Some(limit) => match tokio::time::timeout(limit, body.frame()).await {
                    Ok(frame) => frame,
                    Err(_) => {
                        return Ok(format!("the stream was silent for {} s", limit.as_secs()));
                    }
                },
            };
            match frame {
                None => {
                    heard.is_whole = true;
                    return Ok("the stream ended".into());
                }
                Some(Err(error)) => return Ok(format!("the stream broke: {error}")),
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else {
                        continue;
                    };
                    self.take(&mut parser, &bytes, heard)?;
                }
            }
        }
    }

    fn take(&mut self, parser: &mut Parser, bytes: &Bytes, heard: &mut Heard) -> Result<(), Ended> {
        let mut items = vec![];
        let parsed = parser.push_items(bytes, &mut |item| items.push(item));
        for item in items {
            match item {
                Item::Comment(_) => heard.comments += 1,
                Item::Retry(millis) => {
                    heard.retries += 1;
                    self.retry = Some(Duration::from_millis(millis));
                }
                Item::Event(event) => {
                    heard.events += 1;
                    let is_last = self.printer.event(&event).map_err(Ended::Final)?;
                    if !event.id.is_empty() {
                        self.last_event_id = Some(event.id);
                    }
                    if is_last {
                        return Err(Ended::Done);
                    }
                }
            }
        }
        parsed.map_err(|error| Ended::Final(Failure::failed(error)))
    }

    /// The hub answers a cursor with the id it starts behind; another one means that it does not
    /// have ours any more.
    fn compare_cursor(&self, headers: &HeaderMap) {
        let Some(sent) = self.last_event_id.as_deref().filter(|id| *id != "earliest") else {
            return;
        };
        if headers
            .get(LAST_EVENT_ID)
            .is_some_and(|answer| answer.as_bytes() != sent.as_bytes())
        {
            note("the hub does not know the last event id any more: events may be missing here");
        }
    }
}

async fn refused(response: Response<Incoming>) -> Ended {
    let status = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| wish(value.to_str().ok()?, SystemTime::now()));
    let body = client::text(response).await.unwrap_or_default();
    let passes = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    );
    if passes || status.is_server_error() {
        return Ended::Failed {
            why: refusal(status, &body),
            retry_after,
        };
    }
    Ended::Final(Failure::Failed(refusal(status, &body)))
}

/// A `Retry-After`: seconds, or a date; one that has passed means now.
fn wish(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text.trim()).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        assert_eq!(wish("7", now), Some(Duration::from_secs(7)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(wish(date, now), Some(Duration::from_secs(7)));
        let later = now + Duration::from_mins(1);
        assert_eq!(wish(date, later), Some(Duration::ZERO));
        assert_eq!(wish("soon", now), None);
    }
}
