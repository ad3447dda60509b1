//! From the command line to the options of the library.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::MatchesError;
use gush_bench::options::{BenchOptions, BodyFormat, MemoryBudget, Reference, Wait};
use gush_hub::budget::{Budget, unread_kernel_bytes};
use gush_hub::config::Settings;

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
        admin: given.one("admin"),
        budget: Some(budget(given.one("subscribers").unwrap_or(mode.subscribers))),
        wait: if is_set("spin") {
            Wait::Spin
        } else if is_set("tick") {
            Wait::Tick
        } else {
            Wait::Sleep
        },
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
        known(self.0.try_get_one::<T>(name)).flatten().cloned()
    }

    fn all<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Vec<T> {
        let values = known(self.0.try_get_many::<T>(name)).flatten();
        values.unwrap_or_default().cloned().collect()
    }
}

/// Nothing for an argument that the mode does not have. One that is read as another type than it is
/// kept in is a mistake of ours, not something to ignore.
fn known<T>(read: Result<T, MatchesError>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(MatchesError::UnknownArgument { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// What a hub with default settings may take for so many streams.
fn budget(streams: u64) -> MemoryBudget {
    let streams = usize::try_from(streams).unwrap_or(usize::MAX);
    let settings = Settings::default();
    let budget = Budget::new(&settings, streams);
    MemoryBudget {
        unread_bytes: unread_kernel_bytes(settings.send_buffer) as u64,
        user_bytes: budget.user_bytes as u64,
        kernel_bytes: budget.kernel_bytes as u64,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::modes::MODES;

    fn read_as(line: &str) -> BenchOptions {
        let mut words = line.split(' ');
        let mode = MODES
            .iter()
            .find(|mode| Some(mode.name) == words.clone().next());
        let mode = mode.expect("the line begins with a mode");
        let matches = mode.command().get_matches_from(words.by_ref());
        read(mode, &matches).unwrap_or_else(|failure| panic!("{line}: {failure:?}"))
    }

    #[test]
    fn every_mode_reads_its_own_defaults() {
        for mode in MODES {
            let options = read_as(mode.name);
            assert_eq!(options.subscribers, mode.subscribers, "{}", mode.name);
            assert_eq!(options.publish_body, BodyFormat::Form);
            assert!(!options.is_url_given && options.serve.is_none());
        }
    }

    #[test]
    fn what_is_given_arrives_with_its_type() {
        let options = read_as(
            "fanout --subscribe http://a/{topic} --publish http://b --publish-body raw \
             --header A:1 --header B:2 --publish-header C:3 --publisher-token t --pid 7 --pid 8 \
             --subscribers 9 --events 10 --seconds 0.5 --window 11 --size 64 --publishers 12 \
             --connect-rate 13.5 --threads 2 --spin --pin-generator 1 --patience 1.5 --label x",
        );
        assert!(options.is_url_given);
        assert_eq!(options.subscribe.as_deref(), Some("http://a/{topic}"));
        assert_eq!(options.publish.as_deref(), Some("http://b"));
        assert_eq!(options.publish_body, BodyFormat::Raw);
        assert_eq!(options.headers, ["A:1", "B:2"]);
        assert_eq!(options.publish_headers, ["C:3"]);
        assert_eq!(options.publisher_token.as_deref(), Some("t"));
        assert_eq!(options.pids, [7, 8]);
        assert_eq!((options.subscribers, options.events), (9, Some(10)));
        assert_eq!(options.duration, Some(Duration::from_millis(500)));
        assert_eq!(
            (options.window, options.size, options.publishers),
            (Some(11), 64, 12)
        );
        assert_eq!(
            (options.connect_rate, options.threads),
            (Some(13.5), Some(2))
        );
        assert_eq!((options.wait, options.pin_generator), (Wait::Spin, Some(1)));
        assert_eq!(read_as("fanout --tick").wait, Wait::Tick);
        assert_eq!(options.patience, Duration::from_millis(1500));
        assert_eq!(options.label.as_deref(), Some("x"));
    }

    #[test]
    fn arguments_of_single_modes_arrive_too() {
        let topics = read_as("topics --topics 5 --templates --idle 6 --rate 2.5");
        assert!(topics.is_templated);
        assert_eq!((topics.topics, topics.idle, topics.rate), (5, 6, Some(2.5)));
        let replay = read_as("replay --batch 5 --resume-at 12.5 --live 3");
        assert_eq!((replay.batch, replay.live), (5, 3));
        assert!((replay.resume_at - 12.5).abs() < 1e-9);
        let there = read_as("replay --resume-id earliest");
        assert_eq!(there.resume_id.as_deref(), Some("earliest"));
        let slow = read_as("slow --share 7.5");
        assert!((slow.share - 7.5).abs() < 1e-9);
        let hostile = read_as("hostile --subscribers 50 --admin 127.0.0.1:9");
        assert_eq!(hostile.admin.map(|admin| admin.port()), Some(9));
        assert!(
            hostile
                .budget
                .is_some_and(|budget| budget.user_bytes > 50 * 512)
        );
        let idle = read_as("idle --broadcast --topics 9");
        assert!(idle.is_broadcast);
        assert_eq!(idle.topics, 9);
        let floor = read_as("floor --serve sweep --listen 127.0.0.1:9 --pin-server 1 --rounds 4");
        assert_eq!(floor.serve, Some(Reference::Sweep));
        assert_eq!(
            (floor.listen.port(), floor.pin_server, floor.rounds),
            (9, Some(1), 4)
        );
    }

    #[test]
    fn a_key_is_read_from_its_file_without_the_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "secret \r\n").unwrap();
        let options = read_as(&format!("publish --publisher-key file:{}", path.display()));
        assert_eq!(options.publisher_key.as_deref(), Some("secret "));
    }
}
