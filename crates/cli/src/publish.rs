//! `gush pub`: publishes one event and prints its id, or many.

mod lines;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;

use crate::client::{self, HubClient, headers, refusal};
use crate::credentials::{self, Credentials, Role};
use crate::failure::{Failure, note, print};

const EXAMPLES: &str = "\
Examples:
  gush pub https://example.com/1 --data hello --key \"$KEY\"
  echo '{\"n\":1}' | gush pub https://example.com/1 --type counted
  gush pub https://example.com/1 https://example.com/all --private --data-file event.json
  gush pub --ndjson events.ndjson       many events: a JSON object with topic, data, ... a line";

pub(crate) fn command() -> Command {
    let topics = Arg::new("topic")
        .value_name("TOPIC")
        .num_args(1..)
        .required_unless_present("ndjson")
        .help("Topic of the event; the first one is its canonical topic");
    let json = Arg::new("json")
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print {\"id\": …} instead of the bare id")
        .help_heading("Output");
    Command::new("pub")
        .about("Publish an event and print its id")
        .long_about(
            "Publish an event and print its id, once the hub has it in its log.\n\n\
             The data comes from --data, else from --data-file, else from stdin. One line end at \
             the end of a file or of stdin is left out.",
        )
        .after_help(EXAMPLES)
        .arg(topics)
        .args(event_arguments())
        .arg(lines::argument())
        .args(client::arguments())
        .args(credentials::arguments(Role::Publisher))
        .arg(json)
}

fn event_arguments() -> [Arg; 8] {
    [
        Arg::new("data")
            .long("data")
            .value_name("TEXT")
            .allow_hyphen_values(true)
            .conflicts_with("data-file")
            .help("Data of the event"),
        Arg::new("data-file")
            .long("data-file")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Read the data from this file; - is stdin"),
        Arg::new("id")
            .long("id")
            .value_name("ID")
            .help("Id of the event [default: the hub makes one]"),
        Arg::new("type")
            .long("type")
            .value_name("TYPE")
            .help("Type of the event (the SSE field event)"),
        Arg::new("retry")
            .long("retry")
            .value_name("MILLISECONDS")
            .value_parser(value_parser!(u64))
            .help("Reconnect delay to tell subscribers with this event"),
        Arg::new("private")
            .long("private")
            .action(ArgAction::SetTrue)
            .help("Only for subscribers whose token allows one of the topics"),
        Arg::new("latest")
            .long("latest")
            .action(ArgAction::SetTrue)
            .help("For subscribers that are behind a newer event of these topics may stand for it"),
        Arg::new("latest-key")
            .long("latest-key")
            .value_name("KEY")
            .help("Keep such events of the same topics apart by this key"),
    ]
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    if let Some(path) = matches.get_one::<PathBuf>("ndjson") {
        return lines::run(matches, path);
    }
    let topics: Vec<String> = matches
        .get_many::<String>("topic")
        .unwrap_or_default()
        .cloned()
        .collect();
    let hub = HubClient::find(matches)?;
    let token = Credentials::find(matches, Role::Publisher).token(Role::Publisher, &topics)?;
    let headers = headers(token.as_deref())?;
    let data = data(matches)?;
    let retry = matches.get_one::<u64>("retry").map(u64::to_string);

    let mut form: Vec<(&str, &str)> = topics
        .iter()
        .map(|topic| ("topic", topic.as_str()))
        .collect();
    form.push(("data", &data));
    for name in ["id", "type"] {
        form.extend(
            matches
                .get_one::<String>(name)
                .map(|value| (name, value.as_str())),
        );
    }
    form.extend(retry.as_deref().map(|retry| ("retry", retry)));
    form.extend(matches.get_flag("private").then_some(("private", "on")));
    form.extend(matches.get_flag("latest").then_some(("gush_latest", "1")));
    let key = matches.get_one::<String>("latest-key");
    form.extend(key.map(|key| ("gush_key", key.as_str())));

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(Failure::failed)?;
    let id = runtime.block_on(publish(&hub, &form, headers))?;
    if matches.get_flag("json") {
        return print(&json!({ "id": id }).to_string());
    }
    print(&id)
}

async fn publish(
    hub: &HubClient,
    form: &[(&str, &str)],
    headers: http::HeaderMap,
) -> Result<String, Failure> {
    let response = hub
        .post(form, headers)
        .await
        .map_err(|e| Failure::Failed(format!("{e} (see --hub)")))?;
    let status = response.status();
    let body = client::text(response).await.map_err(Failure::Failed)?;
    if status.is_success() {
        Ok(body)
    } else {
        Err(Failure::Failed(refusal(status, &body)))
    }
}

fn data(matches: &ArgMatches) -> Result<String, Failure> {
    if let Some(data) = matches.get_one::<String>("data") {
        return Ok(data.clone());
    }
    let path = matches
        .get_one::<PathBuf>("data-file")
        .filter(|path| path.as_os_str() != "-");
    let text = match path {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::Failed(format!("--data-file {}: {error}", path.display())))?,
        None => read_stdin()?,
    };
    let text = text
        .strip_suffix('\n')
        .map_or(text.as_str(), |text| text.trim_end_matches('\r'));
    Ok(text.to_owned())
}

fn read_stdin() -> Result<String, Failure> {
    let mut stdin = std::io::stdin().lock();
    if stdin.is_terminal() {
        note("reading the data from stdin, end with Ctrl-D; or use --data");
    }
    let mut text = String::new();
    stdin.read_to_string(&mut text).map_err(|error| {
        Failure::Failed(format!("stdin cannot be read as text: {error}; see --data"))
    })?;
    Ok(text)
}
