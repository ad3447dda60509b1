//! Mode `hostile`: one tenth of the subscribers is hostile. What do the other nine notice, what
//! does it cost the server, and is all of it given back?
//!
//! The good ones are measured alone and beside the hostile ones by turns, in one run.

mod counters;
mod crew;
mod peer;
mod watch;
mod write;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::common::{Measured, Moment, plan, role_of, server_of, topic_name};
use super::fanout::nothing_opened;
use super::idle::wait_closed;
use crate::engine::load::Load;
use crate::engine::{Counts, Fleet, Plan};
use crate::error::BenchError;
use crate::options::BenchOptions;
use crate::procfs::Processes;
use crate::progress::Progress;
use crate::report::Report;
use crate::target::Target;
use crate::token;
use counters::Counters;
use crew::Crew;
use peer::{LARGE_HEAD_BYTES, Requests, Tally};
use watch::{Peak, watched};
use write::Findings;

/// One of so many subscribers is hostile.
const HOSTILE_OF: u64 = 10;
/// Events per second where neither a rate nor a window was given: slow enough that one has reached
/// everybody before the next, so that latency is not waiting in line.
const DEFAULT_RATE: f64 = 2.0;
/// How long each part publishes where neither events nor a time was given.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Key of the tokens that no server accepts.
const WRONG_KEY: &str = "a key that no server has, of more than 32 bytes";
/// Descriptors above those of the start that are no leak: the server's own, such as a log's.
const DESCRIPTORS_SLACK: u64 = 32;
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// One half of a round.
struct Part {
    measured: Measured,
    counts: Counts,
    peak: Peak,
}

/// The good ones alone, then beside hostile ones, then alone again.
struct Round {
    quiet: Part,
    beside: Part,
    tally: Tally,
    /// Once the hostile ones are gone and the good ones are still there.
    calm: Moment,
}

/// The server before and after everything.
struct Rest {
    moment: Moment,
    descriptors: Option<u64>,
    counters: Option<Counters>,
}

/// Runs the mode.
///
/// # Errors
/// [`BenchError`] for too few subscribers, or when the target or its admin listener cannot be used.
pub fn run(options: &BenchOptions, progress: &Progress) -> Result<Report, BenchError> {
    let hostile = options.subscribers / HOSTILE_OF;
    if hostile == 0 {
        let text = format!("at least {HOSTILE_OF} subscribers are needed");
        return Err(BenchError::Usage(text));
    }
    let good = options.subscribers - hostile;
    let target = Target::from_options(options)?;
    let requests = requests(options, &target)?;
    let server = server_of(options, &target, progress);
    let load = load(options, &target);
    let before = Rest::now(&server, options)?;

    let mut fleet = Fleet::start(
        Plan {
            beside: hostile,
            ..plan(options, &target, |number| role_of(Some(number), 1))
        },
        options,
    )?;
    progress.phase("opening good streams", good);
    if fleet.open(good, options.connect_rate, progress).opened == 0 {
        return Err(nothing_opened(&fleet));
    }
    let field = Field {
        fleet: &fleet,
        load: &load,
        server: &server,
        requests: Arc::new(requests),
        hostile,
    };
    let rounds: Result<Vec<_>, _> = (0..options.rounds.max(1))
        .map(|_| field.round(options, progress))
        .collect();
    let rounds = rounds?;
    let end = fleet.finish();
    progress.phase("waiting for everything to be given back", 0);
    let after = Rest::settled(&server, &before, options)?;
    progress.end();

    let findings = Findings {
        readers: good,
        hostile,
        rounds: &rounds,
        end,
        before: &before,
        after: &after,
    };
    Ok(findings.report(options, &target, &load))
}

/// What every round is played with.
struct Field<'a> {
    fleet: &'a Fleet,
    load: &'a Load<'a>,
    server: &'a Processes,
    requests: Arc<Requests>,
    hostile: u64,
}

