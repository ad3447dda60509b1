//! Plain publishes on a connection, one after the other, without hyper: whole requests are taken
//! out of one buffer, appended together, and answered in one write.
//!
//! The rules and the texts are those of `publish.rs` and `answer.rs`; only reading a request and
//! writing an answer are done anew. Whatever is not plain (see [`parse_publish`]) goes to hyper,
//! with the bytes that were read, and so does a refused request whose body is still under way.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, BytesMut};
use gush_log::{Appended, Draft};
use gush_middleware::BodyLimit;
use http::HeaderMap;
use http::header::ORIGIN;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::accept::{IDLE_MAX, Listener};
use crate::admit::{InFlight, Publisher, Rejection};
use crate::answer;
use crate::hub::Hub;
use crate::peer::Peer;
use crate::policy::Policy;
use crate::publish;
use crate::refuse::{Asked, refused};
use crate::request::{PlainPublish, parse_publish};
use crate::transport::{Look, Transport, look};
use crate::upgrade::Moving;

/// Most requests taken together: what bounds the answers that wait in memory.
const TOGETHER_MAX: usize = 64;

/// Room made for what is read: some requests of usual size.
const READ_BYTES: usize = 4 * 1024;

/// What comes next on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing: it is over.
    Closed,
    /// Something to look at anew, a plain subscribe as a rule; its head is in the buffer.
    Subscribe,
    /// Something for hyper; its first bytes are in the buffer.
    Other,
    /// The connection can go to a new process.
    Moved,
}

/// Serves plain publishes until something else comes. `bytes` begin with the head of one.
pub(crate) async fn serve(
    (hub, peer): (&Arc<Hub>, Peer),
    transport: &mut Transport,
    bytes: &mut BytesMut,
    listener: &Listener,
) -> io::Result<Left> {
    let (mut stop, mut moving) = (listener.stop.clone(), listener.moving.clone());
    let mut stopped = std::pin::pin!(stop.wait_for(|stop| *stop));
    let mut moved = std::pin::pin!(moving.wait_for(|moving| *moving == Moving::Gone));
    let can_go = matches!(transport, Transport::Plain(_));
    let mut connection = Connection::new(hub, peer);
    // One timer for the whole connection: it is set anew only where a deadline is nearer.
    let mut timer = std::pin::pin!(sleep_until(Instant::now() + IDLE_MAX));
    // What has begun by then comes to its end, if it does so soon.
    let mut is_last = false;
    loop {
        let need = connection.answer_all(bytes).await;
        if !connection.out.is_empty() {
            write_in_time(hub, transport, &mut connection.out).await?;
        }
        let need = match need {
            Need::Nothing(left) => return Ok(left),
            Need::Again => continue,
            Need::Request if is_last => return Ok(Left::Closed),
            need => need,
        };
        connection.await_more(need, timer.as_mut());
        bytes.reserve(READ_BYTES);
        let read = loop {
            tokio::select! {
                biased;
                _ = &mut moved, if can_go => return Ok(Left::Moved),
                read = transport.read_buf(bytes) => break Some(read?),
                () = timer.as_mut() => {
                    if connection.is_late(timer.as_mut()) {
                        break None;
                    }
                }
                _ = &mut stopped, if !is_last => {
                    if need == Need::Request {
                        return Ok(Left::Closed);
                    }
                    is_last = true;
                }
            }
        };
        match read {
            Some(0) if bytes.is_empty() => return Ok(Left::Closed),
            // Half a request: hyper knows what to say.
            Some(0) => return Ok(Left::Other),
            Some(_) => {}
            None if need == Need::Body => {
                connection.refuse_late_body();
                transport.write_all(&connection.out).await?;
                transport.shutdown().await?;
                return Ok(Left::Closed);
            }
            None => return Ok(Left::Closed),
        }
    }
}

/// Writes the answers. A publisher that does not read them must not keep its task, nor a drain.
async fn write_in_time(hub: &Hub, transport: &mut Transport, out: &mut Vec<u8>) -> io::Result<()> {
    let mut writing = std::pin::pin!(write_out(transport, out));
    // Nearly always they go at once, and no timer has to be made.
    let begun = poll_fn(|context| Poll::Ready(writing.as_mut().poll(context)));
    if let Poll::Ready(written) = begun.await {
        return written;
    }
    let patience = hub.policy.load().settings.body_timeout;
    timeout(patience, writing).await?
}

