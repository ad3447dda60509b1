//! `gush pub --ndjson`: many events, a JSON object on each line; prints the hub's answers.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, value_parser};
use http::HeaderMap;
use http_body_util::BodyExt;

use crate::client::{self, HubClient, headers, refusal};
use crate::credentials::{Credentials, Role};
use crate::failure::Failure;

/// Most bytes read at a time: what came is sent at once, so a slow pipe loses no time.
const READ_BYTES: usize = 1024 * 1024;

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
            "json",
        ])
        .help("Publish an event for each line of this file, a JSON object; - is stdin")
        .long_help(
            "Publish an event for each line of this file; - is stdin. A line is a JSON object: \
             topic (a string or an array of strings), data, id, type, retry, private. Prints a \
             line for each: {\"id\": …} or {\"error\": …, \"status\": …}. Ends with 1 when any \
             was refused.",
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
    if path.as_os_str() == "-" {
        let input = BufReader::with_capacity(READ_BYTES, std::io::stdin());
        return runtime.block_on(publish(&hub, &headers, input));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let input = BufReader::with_capacity(READ_BYTES, file);
    runtime.block_on(publish(&hub, &headers, input))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("--ndjson {}: {error}", path.display()))
}

/// Sends what is there up to its last line end, then what came meanwhile.
async fn publish(
    hub: &HubClient,
    headers: &HeaderMap,
    mut input: impl BufRead,
) -> Result<(), Failure> {
    let mut begun = Vec::new();
    let mut refused = 0;
    loop {
        let read = input
            .fill_buf()
            .map_err(|error| unreadable(Path::new("-"), &error))?;
        let bytes = read.len();
        let end = read.iter().rposition(|&byte| byte == b'\n');
        let (whole, rest) = read.split_at(end.map_or(0, |at| at + 1));
        let mut lines = Vec::new();
        if bytes == 0 || !whole.is_empty() {
            lines = std::mem::take(&mut begun);
            lines.extend_from_slice(whole);
        }
        begun.extend_from_slice(rest);
        input.consume(bytes);
        if !lines.is_empty() {
            refused += send(hub, headers, lines).await?;
        }
        if bytes == 0 {
            break;
        }
    }
    if refused > 0 {
        return Err(Failure::Failed(format!("{refused} lines were refused")));
    }
    Ok(())
}

/// Publishes lines and prints their answers; how many were refused.
async fn send(hub: &HubClient, headers: &HeaderMap, lines: Vec<u8>) -> Result<usize, Failure> {
    let response = hub
        .post_lines(lines, headers.clone())
        .await
        .map_err(|e| Failure::Failed(format!("{e} (see --hub)")))?;
    let status = response.status();
    if !status.is_success() {
        let body = client::text(response).await.map_err(Failure::Failed)?;
        return Err(Failure::Failed(refusal(status, &body)));
    }
    let mut body = response.into_body();
    let mut answers = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Failed(error.to_string()))?;
        answers.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    }
    std::io::stdout()
        .write_all(&answers)
        .map_err(|error| Failure::Failed(format!("stdout: {error}")))?;
    let is_refusal = |line: &&[u8]| line.starts_with(b"{\"error\"");
    Ok(answers.split(|&b| b == b'\n').filter(is_refusal).count())
}
