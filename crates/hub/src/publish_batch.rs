//! A publish of many events: a body with a JSON object on each line, answered line by line.
//!
//! The answer's body drives the whole of it. Asked for bytes, it first hands out what the log has
//! decided, in the order of the lines, then takes more of the request, as long as not too many
//! events are under way. So a publisher that does not read its answers is not read either, and
//! memory is bounded whatever the length of the request.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gush_log::{AppendError, Draft, Position};
use gush_sse::EventId;
use http::HeaderMap;
use http::request::Parts;
use hyper::body::{Body as _, Frame, Incoming};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::accept::IDLE_MAX;
use crate::admit::{InFlight, Publisher, Rejection};
use crate::hub::Hub;
use crate::peer::Peer;
use crate::policy::Policy;
use crate::publish::{self, admit_head, check_draft};
use crate::publish_line::line_draft;
use crate::token::Claims;
use crate::transport::Stage;

#[cfg(test)]
#[path = "publish_batch/tests.rs"]
pub(crate) mod tests;

/// Events that may be under way between request and log before no more of the request is read.
/// Ours: two of the largest batches that the disk log syncs at once.
const UNDER_WAY_EVENTS_MAX: usize = 8 * 1024;

/// Bytes of lines, likewise.
const UNDER_WAY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most events of one append. Ours: the tail and the shards get them in one piece.
const APPEND_EVENTS_MAX: usize = 1024;

/// Bytes of answers after which a part goes out.
const ANSWER_BYTES: usize = 64 * 1024;

/// Begins a batch: its publisher is admitted, its lines are read as its answer is.
///
/// # Errors
///
/// 401 by the token, 415 for a coded body; nothing has been read then.
pub(crate) async fn begin(
    hub: &Arc<Hub>,
    head: &Parts,
    body: Incoming,
) -> Result<BatchBody, Rejection> {
    let publisher = Arc::new(BatchPublisher {
        peer: Peer::of_request(head),
        headers: head.headers.clone(),
        query: head.uri.query().unwrap_or("").to_owned(),
    });
    let admitted = match publisher.admit(hub).await {
        Ok(admitted) => admitted,
        Err(rejection) => {
            publish::discard_unless_expected(head, body);
            return Err(rejection);
        }
    };
    let stopped = head.extensions.get::<watch::Receiver<bool>>().cloned();
    Ok(BatchBody {
        hub: Arc::clone(hub),
        publisher,
        admitted,
        admission: None,
        line_number: 1,
        stage: head.extensions.get().cloned(),
        body: Some(body),
        begun: Vec::new(),
        lines: Vec::new(),
        drafts: Vec::new(),
        in_flight: Vec::new(),
        appends: VecDeque::new(),
        events: 0,
        bytes: 0,
        last_words: None,
        deadline: Instant::now() + IDLE_MAX,
        timer: Box::pin(sleep_until(Instant::now() + IDLE_MAX)),
        stopped: Box::pin(async move {
            match stopped {
                // An error means that nobody can stop it any more.
                Some(mut stopped) => drop(stopped.wait_for(|stop| *stop).await),
                None => std::future::pending().await,
            }
        }),
    })
}

/// Who publishes: what the token is found in, each time anew.
struct BatchPublisher {
    peer: Peer,
    headers: HeaderMap,
    query: String,
}

/// What holds for the lines of the second in which it was decided. A batch may last for hours, and
/// its token may expire or its key be taken away meanwhile.
struct Admitted {
    at_unix: u64,
    policy: Arc<Policy>,
    claims: Arc<Claims>,
    line_bytes_max: usize,
    line_patience: Duration,
}

type Admission = Pin<Box<dyn Future<Output = Result<Admitted, Rejection>> + Send>>;

impl BatchPublisher {
    async fn admit(&self, hub: &Hub) -> Result<Admitted, Rejection> {
        let at_unix = hub.now_unix();
        let policy = hub.policy.load_full();
        let claims = admit_head(hub, &policy, &self.headers, &self.query).await?;
        Ok(Admitted {
            at_unix,
            claims,
            line_bytes_max: policy.settings.max_body,
            line_patience: policy.settings.body_timeout,
            policy,
        })
    }
}