async fn write_out(transport: &mut Transport, out: &mut Vec<u8>) -> io::Result<()> {
    transport.write_all(out).await?;
    transport.flush().await?;
    out.clear();
    Ok(())
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// The next request.
    Request,
    /// The rest of a head.
    Head,
    /// The rest of a body whose head may publish.
    Body,
    /// More requests are there.
    Again,
    /// Somebody else's turn.
    Nothing(Left),
}

/// The state of a connection between its requests.
struct Connection<'h> {
    hub: &'h Arc<Hub>,
    peer: Peer,
    need: Need,
    deadline: Instant,
    /// Of the request at hand, kept for its capacity.
    headers: HeaderMap,
    /// The begin of a usual answer, and what it was made from.
    head: Vec<u8>,
    made_from: Option<(Arc<Policy>, u64)>,
    /// Of the requests that are answered together; empty between two reads.
    turns: Vec<Turn>,
    drafts: Vec<Draft>,
    /// What the drafts hold, if anything limits their publishers.
    in_flight: Vec<InFlight>,
    outcomes: Vec<Result<Appended, Rejection>>,
    out: Vec<u8>,
}

impl<'h> Connection<'h> {
    fn new(hub: &'h Arc<Hub>, peer: Peer) -> Self {
        Self {
            hub,
            peer,
            need: Need::Request,
            deadline: Instant::now(),
            headers: HeaderMap::new(),
            head: Vec::new(),
            made_from: None,
            turns: Vec::new(),
            drafts: Vec::new(),
            in_flight: Vec::new(),
            outcomes: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Takes whole requests out of `bytes`, appends what they publish and writes the answers to
    /// `out`, in order. Says what is missing then.
    async fn answer_all(&mut self, bytes: &mut BytesMut) -> Need {
        let policy = self.hub.policy.load_full();
        self.renew_head(&policy);
        let started_at = Instant::now();
        let mut taken = 0;
        let need = loop {
            if self.turns.len() == TOGETHER_MAX {
                break Need::Again;
            }
            let rest = &bytes[taken..];
            let request = match begin(rest, &mut self.headers) {
                Ok(request) => request,
                Err(need) => break need,
            };
            let limit = BodyLimit::new(policy.settings.max_body as u64);
            if limit.check_length(request.body_bytes as u64).is_err() {
                break Need::Nothing(Left::Other);
            }
            let claims = publish::admit_head(self.hub, &policy, &self.headers, request.query).await;
            let whole_bytes = request.head_bytes + request.body_bytes;
            let Some(body) = rest.get(request.head_bytes..whole_bytes) else {
                break match claims {
                    Ok(_) => Need::Body,
                    // The rest has to be read and thrown away before the answer is seen.
                    Err(_) => Need::Nothing(Left::Other),
                };
            };
            taken += whole_bytes;
            let draft = claims.and_then(|claims| {
                let publisher = Publisher {
                    policy: &policy,
                    claims: &claims,
                    peer: self.peer,
                    headers: &self.headers,
                };
                publish::draft(self.hub, &publisher, body)
            });
            self.turns.push(match draft {
                Ok((draft, in_flight)) => {
                    self.drafts.push(draft);
                    self.in_flight.push(in_flight);
                    let has_origin = self.headers.contains_key(ORIGIN);
                    Turn::Accepted(has_origin.then(|| self.headers.clone()))
                }
                Err(rejection) => {
                    Turn::Refused(refused(self.hub, &self.headers, &rejection, Asked::Other))
                }
            });
        };
        if taken > 0 {
            // Requests came in whole: what is half there now has its own time.
            self.need = Need::Again;
        }
        bytes.advance(taken);
        self.append_all().await;
        self.write_turns(started_at);
        need
    }

    /// Appends all drafts; an outcome for each.
    async fn append_all(&mut self) {
        let hub = self.hub;
        if self.drafts.len() <= 1 {
            if let Some((draft, in_flight)) = self.drafts.pop().zip(self.in_flight.pop()) {
                self.outcomes
                    .push(publish::append(hub, draft, in_flight).await);
            }
            return;
        }
        let own_ids: Vec<_> = self.drafts.iter().map(|draft| draft.id.clone()).collect();
        let drafts = std::mem::take(&mut self.drafts);
        let in_flight = std::mem::take(&mut self.in_flight);
        // Without an answer there are no outcomes, and each request is told that the log is gone.
        let decided = publish::start_batch(hub, drafts, in_flight).await;
        let decided = decided.unwrap_or_default().into_iter();
        let answered = decided.zip(own_ids).map(|(outcome, own_id)| {
            let appended = outcome.map(|position| Appended { position, own_id });
            appended.map_err(|error| publish::not_appended(hub, &error))
        });
        self.outcomes.extend(answered);
    }

    fn write_turns(&mut self, started_at: Instant) {
        let (hub, out) = (self.hub, &mut self.out);
        let mut outcomes = self.outcomes.drain(..);
        for turn in self.turns.drain(..) {
            let headers = match turn {
                Turn::Refused(answer) => {
                    answer::write_whole(answer, false, out);
                    continue;
                }
                Turn::Accepted(headers) => headers,
            };
            let outcome = outcomes.next();
            let outcome = outcome.unwrap_or_else(|| Err(publish::log_gone()));
            if outcome.is_ok() {
                hub.metrics.published_in(1, started_at.elapsed());
            }
            let answer = match (outcome, headers) {
                (Ok(appended), None) => {
                    out.extend_from_slice(&self.head);
                    let id = appended.id();
                    write!(out, "Content-Length: {}\r\n\r\n{id}", id.len())
                        .expect("memory takes what is written");
                    continue;
                }
                (Ok(appended), Some(headers)) => answer::published(hub, &headers, &appended),
                (Err(rejection), headers) => {
                    refused(hub, &headers.unwrap_or_default(), &rejection, Asked::Other)
                }
            };
            answer::write_whole(answer, false, out);
        }
    }

    /// The begin of usual answers holds the date and what the policy adds.
    fn renew_head(&mut self, policy: &Arc<Policy>) {
        let second = self.hub.now_unix();
        let is_fresh = self
            .made_from
            .as_ref()
            .is_some_and(|(of, at)| Arc::ptr_eq(of, policy) && *at == second);
        if !is_fresh {
            self.head = answer::published_head(self.hub);
            self.made_from = Some((Arc::clone(policy), second));
        }
    }

    fn refuse_late_body(&mut self) {
        let rejection = publish::body_too_slow();
        let answer = refused(self.hub, &self.headers, &rejection, Asked::Other);
        answer::write_whole(answer, true, &mut self.out);
    }

    /// Sets the deadline for what is missing. The timer stays where it is unless it would come too
    /// late: one that comes too early is set again.
    fn await_more(&mut self, need: Need, timer: Pin<&mut Sleep>) {
        if need == Need::Request || need != self.need {
            let policy = self.hub.policy.load();
            let patience = match need {
                Need::Head => policy.settings.head_timeout,
                Need::Body => policy.settings.body_timeout,
                _ => IDLE_MAX,
            };
            self.deadline = Instant::now() + patience;
        }
        self.need = need;
        if timer.deadline() > self.deadline {
            timer.reset(self.deadline);
        }
    }

    /// Whether the deadline has passed, now that the timer has fired.
    fn is_late(&self, timer: Pin<&mut Sleep>) -> bool {
        if Instant::now() >= self.deadline {
            return true;
        }
        timer.reset(self.deadline);
        false
    }
}

/// What one request gets.
enum Turn {
    /// The id of the next event; with the headers if the answer depends on them.
    Accepted(Option<HeaderMap>),
    Refused(answer::Answer),
}

/// The plain publish that begins in `rest`, or what is needed first.
fn begin<'b>(rest: &'b [u8], headers: &mut HeaderMap) -> Result<PlainPublish<'b>, Need> {
    if rest.is_empty() {
        return Err(Need::Request);
    }
    parse_publish(rest, headers).ok_or_else(|| match look(rest) {
        Look::More => Need::Head,
        Look::Subscribe | Look::Unclear => Need::Nothing(Left::Subscribe),
        Look::Publish | Look::Other => Need::Nothing(Left::Other),
    })
}
