//! Storms worth a look. What they assume is in `docs/concepts/storms.md`.

use std::time::Duration;

use gush_middleware::{Comeback, PacerSettings};

use super::Scenario;
use super::client::Behaviour;
use super::policy::{Admission, Policy, Refusing, Share};
use super::told::{Growth, Told};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What the hub tells each subscriber by default: 2 s, give or take half of it.
const RETRY: Told = Told::Between(secs(1), secs(3));

/// What the hub does: each stream was told for the crowd before it was lost.
pub(super) const TOLD_FOR_CROWD: &str = "told for the crowd";

/// What a drain does.
pub(super) const CLOSED_STEADILY: &str = "closed steadily";

/// A scenario with the policies to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The three rows of the source article, and what pacing makes of them.
    Article,
    /// A restart, seen by the libraries that people use.
    Mix,
    /// A hub that stays and drops everybody.
    Drop,
}

/// A row of the source article.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArticleRow {
    /// Our name of its policy.
    pub policy: &'static str,
    /// Its "peak connections".
    pub peak_at_once: u64,
    /// Its CPU, in percent. Not modelled: any curve through three points says nothing of another
    /// machine.
    pub cpu_percent: u32,
}

/// The source article's table.
pub const ARTICLE: [ArticleRow; 3] = [
    ArticleRow {
        policy: Behaviour::NO_BACKOFF.name,
        peak_at_once: 12_000,
        cpu_percent: 98,
    },
    ArticleRow {
        policy: Behaviour::EXPONENTIAL.name,
        peak_at_once: 3_500,
        cpu_percent: 75,
    },
    ArticleRow {
        policy: Behaviour::FULL_JITTER.name,
        peak_at_once: 1_200,
        cpu_percent: 45,
    },
];

/// What a page for everybody may see. The shares are an assumption, not a measurement.
const MIX: [(Behaviour, u32); 7] = [
    (Behaviour::CHROMIUM, 70),
    (Behaviour::FIREFOX, 5),
    (Behaviour::EVENTSOURCE, 10),
    (Behaviour::LAUNCHDARKLY, 5),
    (Behaviour::EVENT_SOURCE_PLUS, 2),
    (Behaviour::POLYFILL, 3),
    (Behaviour::GUSH_SUB, 5),
];

impl Preset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Article, Self::Mix, Self::Drop];

    /// As it is written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Article => "article",
            Self::Mix => "mix",
            Self::Drop => "drop",
        }
    }

    /// What happens.
    #[must_use]
    pub fn scenario(self) -> Scenario {
        let article = Scenario {
            subscribers: 12_000,
            away: secs(150),
            notice: secs(10),
            service: secs(3),
            end: secs(600),
            seed: 1,
        };
        match self {
            Self::Article => article,
            // The kernel closes the sockets of a process that dies, so all notice within a second.
            Self::Mix => Scenario {
                away: secs(30),
                notice: secs(1),
                ..article
            },
            Self::Drop => Scenario {
                subscribers: 50_000,
                away: Duration::ZERO,
                notice: secs(1),
                service: Duration::from_millis(100),
                ..article
            },
        }
    }

    /// Attempts per second that its paced policies take in.
    #[must_use]
    pub fn per_second(self) -> f64 {
        match self {
            // With 3 s each these are 1,080 at once, and the burst: below the article's best row.
            Self::Article | Self::Mix => 360.0,
            // What the hub counts with by default.
            Self::Drop => 10_000.0,
        }
    }

    /// The policies to compare: the paced ones take in so many per second of so many subscribers.
    #[must_use]
    pub fn policies(self, per_second: f64, subscribers: u32) -> Vec<Policy> {
        match self {
            Self::Article => vec![
                Policy::of(Behaviour::NO_BACKOFF),
                Policy::of(Behaviour::EXPONENTIAL),
                Policy::of(Behaviour::FULL_JITTER),
                Policy {
                    name: "paced by the server",
                    admission: Admission::paced(per_second),
                    told: RETRY,
                    ..Policy::of(Behaviour::OBEDIENT)
                },
            ],
            Self::Mix => mix(per_second),
            Self::Drop => dropped(per_second, subscribers),
        }
    }
}

fn mix(per_second: f64) -> Vec<Policy> {
    let shares = MIX.map(|(behaviour, parts)| Share { behaviour, parts });
    let mixed = |name, admission| Policy {
        name,
        shares: shares.to_vec(),
        admission,
        told: RETRY,
        closes_over: None,
    };
    let soft = Admission::paced(per_second);
    vec![
        mixed("no limit", Admission::OPEN),
        mixed(
            "limit, 503",
            Admission {
                refusing: Refusing::Hard,
                ..soft
            },
        ),
        mixed("limit, soft refusal", soft),
    ]
}

fn dropped(per_second: f64, subscribers: u32) -> Vec<Policy> {
    let browser = Policy::of(Behaviour::CHROMIUM);
    let pacing = PacerSettings::per_second(per_second);
    let untold = Policy {
        name: "nothing told",
        ..browser.clone()
    };
    let own_retry = Policy {
        name: "own retry",
        told: RETRY,
        ..browser.clone()
    };
    let paced = Policy {
        name: "paced retry",
        told: Told::Paced,
        admission: Admission {
            pacing,
            ..Admission::OPEN
        },
        ..browser.clone()
    };
    let admitted = Policy {
        name: "paced retry, limit",
        told: Told::Paced,
        admission: Admission {
            pacing,
            ..Admission::paced(per_second)
        },
        ..browser
    };
    // The hub grew for ten minutes, with its own heartbeat, and was killed at its largest.
    let rule = Comeback {
        retry: secs(2),
        per_second,
        window_max: secs(60),
    };
    let growth = Growth {
        streams: subscribers,
        opening: secs(600),
        held: Duration::ZERO,
        heartbeat: secs(25),
    };
    let for_crowd = Policy {
        name: TOLD_FOR_CROWD,
        told: Told::Crowd(rule, growth),
        ..untold.clone()
    };
    // A drain knows how many there are, and closes no faster than they can be taken in.
    let window = Duration::from_secs_f64(f64::from(subscribers) / per_second);
    let drained = Policy {
        name: CLOSED_STEADILY,
        closes_over: Some(window),
        ..own_retry.clone()
    };
    vec![untold, own_retry, paced, admitted, for_crowd, drained]
}