impl Field<'_> {
    fn round(&self, options: &BenchOptions, progress: &Progress) -> Result<Round, BenchError> {
        let good = u64::from(self.fleet.members(0));
        self.load.begin("delivering, all quiet", good, progress);
        let quiet = self.part(progress)?;
        progress.phase("sending off the hostile ones", self.hostile);
        let requests = Arc::clone(&self.requests);
        let crew = Crew::start(self.hostile, requests, options.patience)?;
        self.load
            .begin("delivering beside hostile ones", good, progress);
        let beside = self.part(progress)?;
        let tally = crew.finish();
        progress.phase("waiting until the attack is over", 0);
        let calm = wait_closed(self.server, &quiet.measured.after, options.patience);
        Ok(Round {
            quiet,
            beside,
            tally,
            calm,
        })
    }

    fn part(&self, progress: &Progress) -> Result<Part, BenchError> {
        let before = self.fleet.counts();
        let (fleet, load, server) = (self.fleet, self.load, self.server);
        let (measured, peak) = watched(server, || Measured::run(fleet, load, server, progress))?;
        Ok(Part {
            measured: measured?,
            counts: fleet.counts().since(before),
            peak,
        })
    }
}

/// The load of each part; the numbering goes on from one to the other.
fn load<'a>(options: &BenchOptions, target: &'a Target) -> Load<'a> {
    let mut load = Load::from_options(options, target, &topic_name);
    load.duration = options.duration_or(DEFAULT_DURATION);
    if options.window.is_none() {
        load.rate = options.rate.or(Some(DEFAULT_RATE));
    }
    load
}

/// What the hostile ones send: subscribes as those of the others, heads without an end, and
/// requests with a token that is well made and signed with another key, so that the server has to
/// compute to find out.
fn requests(options: &BenchOptions, target: &Target) -> Result<Requests, BenchError> {
    let wrong = token::publisher(WRONG_KEY);
    let forger = Target::from_options(&BenchOptions {
        publisher_key: None,
        publisher_token: Some(wrong.clone()),
        subscriber_token: Some(wrong),
        ..options.clone()
    })?;
    let topic = topic_name(0);
    let mut forged_publish = Vec::new();
    forger.push_publish_request(&topic, "nobody may get this", &mut forged_publish);
    let subscribe = target.subscribe_request(&topic);
    let line = b"X-More: of what no server wants to keep, as often as it fits\r\n";
    // Behind the request line and the fields, without the empty line that would end the head.
    let mut large_head = subscribe[..subscribe.len() - 2].to_vec();
    while large_head.len() < LARGE_HEAD_BYTES {
        large_head.extend_from_slice(line);
    }
    Ok(Requests {
        subscribe_at: target.subscribe_address(),
        publish_at: target.publish_address(),
        subscribe,
        forged_subscribe: forger.subscribe_request(&topic),
        forged_publish,
        large_head,
    })
}

impl Rest {
    fn now(server: &Processes, options: &BenchOptions) -> Result<Self, BenchError> {
        Ok(Self {
            moment: Moment::now(server),
            descriptors: server.descriptors(),
            counters: options.admin.map(Counters::read).transpose()?,
        })
    }

    /// The same once the server is at rest, or nothing has changed for the options' patience.
    fn settled(
        server: &Processes,
        before: &Self,
        options: &BenchOptions,
    ) -> Result<Self, BenchError> {
        let moment = wait_closed(server, &before.moment, options.patience);
        let settle = |admin| Counters::settled(admin, options.patience);
        let counters = options.admin.map(settle).transpose()?;
        let begin = Instant::now();
        let mut after = Self {
            moment,
            descriptors: server.descriptors(),
            counters,
        };
        while !after.has_descriptors_of(before) && begin.elapsed() < options.patience {
            std::thread::park_timeout(LOOK);
            after.descriptors = server.descriptors();
        }
        Ok(after)
    }

    /// Whether no more descriptors are open than at the start, or nearly.
    fn has_descriptors_of(&self, before: &Self) -> bool {
        match (self.descriptors, before.descriptors) {
            (Some(now), Some(then)) => now <= then + DESCRIPTORS_SLACK,
            _ => true,
        }
    }
}
