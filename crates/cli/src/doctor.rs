//! `gush doctor`: finds out from outside what the way to a hub does to streams.

// What is said, and what to do about it.
mod fixes;
mod report;
mod way;

// The stream that is watched.
mod watched;

// The looks, in the order they are taken.
mod opening;

// Events published one after the other.
mod events;

// A second connect with a cursor.
mod resume;

// Silence.
mod idle;

// Pages of another origin.
mod cors;

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use gush_hub::config::parse_duration;
use http::{HeaderMap, HeaderValue, header};

use crate::client::{self, Offer, Site, headers};
use crate::credentials::{self, Credentials, Role, SigningKey, variable};
use crate::failure::{Failure, note, print};
use report::Report;

const EXAMPLES: &str = "\
Examples:
  gush doctor https://hub.example.com                       what can be seen without publishing
  gush doctor https://hub.example.com --publisher-key \"$KEY\" publish test events and watch them
  gush doctor --idle 5m --origin https://app.example.com    longer silence, and CORS
  gush doctor https://hub.example.com --json | jq .checks   for a program";

/// Longest wait for the head of a stream's answer. A hub writes it at once.
const HEAD_WAIT: Duration = Duration::from_secs(5);

pub(crate) fn command() -> Command {
    let hub = Arg::new("hub")
        .value_name("URL")
        .help("The hub as its readers see it [env: GUSH_HUB] [default: the local hub]");
    Command::new("doctor")
        .about("Find out what proxies on the way to a hub do to streams, and how to mend it")
        .long_about(
            "Find out what proxies on the way to a hub do to streams, and how to mend it.\n\n\
             Opens a stream as a browser does and looks whether the answer's head, its first bytes \
             and each event come at once, whether the stream is compressed, cached or cut while it \
             is silent, whether heartbeats and Last-Event-ID get through, which version of HTTP \
             is spoken, and whether CORS allows --origin. With a key or a token it publishes test \
             events to a topic of its own; without one it only looks. Each finding says what was \
             seen, what it means, and the line that mends it. Exit code 0: nothing found, 1: \
             something, or no hub there.",
        )
        .after_help(EXAMPLES)
        .arg(hub)
        .arg(client::ca_argument())
        .args(look_arguments())
        .args(credentials::arguments_of_both())
}

fn look_arguments() -> [Arg; 6] {
    [
        Arg::new("topic")
            .long("topic")
            .value_name("TOPIC")
            .help("Topic of the test events, where a token allows only some [default: a new one]"),
        Arg::new("events")
            .long("events")
            .value_name("N")
            .value_parser(value_parser!(u32).range(2..=100))
            .default_value("5")
            .help("Number of test events"),
        Arg::new("every")
            .long("every")
            .value_name("DURATION")
            .default_value("1s")
            .help("Time between two of them; one that takes longer than this came late"),
        Arg::new("idle")
            .long("idle")
            .value_name("DURATION")
            .default_value("30s")
            .help("How long to watch the stream with nothing published; 0 = not at all"),
        Arg::new("origin")
            .long("origin")
            .value_name("ORIGIN")
            .help("Look whether CORS lets pages of this origin read, as https://app.example.com"),
        Arg::new("json")
            .long("json")
            .action(ArgAction::SetTrue)
            .help("Print one JSON object: url, good, way, checks (name, level, seen, means, fixes)")
            .help_heading("Output"),
    ]
}

/// What is looked at, and with which rights.
pub(super) struct Doctor {
    site: Site,
    topic: String,
    /// In every test event, so that no other's is taken for one.
    nonce: String,
    events: u32,
    every: Duration,
    /// `None`: the silent stream is not watched.
    idle: Option<Duration>,
    origin: Option<HeaderValue>,
    publisher: Option<String>,
    /// Tokens to subscribe with, in the order they are tried; `None` is without one.
    subscribers: Vec<Option<String>>,
}

