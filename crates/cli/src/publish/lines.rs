//! `gush pub --ndjson`: many events, a JSON object on each line; prints the hub's answers.
//!
//! One request, however long the input: a thread reads it, and reads no further than the hub takes
//! it.

use std::convert::Infallible;
use std::fs::File;
use std::future::Future;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use clap::{Arg, ArgMatches, value_parser};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

use crate::client::{self, HubClient, headers, refusal};
use crate::credentials::{Credentials, Role};
use crate::failure::Failure;

/// Most bytes read at a time: what came is sent at once, so a slow pipe loses no time.
const READ_BYTES: usize = 64 * 1024;

/// Most bytes of a line that are kept back until it is whole: the hub waits for the end of a line
/// that has begun no longer than for any other body.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Pieces that may wait for the hub to take them.
const PIECES_MAX: usize = 4;

/// Silence after which a blank line keeps the request open. The hub allows three times as much.
const SILENCE_MAX: Duration = Duration::from_secs(25);

pub(super) fn argument() -> Arg {
    Arg::new("ndjson")
        .long("ndjson")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .conflicts_with_all([
            "topic",
            "data",
            "data-file",
            "id",
            "type",
            "retry",
            "private",
            "latest",
            "latest-key",
            "json",
        ])
        .help("Publish an event for each line of this file, a JSON object; - is stdin")
        .long_help(
            "Publish an event for each line of this file; - is stdin. A line is a JSON object: \
             topic (a string or an array of strings), data, id, type, retry, private. Prints a \
             line for each: {\"id\": …} or {\"error\": …, \"status\": …, \"line\": …}. Ends with 1 \
             when any was refused.",
        )
}

