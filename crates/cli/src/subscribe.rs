//! `gush sub`: prints events as they come, resumes by itself.

mod session;
mod show;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use gush_hub::config::parse_duration;

use crate::backoff::Backoff;
use crate::client::{self, HubClient};
use crate::credentials::{self, Credentials, Role};
use crate::failure::{Failure, note};
use session::{Ended, Session};
use show::Printer;

const EXAMPLES: &str = "\
Examples:
  gush sub '*'                                    everything public
  gush sub 'https://example.com/{id}' --json      one JSON object per line
  gush sub news --last-event-id earliest          what the log still has, then live
  gush sub news --count 1 --max-attempts 3        wait for one event";

pub(crate) fn command() -> Command {
    let matchers = Arg::new("matcher")
        .value_name("MATCHER")
        .num_args(1..)
        .required(true)
        .help("Topic, URI template such as https://example.com/{id}, or * for all topics");
    Command::new("sub")
        .about("Print events as they come; resume by itself")
        .long_about(
            "Print events as they come; resume by itself.\n\n\
             When the stream ends, the next attempt sends the last event id, so that nothing is \
             lost or doubled. Waits as long as the hub asks for with `retry` or Retry-After (up to \
             5 min), and on top a random time below a ceiling that starts at 1 s and doubles to \
             30 s. Ends with 1 after --max-attempts \
             failures in a row or when the hub refuses for good (400, 401, 403), with 0 after \
             --count events, on 204 from the hub, or when the reader of the output is gone.",
        )
        .after_help(EXAMPLES)
        .arg(matchers)
        .args(stream_arguments())
        .args(client::arguments())
        .args(credentials::arguments(Role::Subscriber))
}

fn stream_arguments() -> [Arg; 6] {
    [
        Arg::new("last-event-id")
            .long("last-event-id")
            .value_name("ID")
            .help("Start behind this event; `earliest` is everything the log has"),
        Arg::new("gap").long("gap").action(ArgAction::SetTrue).help(
            "Ask a gush hub for its gap event (type gush-gap), which says that events were lost",
        ),
        Arg::new("count")
            .long("count")
            .value_name("N")
            .value_parser(value_parser!(u64).range(1..))
            .help("End with 0 after this many events"),
        Arg::new("max-attempts")
            .long("max-attempts")
            .value_name("N")
            .value_parser(value_parser!(u32))
            .default_value("10")
            .help("Give up after this many failed attempts in a row; 0 = never"),
        Arg::new("idle-timeout")
            .long("idle-timeout")
            .value_name("DURATION")
            .default_value("90s")
            .help("Reconnect when the stream is silent for this long, heartbeats too; 0 = never"),
        Arg::new("json")
            .long("json")
            .action(ArgAction::SetTrue)
            .help("Print one JSON object per line: id, type, data")
            .help_heading("Output"),
    ]
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let text = matches
        .get_one::<String>("idle-timeout")
        .map_or("0", String::as_str);
    let idle_timeout = match text {
        "0" => None,
        text => Some(
            parse_duration(text)
                .map_err(|reason| Failure::usage(format!("--idle-timeout {text}: {reason}")))?,
        ),
    };
    let session = Session {
        hub: HubClient::find(matches)?,
        credentials: Credentials::find(matches, Role::Subscriber),
        matchers: matches
            .get_many::<String>("matcher")
            .unwrap_or_default()
            .cloned()
            .collect(),
        wants_gap: matches.get_flag("gap"),
        idle_timeout,
        last_event_id: matches.get_one::<String>("last-event-id").cloned(),
        retry: None,
        printer: Printer::new(
            matches.get_flag("json"),
            matches.get_one::<u64>("count").copied(),
        ),
    };
    let backoff = Backoff::new(
        matches
            .get_one::<u32>("max-attempts")
            .copied()
            .unwrap_or_default(),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .map_err(Failure::failed)?
        .block_on(subscribe(session, backoff))
}

/// Attempt, wait, attempt, until something is final.
async fn subscribe(mut session: Session, mut backoff: Backoff) -> Result<(), Failure> {
    loop {
        let (why, retry_after) = match session.attempt().await {
            Ended::Done => return Ok(()),
            Ended::Final(failure) => return Err(failure),
            Ended::Healthy(why) => {
                backoff.succeeded();
                (why, None)
            }
            Ended::Failed { why, retry_after } => {
                if !backoff.failed() {
                    return Err(gave_up(&why, backoff.failures()));
                }
                (why, retry_after)
            }
        };
        // Of two wishes the newer one: a `Retry-After` is about this attempt.
        let wait = backoff.wait(retry_after.or(session.retry), fastrand::f64());
        note(&format!(
            "{why}; next attempt in {:.1} s",
            wait.as_secs_f64()
        ));
        tokio::time::sleep(wait).await;
    }
}

fn gave_up(why: &str, failures: u32) -> Failure {
    let attempts = if failures == 1 {
        "attempt"
    } else {
        "attempts in a row"
    };
    Failure::Failed(format!(
        "gave up after {failures} failed {attempts}: {why} (see --hub; with --max-attempts 0 it \
         never gives up)"
    ))
}