impl Doctor {
    fn new(matches: &ArgMatches) -> Result<Self, Failure> {
        let nonce = format!("{:016x}", fastrand::u64(..));
        let topic = matches.get_one::<String>("topic").cloned();
        let topic = topic.unwrap_or_else(|| format!("https://gush.invalid/doctor/{nonce}"));
        let topics = [topic.clone()];
        let token = matches.get_one::<String>("token").cloned();
        let token = token.or_else(|| variable("GUSH_TOKEN"));
        let token_for = |role| {
            let key = SigningKey::of_role(matches, role).map(Credentials::Key);
            let given = token
                .clone()
                .map(|text| Credentials::Token(text.trim().into()));
            match key.or(given) {
                Some(credentials) => credentials.token(role, &topics),
                None => Ok(None),
            }
        };
        let publisher = token_for(Role::Publisher)?;
        let subscribers = match (token_for(Role::Subscriber)?, &publisher) {
            (Some(token), _) => vec![Some(token)],
            (None, None) => vec![None],
            // One key for both, unless anybody may read.
            (None, Some(_)) => {
                let key = SigningKey::of_role(matches, Role::Publisher).map(Credentials::Key);
                let own = key
                    .map(|key| key.token(Role::Subscriber, &topics))
                    .transpose()?;
                vec![None, own.flatten()]
            }
        };
        let origin = matches.get_one::<String>("origin").map(|text| origin(text));
        Ok(Self {
            site: Site::find(matches, "URL")?,
            topic,
            nonce,
            events: matches.get_one::<u32>("events").copied().unwrap_or(5),
            every: duration(matches, "every")?.unwrap_or(Duration::from_secs(1)),
            idle: duration(matches, "idle")?,
            origin: origin.transpose()?,
            publisher,
            subscribers,
        })
    }

    /// The head of a subscribe as a browser sends it.
    fn stream_headers(
        &self,
        token: Option<&str>,
        encodings: &'static str,
    ) -> Result<HeaderMap, Failure> {
        let mut headers = headers(token)?;
        let accept = HeaderValue::from_static("text/event-stream");
        headers.insert(header::ACCEPT, accept);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encodings));
        if let Some(origin) = &self.origin {
            headers.insert(header::ORIGIN, origin.clone());
        }
        Ok(headers)
    }

    fn is_tls(&self) -> bool {
        self.site.url().starts_with("https:")
    }

    /// A client that shares no connection with another.
    fn client(&self) -> client::HubClient {
        self.site.client(Offer::Browser)
    }
}

fn duration(matches: &ArgMatches, name: &str) -> Result<Option<Duration>, Failure> {
    match matches.get_one::<String>(name).map_or("0", String::as_str) {
        "0" => Ok(None),
        text => parse_duration(text)
            .map(Some)
            .map_err(|reason| Failure::usage(format!("--{name} {text}: {reason}"))),
    }
}

fn origin(text: &str) -> Result<HeaderValue, Failure> {
    let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
        !scheme.is_empty() && !host.is_empty() && !host.contains('/')
    });
    let value = HeaderValue::from_str(text).ok().filter(|_| is_origin);
    value.ok_or_else(|| {
        Failure::usage(format!(
            "--origin {text}: write scheme and host as browsers do, https://app.example.com"
        ))
    })
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let doctor = Doctor::new(matches)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    if !matches.get_flag("json") {
        note(&format!(
            "looking at {}, for {}",
            doctor.site.url(),
            doctor.takes()
        ));
    }
    let report = runtime.block_on(doctor.look())?;
    if matches.get_flag("json") {
        print(&report.json().to_string())?;
    } else {
        print(&report.text())?;
    }
    match report.findings().as_slice() {
        [] => Ok(()),
        [one] => Err(Failure::Failed(format!("1 finding: {one}"))),
        several => {
            let text = format!("{} findings: {}", several.len(), several.join(", "));
            Err(Failure::Failed(text))
        }
    }
}

impl Doctor {
    /// How long it takes when all is well.
    fn takes(&self) -> String {
        let events = self.publisher.as_ref().map(|_| self.every * self.events);
        let idle = self.idle.unwrap_or_default();
        format!(
            "{} s or so",
            (idle + events.unwrap_or_default()).as_secs() + 1
        )
    }

    async fn look(&self) -> Result<Report, Failure> {
        let mut report = Report::new(self.site.url());
        if let Some(mut stream) = opening::look(self, &mut report).await? {
            let token = stream.token().cloned();
            let mut ids = vec![];
            if let Some(publisher) = &self.publisher {
                ids = events::look(self, publisher, &mut stream, &mut report).await?;
            } else {
                let advice = "give --publisher-key or --token, and test events are published";
                report.note("events", "not looked at".into(), advice);
            }
            resume::look(self, token.as_deref(), &ids, &mut report).await?;
            if let Some(idle) = self.idle {
                idle::look(idle, &mut stream, &mut report).await;
            }
        }
        if let Some(origin) = &self.origin {
            cors::look(self, origin, &mut report).await?;
        }
        Ok(report)
    }
}

/// A time in the unit that reads best.
fn shown(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
