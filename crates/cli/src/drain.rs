//! `gush drain`: has a running hub close streams at a steady rate, for balance.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use gush_bench::Progress;
use serde_json::{Map, Value, json};

use crate::admin::{self, Told};
use crate::failure::{Failure, print};

const EXAMPLES: &str = "\
Examples:
  gush drain --rate 200                      close all streams, 200 a second
  gush drain --rate 200 --share 20%          only a fifth of them
  gush drain --rate 50 --count 1000 --admin 10.0.0.7:3001
  gush drain --rate 200 --refuse --wait      empty the hub, and say when it is
  gush drain --status                        how far it is
  gush drain --cancel                        stop, and take new streams again

Without --refuse the hub takes new streams: have the balancer send it fewer first. Streams that
begin after the order are left alone.";

const PATH: &str = "/drain";

/// Time between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(250);

/// The hub answers at once.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    let arguments = [
        option("rate", "N", "Streams to close in a second")
            .value_parser(value_parser!(u64).range(1..=1_000_000)),
        option("count", "N", "Close this many and stop [default: all]")
            .value_parser(value_parser!(u64))
            .requires("rate")
            .conflicts_with("share"),
        option(
            "share",
            "PERCENT",
            "Close this part of the open streams, such as 20%, and stop",
        )
        .value_parser(percent)
        .requires("rate"),
        flag(
            "refuse",
            "Take no new streams until --cancel; /readyz says 503 meanwhile",
        )
        .requires("rate"),
        flag(
            "wait",
            "Wait until it is done; exit code 1 when it was cancelled",
        )
        .requires("rate"),
        flag("status", "Say how far it is"),
        flag("cancel", "Stop closing streams, and take new ones again"),
    ];
    Command::new("drain")
        .about("Close streams of a running hub at a steady rate, for balance")
        .long_about(
            "Close streams of a running hub at a steady rate, for balance.\n\n\
             Each stream ends with its own retry line; its client comes back by the load \
             balancer, with its last event id, and misses nothing. The order is carried out by \
             the hub: this command says what it has begun, and with --wait when it is done. To \
             end a hub, send it SIGTERM.",
        )
        .after_help(EXAMPLES)
        .args(arguments)
        .group(
            ArgGroup::new("what")
                .args(["rate", "status", "cancel"])
                .required(true),
        )
        .arg(admin::argument())
        .arg(admin::json_argument())
}

/// `20%` or `20`.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let share: f64 = number.parse().map_err(|_| "no number of percent")?;
    if share > 0.0 && share <= 100.0 {
        Ok(share)
    } else {
        Err("over 0 and at most 100 percent".into())
    }
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    if matches.get_flag("status") {
        let told = admin::look(matches, PATH, PATIENCE)?;
        return say(matches, &done(told)?, status);
    }
    if matches.get_flag("cancel") {
        let told = admin::order(matches, PATH, &json!({ "cancel": true }), PATIENCE)?;
        return say(matches, &done(told)?, cancelled);
    }
    let mut asked = Map::new();
    for name in ["rate", "count"] {
        if let Some(number) = matches.get_one::<u64>(name) {
            asked.insert(name.into(), json!(number));
        }
    }
    if let Some(share) = matches.get_one::<f64>("share") {
        asked.insert("share".into(), json!(share));
    }
    if matches.get_flag("refuse") {
        asked.insert("refuse".into(), json!(true));
    }
    let told = admin::order(matches, PATH, &Value::Object(asked), PATIENCE)?;
    let begun = done(told)?;
    if !matches.get_flag("wait") {
        return say(matches, &begun, begins);
    }
    if !matches.get_flag("json") {
        print(&begins(&begun))?;
    }
    wait(matches, number(&begun, "closing"))
}

fn done(told: Told) -> Result<Value, Failure> {
    if told.is_done {
        return Ok(told.document);
    }
    Err(Failure::failed(format!("the hub refused: {}", told.text)))
}

fn say(
    matches: &ArgMatches,
    document: &Value,
    sentence: fn(&Value) -> String,
) -> Result<(), Failure> {
    if matches.get_flag("json") {
        return print(&document.to_string());
    }
    print(&sentence(document))
}

fn number(document: &Value, name: &str) -> u64 {
    document[name].as_u64().unwrap_or_default()
}

fn begins(document: &Value) -> String {
    let number = |name| number(document, name);
    let (closing, open, rate) = (number("closing"), number("open"), number("rate"));
    let seconds = closing.div_ceil(rate.max(1));
    format!("closing {closing} of {open} streams, {rate} a second: done in {seconds} s")
}

fn cancelled(document: &Value) -> String {
    if document["cancelled"] == true {
        let (closed, closing) = (number(document, "closed"), number(document, "closing"));
        return format!("stopped after {closed} of {closing} streams");
    }
    if document["refused"] == true {
        return "new streams are taken again".to_owned();
    }
    "no streams are being closed".to_owned()
}

fn status(document: &Value) -> String {
    let (closed, closing) = (number(document, "closed"), number(document, "closing"));
    let mut text = match document["state"].as_str() {
        Some("closing") => {
            let (left, rate) = (number(document, "left"), number(document, "rate"));
            let seconds = left.div_ceil(rate.max(1));
            format!("closed {closed} of {closing} streams, {rate} a second: done in {seconds} s")
        }
        Some("done") => format!("done: closed {closed} of {closing} streams"),
        Some("cancelled") => format!("cancelled after {closed} of {closing} streams"),
        _ => "no streams are being closed".to_owned(),
    };
    if document["refusing"] == true {
        text.push_str("; new streams are refused");
    }
    text
}

/// Waits for the end of the order. Somebody who stops waiting does not stop the hub.
fn wait(matches: &ArgMatches, closing: u64) -> Result<(), Failure> {
    let progress = Progress::stderr();
    progress.phase("closing streams", closing);
    let document = loop {
        let document = done(admin::look(matches, PATH, PATIENCE)?)?;
        progress.set(number(&document, "closed"));
        if document["state"] != "closing" {
            break document;
        }
        std::thread::park_timeout(LOOK);
    };
    progress.end();
    say(matches, &document, status)?;
    if document["state"] == "done" {
        return Ok(());
    }
    Err(Failure::failed(
        "the order was cancelled, or another took its place",
    ))
}
