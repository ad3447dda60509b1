//! One attempt: request, answer, stream, and what its end means.

use std::time::Duration;

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
        let printed = self.printer.printed();
        let why = match self.read(response.into_body()).await {
            Ok(why) => why,
            Err(ended) => return ended,
        };
        if self.printer.printed() > printed || began.elapsed() >= HEALTHY_AFTER {
            return Ended::Healthy(why);
        }
        // A soft refusal, for one: `retry:` and the end.
        Ended::Failed {
            why: format!("{why} before it brought an event"),
            retry_after: None,
        }
    }

    /// Reads to the end of the stream and says why it ended.
    async fn read(&mut self, mut body: Incoming) -> Result<String, Ended> {
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
                None => return Ok("the stream ended".into()),
                Some(Err(error)) => return Ok(format!("the stream broke: {error}")),
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else {
                        continue;
                    };
                    self.take(&mut parser, &bytes)?;
                }
            }
        }
    }

    fn take(&mut self, parser: &mut Parser, bytes: &Bytes) -> Result<(), Ended> {
        let mut items = vec![];
        let parsed = parser.push_items(bytes, &mut |item| items.push(item));
        for item in items {
            match item {
                Item::Comment(_) => {}
                Item::Retry(millis) => self.retry = Some(Duration::from_millis(millis)),
                Item::Event(event) => {
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
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
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
