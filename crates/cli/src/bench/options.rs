//! From the command line to the options of the library.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ArgMatches;
use gush_bench::options::{BenchOptions, BodyFormat, Reference};

use super::modes::Mode;
use crate::credentials::variable;
use crate::failure::Failure;

/// The hub's own name for the key, for people who use one shell for both.
pub(super) const KEY_VARIABLE: &str = "GUSH_PUBLISHER_KEY";

/// Reads what a mode was given. Arguments that it does not have keep the library's defaults.
pub(super) fn read(mode: &Mode, matches: &ArgMatches) -> Result<BenchOptions, Failure> {
    let given = Given(matches);
    let defaults = BenchOptions::default();
    let seconds = |name: &str| given.one::<f64>(name).map(duration);
    let is_set = |name: &str| given.one::<bool>(name).unwrap_or(false);
    let url = given.one::<String>("url");
    let subscribe = given.one::<String>("subscribe");
    Ok(BenchOptions {
        is_url_given: url.is_some() || subscribe.is_some(),
        url: url.unwrap_or(defaults.url),
        subscribe,
        publish: given.one("publish"),
        publish_body: given
            .one::<String>("publish-body")
            .as_deref()
            .map_or(Ok(BodyFormat::Form), body_format)?,
        headers: given.all("header"),
        publish_headers: given.all("publish-header"),
        publisher_key: publisher_key(&given)?,
        publisher_token: given.one("publisher-token"),
        subscriber_token: given.one("subscriber-token"),
        pids: given.all("pid"),
        subscribers: given.one("subscribers").unwrap_or(mode.subscribers),
        topics: given.one("topics").unwrap_or(defaults.topics),
        events: given.one("events"),
        duration: seconds("seconds"),
        rate: given.one("rate"),
        window: given.one("window"),
        size: given
            .one::<u32>("size")
            .map_or(defaults.size, |size| size as usize),
        connect_rate: given.one("connect-rate"),
        publishers: given.one("publishers").unwrap_or(defaults.publishers),
        share: given.one("share").unwrap_or(defaults.share),
        threads: given.one::<u16>("threads").map(usize::from),
        patience: seconds("patience").unwrap_or(defaults.patience),
        pin_generator: given.one::<u16>("pin-generator").map(usize::from),
        batch: given.one("batch").unwrap_or(defaults.batch),
        label: given.one("label"),
        resume_at: given.one("resume-at").unwrap_or(defaults.resume_at),
        resume_id: given.one("resume-id"),
        live: given.one("live").unwrap_or(defaults.live),
        idle: given.one("idle").unwrap_or(defaults.idle),
        is_templated: is_set("templates"),
        is_broadcast: is_set("broadcast"),
        serve: given
            .one::<String>("serve")
            .map(|word| match word.as_str() {
                "loop" => Reference::Loop,
                _ => Reference::Sweep,
            }),
        listen: given.one::<SocketAddr>("listen").unwrap_or(defaults.listen),
        pin_server: given.one::<u16>("pin-server").map(usize::from),
        rounds: given.one("rounds").unwrap_or(defaults.rounds),
    })
}

/// A mode knows only some of the arguments; the others were not given.
struct Given<'a>(&'a ArgMatches);

impl Given<'_> {
    fn one<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Option<T> {
        self.0.try_get_one::<T>(name).ok().flatten().cloned()
    }

    fn all<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Vec<T> {
        let values = self.0.try_get_many::<T>(name).ok().flatten();
        values.unwrap_or_default().cloned().collect()
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

fn body_format(text: &str) -> Result<BodyFormat, Failure> {
    match text {
        "form" => Ok(BodyFormat::Form),
        "raw" => Ok(BodyFormat::Raw),
        other => match other.strip_prefix("json:") {
            Some(template) => Ok(BodyFormat::Json(template.to_owned())),
            None => Err(Failure::Usage(format!(
                "--publish-body {other}: form, raw or json:TEMPLATE is needed"
            ))),
        },
    }
}

/// The key as text: from the command line, a file, or the variable that the hub reads, too.
fn publisher_key(given: &Given<'_>) -> Result<Option<String>, Failure> {
    let from_environment = || variable(KEY_VARIABLE);
    // A mode that does not publish has no such argument.
    if given.0.try_get_one::<String>("publisher-key").is_err() {
        return Ok(None);
    }
    let Some(key) = given
        .one::<String>("publisher-key")
        .or_else(from_environment)
    else {
        return Ok(None);
    };
    let Some(path) = key.strip_prefix("file:") else {
        return Ok(Some(key));
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Failed(format!("--publisher-key file:{path}: {error}")))?;
    // As the hub reads it: one line end at the end does not belong to the key.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Some(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}