/// The answer to a batch, and the batch itself.
pub struct BatchBody {
    hub: Arc<Hub>,
    publisher: Arc<BatchPublisher>,
    admitted: Admitted,
    /// Under way while another second has begun.
    admission: Option<Admission>,
    /// Of the line that is read, counted from 1, blank ones too.
    line_number: u64,
    /// Of an HTTP/1.1 connection.
    stage: Option<Arc<Stage>>,
    /// `None` once no more is read.
    body: Option<Incoming>,
    /// A line that has not come to its end.
    begun: Vec<u8>,
    /// Read, not yet given to the log.
    lines: Vec<Numbered>,
    drafts: Vec<Draft>,
    /// What the drafts hold of their publisher's share.
    in_flight: Vec<InFlight>,
    /// Given to the log, in order.
    appends: VecDeque<Append>,
    /// Lines and their bytes in `lines` and `appends`.
    events: usize,
    bytes: usize,
    /// Why the request ends before its end, and at which line.
    last_words: Option<(Rejection, u64)>,
    /// When what is waited for has to be there. The timer may come earlier.
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What a line came to.
enum Line {
    /// The next event of the append; with its own id, if it has one.
    Event(Option<EventId>),
    Refused(Box<Rejection>),
}

/// A line and its number in the request.
struct Numbered {
    number: u64,
    line: Line,
}

/// Lines whose events the log has.
struct Append {
    lines: Vec<Numbered>,
    outcomes: oneshot::Receiver<Vec<Result<Position, AppendError>>>,
    bytes: usize,
    started_at: Instant,
}

impl BatchBody {
    /// The next part of the answer; see [`hyper::body::Body::poll_frame`].
    pub(crate) fn poll_part(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            let mut out = Vec::new();
            self.write_decided(context, &mut out);
            if !out.is_empty() {
                return Poll::Ready(Some(Frame::data(out.into())));
            }
            if self.body.is_none() {
                if !self.appends.is_empty() {
                    return Poll::Pending;
                }
                let Some((rejection, number)) = self.last_words.take() else {
                    return Poll::Ready(None);
                };
                write_refusal(&rejection, number, &mut out);
                self.hub.metrics.refused(rejection.status, false);
                return Poll::Ready(Some(Frame::data(out.into())));
            }
            if self.stopped.as_mut().poll(context).is_ready() {
                self.end(publish::log_gone());
                continue;
            }
            let admitted = match self.poll_admission(context) {
                Poll::Ready(Err(rejection)) => {
                    self.end(rejection);
                    continue;
                }
                admitted => admitted.is_ready(),
            };
            let is_full = self.events >= UNDER_WAY_EVENTS_MAX || self.bytes >= UNDER_WAY_BYTES_MAX;
            if (!admitted || is_full || self.poll_read(context).is_pending())
                && self.poll_end(context).is_pending()
            {
                return Poll::Pending;
            }
        }
    }

    /// Answers what the log has decided, in the order of the lines.
    fn write_decided(&mut self, context: &mut Context<'_>, out: &mut Vec<u8>) {
        while out.len() < ANSWER_BYTES
            && let Some(append) = self.appends.front_mut()
        {
            let Poll::Ready(outcomes) = Pin::new(&mut append.outcomes).poll(context) else {
                return;
            };
            let Some(append) = self.appends.pop_front() else {
                return;
            };
            self.events -= append.lines.len();
            self.bytes -= append.bytes;
            let mut outcomes = outcomes.unwrap_or_default().into_iter();
            let mut stored = 0;
            out.reserve(append.lines.len() * 64);
            for Numbered { number, line } in append.lines {
                let rejection = match line {
                    Line::Refused(rejection) => *rejection,
                    Line::Event(own) => match outcomes.next() {
                        Some(Ok(position)) => {
                            stored += 1;
                            write_id(position, own.as_ref(), out);
                            continue;
                        }
                        Some(Err(error)) => publish::not_appended(&self.hub, &error),
                        None => publish::log_gone(),
                    },
                };
                self.hub.metrics.refused(rejection.status, false);
                write_refusal(&rejection, number, out);
            }
            let took = append.started_at.elapsed();
            self.hub.metrics.published_in(stored, took);
        }
    }

    /// Whether the next lines may be read: asked again once a second.
    fn poll_admission(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        if self.admission.is_none() && self.admitted.at_unix == self.hub.now_unix() {
            return Poll::Ready(Ok(()));
        }
        let admission = self.admission.get_or_insert_with(|| {
            let (publisher, hub) = (Arc::clone(&self.publisher), Arc::clone(&self.hub));
            Box::pin(async move { publisher.admit(&hub).await })
        });
        let admitted = std::task::ready!(admission.as_mut().poll(context));
        self.admission = None;
        self.admitted = admitted?;
        Poll::Ready(Ok(()))
    }

