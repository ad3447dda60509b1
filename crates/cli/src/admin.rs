//! Orders to a running hub, on its admin listener.

use std::time::Duration;

use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches};
use http::{Method, Request, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::client::text;
use crate::credentials::variable;
use crate::failure::Failure;

const ADMIN_DEFAULT: &str = "http://127.0.0.1:3001";

/// `--admin`.
pub(crate) fn argument() -> Arg {
    Arg::new("admin")
        .long("admin")
        .value_name("URL")
        .help(format!(
            "The hub's admin listener [env: GUSH_ADMIN] [default: {ADMIN_DEFAULT}]"
        ))
        .help_heading("Hub")
}

/// `--json`.
pub(crate) fn json_argument() -> Arg {
    Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print a JSON object instead of a sentence")
        .help_heading("Output")
}

/// What the hub answered.
pub(crate) struct Told {
    pub(crate) is_done: bool,
    /// `Null` where it was no JSON.
    pub(crate) document: Value,
    pub(crate) text: String,
}

/// Posts an order and waits for the answer.
pub(crate) fn order(
    matches: &ArgMatches,
    path: &str,
    body: &Value,
    patience: Duration,
) -> Result<Told, Failure> {
    let body = body.to_string();
    ask(matches, (Method::POST, path), body, patience)
}

/// Asks how something is.
pub(crate) fn look(matches: &ArgMatches, path: &str, patience: Duration) -> Result<Told, Failure> {
    ask(matches, (Method::GET, path), String::new(), patience)
}

fn ask(
    matches: &ArgMatches,
    (method, path): (Method, &str),
    body: String,
    patience: Duration,
) -> Result<Told, Failure> {
    let given = matches.get_one::<String>("admin").cloned();
    let base = given
        .or_else(|| variable("GUSH_ADMIN"))
        .unwrap_or_else(|| ADMIN_DEFAULT.into());
    let base = if base.contains("://") {
        base
    } else {
        format!("http://{base}")
    };
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let request = Request::builder()
        .method(method)
        .uri(&url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| Failure::usage(format!("--admin {base}: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(async {
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let answered = tokio::time::timeout(patience, client.request(request)).await;
        let response = answered
            .map_err(|_| Failure::failed(format!("{url}: no answer within {patience:?}")))?
            .map_err(|error| {
                Failure::failed(format!(
                    "{url}: {error}; is this the admin listener of a hub? see --admin"
                ))
            })?;
        let is_done = response.status().is_success();
        let text = text(response).await.map_err(Failure::failed)?;
        let document = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Told {
            is_done,
            document,
            text,
        })
    })
}
