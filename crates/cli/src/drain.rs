//! `gush drain`: has a running hub close streams at a steady rate, for balance.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use serde_json::{Map, Value, json};

use crate::admin;
use crate::failure::{Failure, print};

const EXAMPLES: &str = "\
Examples:
  gush drain --rate 200                      close all streams, 200 a second
  gush drain --rate 200 --share 20%          only a fifth of them
  gush drain --rate 50 --count 1000 --admin 10.0.0.7:3001
  gush drain --cancel                        stop

The hub goes on and takes new streams: have the balancer send it fewer first.";

/// The hub answers at once.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
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
        Arg::new("cancel")
            .long("cancel")
            .action(ArgAction::SetTrue)
            .conflicts_with_all(["rate", "count", "share"])
            .help("Stop closing streams"),
    ];
    Command::new("drain")
        .about("Close streams of a running hub at a steady rate, for balance")
        .long_about(
            "Close streams of a running hub at a steady rate, for balance.\n\n\
             Each stream ends with its own retry line; its client comes back by the load \
             balancer, with its last event id, and misses nothing. The order is carried out by \
             the hub: this command says what it has begun. To end a hub, send it SIGTERM.",
        )
        .after_help(EXAMPLES)
        .args(arguments)
        .group(
            ArgGroup::new("what")
                .args(["rate", "cancel"])
                .required(true),
        )
        .arg(admin::argument())
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print a JSON object instead of a sentence")
                .help_heading("Output"),
        )
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
    let mut asked = Map::new();
    for name in ["rate", "count"] {
        if let Some(number) = matches.get_one::<u64>(name) {
            asked.insert(name.into(), json!(number));
        }
    }
    if let Some(share) = matches.get_one::<f64>("share") {
        asked.insert("share".into(), json!(share));
    }
    let is_cancel = matches.get_flag("cancel");
    if is_cancel {
        asked.insert("cancel".into(), json!(true));
    }
    let told = admin::order(matches, "/drain", &Value::Object(asked), PATIENCE)?;
    if !told.is_done {
        return Err(Failure::failed(format!("the hub refused: {}", told.text)));
    }
    let document = &told.document;
    if matches.get_flag("json") {
        return print(&document.to_string());
    }
    let number = |name: &str| document[name].as_u64().unwrap_or_default();
    if !is_cancel {
        let (closing, open, rate) = (number("closing"), number("open"), number("rate"));
        let seconds = closing.div_ceil(rate.max(1));
        return print(&format!(
            "closing {closing} of {open} streams, {rate} a second: done in {seconds} s"
        ));
    }
    if document["cancelled"] == true {
        let (closed, closing) = (number("closed"), number("closing"));
        return print(&format!("stopped after {closed} of {closing} streams"));
    }
    print("no streams are being closed")
}