    /// Takes the next part of the request.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(body) = &mut self.body else {
            return Poll::Pending;
        };
        match std::task::ready!(Pin::new(body).poll_frame(context)) {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.take(&data);
                }
            }
            Some(Err(_)) => {
                // Nobody is left to read the answers. What came whole is published.
                self.body = None;
                self.begun.clear();
            }
            None => {
                self.body = None;
                if let Some(stage) = &self.stage {
                    stage.body_read();
                }
                // The last line needs no end.
                let line = std::mem::take(&mut self.begun);
                self.take_line(&line);
                self.launch();
            }
        }
        Poll::Ready(())
    }

    /// Whether the request ends here, after too long a silence.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            if Instant::now() < self.deadline {
                self.timer.as_mut().reset(self.deadline);
            } else if self.events > 0 {
                // It is the log that is waited for, or the publisher's reading.
                self.deadline = Instant::now() + IDLE_MAX;
            } else {
                let text = "no line came for too long; empty lines keep a request open";
                self.end(if self.begun.is_empty() {
                    Rejection::bad_request(text)
                } else {
                    publish::body_too_slow()
                });
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Splits what came into lines.
    fn take(&mut self, data: &[u8]) {
        let had_begun = !self.begun.is_empty();
        let mut rest = data;
        while let Some(at) = memchr::memchr(b'\n', rest) {
            let (line, after) = (&rest[..at], &rest[at + 1..]);
            rest = after;
            if self.begun.is_empty() {
                self.take_line(line);
            } else {
                self.begun.extend_from_slice(line);
                let line = std::mem::take(&mut self.begun);
                self.take_line(&line);
            }
            if self.body.is_none() {
                return;
            }
        }
        self.begun.extend_from_slice(rest);
        if self.begun.len() > self.admitted.line_bytes_max {
            return self.end_at_long_line();
        }
        self.launch();
        let is_same_line = had_begun && rest.len() == data.len();
        if !is_same_line {
            let patience = if self.begun.is_empty() {
                IDLE_MAX
            } else {
                self.admitted.line_patience
            };
            self.deadline = Instant::now() + patience;
            if self.timer.deadline() > self.deadline {
                self.timer.as_mut().reset(self.deadline);
            }
        }
    }

    fn take_line(&mut self, line: &[u8]) {
        if line.len() > self.admitted.line_bytes_max {
            return self.end_at_long_line();
        }
        let number = self.line_number;
        self.line_number += 1;
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        let checked = line_draft(line).and_then(|draft| {
            let publisher = Publisher {
                policy: &self.admitted.policy,
                claims: &self.admitted.claims,
                peer: self.publisher.peer,
                headers: &self.publisher.headers,
            };
            let in_flight = check_draft(&self.hub, &publisher, &draft)?;
            Ok((draft, in_flight))
        });
        self.events += 1;
        self.bytes += line.len();
        let line = match checked {
            Ok((draft, in_flight)) => {
                let own = draft.id.clone();
                self.drafts.push(draft);
                self.in_flight.push(in_flight);
                Line::Event(own)
            }
            Err(rejection) => Line::Refused(Box::new(rejection)),
        };
        self.lines.push(Numbered { number, line });
        if self.lines.len() >= APPEND_EVENTS_MAX {
            self.launch();
        }
    }

    /// Gives the lines read so far to the log.
    fn launch(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        let bytes: usize = self.appends.iter().map(|append| append.bytes).sum();
        let drafts = std::mem::take(&mut self.drafts);
        let in_flight = std::mem::take(&mut self.in_flight);
        self.appends.push_back(Append {
            lines,
            bytes: self.bytes - bytes,
            started_at: Instant::now(),
            outcomes: publish::start_batch(&self.hub, drafts, in_flight),
        });
    }

    fn end_at_long_line(&mut self) {
        let most = self.admitted.line_bytes_max;
        self.end(Rejection::bad_request(format!(
            "the line is larger than {most} bytes"
        )));
    }

    /// Reads no more. What came before is still answered, then this.
    fn end(&mut self, rejection: Rejection) {
        self.begun = Vec::new();
        self.launch();
        self.last_words = Some((rejection, self.line_number));
        if let Some(body) = self.body.take() {
            publish::discard(body);
        }
    }
}

impl fmt::Debug for BatchBody {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("BatchBody")
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

fn write_id(position: Position, own: Option<&EventId>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    match own {
        None => {
            out.push(b'"');
            out.extend_from_slice(&position.id_bytes());
            out.push(b'"');
        }
        Some(own) => write_json(own.as_str(), out),
    }
    out.extend_from_slice(b"}\n");
}

fn write_refusal(rejection: &Rejection, number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"error\":");
    write_json(&rejection.text, out);
    let status = rejection.status.as_u16();
    writeln!(out, ",\"status\":{status},\"line\":{number}}}")
        .expect("memory takes what is written");
}

fn write_json(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a text is JSON, memory takes it");
}