pub(super) fn run(matches: &ArgMatches, path: &Path) -> Result<(), Failure> {
    let hub = HubClient::find(matches)?;
    let all = ["*".to_owned()];
    let token = Credentials::find(matches, Role::Publisher).token(Role::Publisher, &all)?;
    let headers = headers(token.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(Failure::failed)?;
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    // Not one of the runtime's threads: it may wait for input when everything else has ended.
    if path.as_os_str() == "-" {
        std::thread::spawn(move || read_lines(io::stdin().lock(), &sender));
    } else {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let input = BufReader::with_capacity(READ_BYTES, file);
        std::thread::spawn(move || read_lines(input, &sender));
    }
    runtime.block_on(async {
        let end = Arc::new(End::default());
        let lines = Lines {
            pieces,
            silence: Box::pin(sleep(SILENCE_MAX)),
            is_at_border: true,
            end: Arc::clone(&end),
        };
        let refused = publish(&hub, headers, lines).await?;
        if let Some(error) = end.failure.get() {
            return Err(unreadable(path, error));
        }
        let reason = "the hub ended the request before its end; its last answer says why";
        match refused {
            _ if !end.is_reached.load(Ordering::Relaxed) => Err(Failure::Failed(reason.into())),
            0 => Ok(()),
            refused => Err(Failure::Failed(format!("{refused} lines were refused"))),
        }
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("--ndjson {}: {error}", path.display()))
}

/// Hands on what is there up to its last line end, then what came meanwhile.
fn read_lines(mut input: impl BufRead, to: &mpsc::Sender<io::Result<Bytes>>) {
    let mut kept = Vec::new();
    loop {
        let read = match input.fill_buf() {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                // An error means that nobody listens any more, here and below.
                let _ = to.blocking_send(Err(error));
                return;
            }
        };
        let bytes = read.len();
        let border = read.iter().rposition(|&byte| byte == b'\n');
        let (whole, rest) = read.split_at(border.map_or(0, |at| at + 1));
        let mut piece = Vec::new();
        if bytes == 0 || !whole.is_empty() || kept.len() > KEPT_BYTES_MAX {
            piece = std::mem::take(&mut kept);
            piece.extend_from_slice(whole);
        }
        kept.extend_from_slice(rest);
        input.consume(bytes);
        if !piece.is_empty() && to.blocking_send(Ok(piece.into())).is_err() || bytes == 0 {
            return;
        }
    }
}

/// How the input ended, if it has.
#[derive(Default)]
struct End {
    is_reached: AtomicBool,
    failure: OnceLock<io::Error>,
}

/// The body of the request.
struct Lines {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    silence: Pin<Box<Sleep>>,
    /// What was sent ends with a line's end.
    is_at_border: bool,
    end: Arc<End>,
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match self.pieces.poll_recv(context) {
            Poll::Ready(Some(Ok(piece))) => {
                self.is_at_border = piece.ends_with(b"\n");
                piece
            }
            Poll::Ready(ended) => {
                if let Some(Err(error)) = ended {
                    // What was read before is published; the answers are printed first.
                    let _ = self.end.failure.set(error);
                }
                self.end.is_reached.store(true, Ordering::Relaxed);
                return Poll::Ready(None);
            }
            // In the middle of a line it would cut that in two.
            Poll::Pending if !self.is_at_border => return Poll::Pending,
            Poll::Pending => {
                std::task::ready!(self.silence.as_mut().poll(context));
                Bytes::from_static(b"\n")
            }
        };
        let until = Instant::now() + SILENCE_MAX;
        self.silence.as_mut().reset(until);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// Publishes the lines and prints their answers; how many were refused.
async fn publish(
    hub: &HubClient,
    headers: http::HeaderMap,
    lines: Lines,
) -> Result<usize, Failure> {
    let response = hub
        .post_lines(lines, headers)
        .await
        .map_err(|e| Failure::Failed(format!("{e} (see --hub)")))?;
    let status = response.status();
    if !status.is_success() {
        let body = client::text(response).await.map_err(Failure::Failed)?;
        return Err(Failure::Failed(refusal(status, &body)));
    }
    let mut body = response.into_body();
    let mut refusals = Refusals::default();
    let mut stdout = io::stdout().lock();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Failure::Failed(format!(
                "{error}; lines without an answer may be published or not"
            ))
        })?;
        let Some(answers) = frame.data_ref() else {
            continue;
        };
        refusals.count(answers);
        stdout
            .write_all(answers)
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::Failed(format!("stdout: {error}")))?;
    }
    Ok(refusals.count)
}

/// Counts refusals in answers that come in pieces of any size.
#[derive(Default)]
struct Refusals {
    /// The first bytes of the line at hand.
    begin: Vec<u8>,
    count: usize,
}

impl Refusals {
    const BEGIN: &[u8] = b"{\"error\"";

    fn count(&mut self, answers: &[u8]) {
        for &byte in answers {
            if byte == b'\n' {
                self.begin.clear();
            } else if self.begin.len() < Self::BEGIN.len() {
                self.begin.push(byte);
                self.count += usize::from(self.begin == Self::BEGIN);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_across_pieces() {
        let answers = b"{\"id\":\"{error\"}\n{\"error\":\"a\"}\n\n{\"error\":\"b\"}";
        for at in 0..=answers.len() {
            let mut refusals = Refusals::default();
            refusals.count(&answers[..at]);
            refusals.count(&answers[at..]);
            assert_eq!(refusals.count, 2, "split at {at}");
        }
    }

    #[test]
    fn pieces_end_with_their_lines_and_what_is_kept_is_bounded() {
        let long = "x".repeat(3 * KEPT_BYTES_MAX);
        let input = format!("a\nb\n{long}\nlast");
        let (sender, mut pieces) = mpsc::channel(1000);
        read_lines(BufReader::with_capacity(7000, input.as_bytes()), &sender);
        drop(sender);
        let mut whole = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            let piece = piece.expect("memory");
            assert!(piece.len() <= KEPT_BYTES_MAX + 2 * 7000);
            whole.extend_from_slice(&piece);
        }
        assert_eq!(whole, input.as_bytes());
    }
}
