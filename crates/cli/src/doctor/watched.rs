//! An open stream, with the times at which things came.

use std::collections::VecDeque;
use std::time::Duration;

use gush_sse::{Item, Parser};
use http::{HeaderMap, Response, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use super::{Doctor, HEAD_WAIT};
use crate::failure::Failure;

/// Largest event taken; the test events have some forty bytes.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// What browsers accept, and what a proxy needs to see before it compresses.
pub(super) const BROWSER_ENCODINGS: &str = "gzip, deflate, br, zstd";

/// A stream that was answered with 200.
pub(super) struct Watched {
    token: Option<String>,
    opened: Instant,
    head_after: Duration,
    version: Version,
    headers: HeaderMap,
    body: Incoming,
    parser: Parser,
    waiting: VecDeque<Item>,
    last_byte: Instant,
    end: Option<End>,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// As HTTP ends an answer.
    Regular,
    /// In the middle of it.
    Broken(String),
}

/// What came next.
#[derive(Debug)]
pub(super) enum Seen {
    Item(Item),
    /// Nothing until the time that was given.
    Silence,
    End(End),
}

/// What a subscribe brought.
pub(super) enum Answer {
    Stream(Box<Watched>),
    /// Another status.
    Refused(Box<Response<Incoming>>),
    /// No head within [`HEAD_WAIT`].
    Nothing,
}

impl Watched {
    /// Subscribes on a connection of its own. Fails when no connection can be made.
    pub(super) async fn open(
        doctor: &Doctor,
        token: Option<&str>,
        cursor: Option<&str>,
        encodings: &'static str,
    ) -> Result<Answer, Failure> {
        let mut headers = doctor.stream_headers(token, encodings)?;
        if let Some(cursor) = cursor.and_then(|id| header::HeaderValue::from_str(id).ok()) {
            headers.insert("last-event-id", cursor);
        }
        let client = doctor.client();
        let opened = Instant::now();
        let query = [("topic", doctor.topic.as_str())];
        let asked = client.get(&query, headers);
        let response = match timeout_at(opened + HEAD_WAIT, asked).await {
            Ok(Ok(response)) => response,
            Ok(Err(why)) => return Err(Failure::Failed(why)),
            Err(_) => return Ok(Answer::Nothing),
        };
        if response.status() != http::StatusCode::OK {
            return Ok(Answer::Refused(Box::new(response)));
        }
        let version = response.version();
        let (parts, body) = response.into_parts();
        Ok(Answer::Stream(Box::new(Self {
            token: token.map(str::to_owned),
            opened,
            head_after: opened.elapsed(),
            version,
            headers: parts.headers,
            body,
            parser: Parser::new(EVENT_BYTES_MAX),
            waiting: VecDeque::new(),
            last_byte: Instant::now(),
            end: None,
        })))
    }

    /// The token it was opened with.
    pub(super) fn token(&self) -> Option<&String> {
        self.token.as_ref()
    }

    pub(super) fn head_after(&self) -> Duration {
        self.head_after
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Since the request was sent.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// When the last byte came, or else the head.
    pub(super) fn last_byte(&self) -> Instant {
        self.last_byte
    }

    /// Waits for the next item, until `until`.
    pub(super) async fn next(&mut self, until: Instant) -> Seen {
        loop {
            if let Some(item) = self.waiting.pop_front() {
                return Seen::Item(item);
            }
            if let Some(end) = &self.end {
                return Seen::End(end.clone());
            }
            match timeout_at(until, self.body.frame()).await {
                Err(_) => return Seen::Silence,
                Ok(None) => self.end = Some(End::Regular),
                Ok(Some(Err(error))) => self.end = Some(End::Broken(error.to_string())),
                Ok(Some(Ok(frame))) => {
                    self.last_byte = Instant::now();
                    let Ok(bytes) = frame.into_data() else {
                        continue;
                    };
                    let waiting = &mut self.waiting;
                    let parsed = self
                        .parser
                        .push_items(&bytes, &mut |item| waiting.push_back(item));
                    if let Err(error) = parsed {
                        self.end = Some(End::Broken(error.to_string()));
                    }
                }
            }
        }
    }
}
