//! What a storm has to be: the same for the same seed, complete, and as high as was said.

use std::time::Duration;

use gush_middleware::Rate;
use proptest::prelude::*;

use super::*;

fn played(preset: Preset, seed: u64) -> (Scenario, Vec<Tally>) {
    let scenario = Scenario {
        seed,
        ..preset.scenario()
    };
    let policies = preset.policies(preset.per_second(), scenario.subscribers);
    let tallies = policies.iter().map(|policy| simulate(&scenario, policy));
    (scenario, tallies.collect())
}

fn named<'a>(tallies: &'a [Tally], name: &str) -> &'a Tally {
    let tally = tallies.iter().find(|tally| tally.name == name);
    tally.unwrap_or_else(|| panic!("no policy {name}"))
}

#[test]
fn the_article_comes_out_with_every_seed_and_pacing_is_better() {
    for seed in [1, 2, 3] {
        let (scenario, tallies) = played(Preset::Article, seed);
        let per_second = Preset::Article.per_second();
        let report = report(Preset::Article, &scenario, per_second, &tallies);
        assert!(report.passed(), "seed {seed}: {:?}", report.checks);
        assert_eq!(report.checks.len(), 6, "three rows, two of pacing, the sum");
        for row in ARTICLE {
            let tally = named(&tallies, row.policy);
            assert_eq!((tally.back, tally.refused()), (tally.subscribers, 0));
        }
        let jitter = named(&tallies, "full jitter");
        let paced = named(&tallies, "paced by the server");
        assert!(paced.last_back < jitter.last_back, "and sooner: {paced:?}");
        assert_eq!(paced.refused_hard + paced.given_up(), 0);
    }
}

#[test]
fn the_same_seed_is_the_same_storm_and_another_is_not() {
    let scenario = Scenario {
        subscribers: 500,
        ..Preset::Mix.scenario()
    };
    for policy in Preset::Mix.policies(20.0, scenario.subscribers) {
        let first = simulate(&scenario, &policy);
        assert_eq!(first, simulate(&scenario, &policy));
        let other = Scenario {
            seed: 2,
            ..scenario
        };
        assert_ne!(first.curve, simulate(&other, &policy).curve);
    }
}

#[test]
fn a_hard_refusal_loses_browsers_for_ever_and_a_soft_one_nobody() {
    let scenario = Scenario {
        subscribers: 2_000,
        ..Preset::Mix.scenario()
    };
    let policies = Preset::Mix.policies(60.0, scenario.subscribers);
    let tallies: Vec<_> = policies
        .iter()
        .map(|one| simulate(&scenario, one))
        .collect();
    let hard = named(&tallies, "limit, 503");
    let soft = named(&tallies, "limit, soft refusal");
    assert!(hard.lost_to_status > hard.subscribers / 2, "{hard:?}");
    assert!(soft.refused_softly > 0 && soft.lost_to_status == 0);
    // Those whose first connect was refused: one in twenty is a Firefox.
    assert_eq!(soft.lost_to_no_answer, 100);
    assert_eq!(soft.back, soft.subscribers - soft.given_up());
}

#[test]
fn a_drop_that_is_closed_steadily_fails_nobody() {
    let (scenario, tallies) = played(Preset::Drop, 5);
    let per_second = Preset::Drop.per_second();
    let report = report(Preset::Drop, &scenario, per_second, &tallies);
    assert!(report.passed(), "{:?}", report.checks);
    let untold = named(&tallies, "nothing told");
    let steady = named(&tallies, "closed steadily");
    assert!(untold.peak_second > 4 * steady.peak_second);
    let limited = named(&tallies, "paced retry, limit");
    let unlimited = named(&tallies, "paced retry");
    assert!(limited.peak_second < unlimited.peak_second);
    assert_eq!(limited.back, limited.subscribers);
}

#[test]
fn a_gate_bounds_what_is_served_at_once() {
    let scenario = Scenario {
        subscribers: 300,
        away: Duration::ZERO,
        ..Preset::Article.scenario()
    };
    let policy = Policy {
        admission: Admission {
            at_once: Some(20),
            ..Admission::paced(1_000.0)
        },
        ..Policy::of(Behaviour::OBEDIENT)
    };
    let tally = simulate(&scenario, &policy);
    assert_eq!(tally.peak_at_once, 20);
    assert_eq!(tally.back, 300);
    assert!(tally.adds_up());
}

#[test]
fn attempts_that_are_used_up_are_told_apart() {
    let scenario = Scenario {
        subscribers: 50,
        away: Duration::from_hours(1),
        ..Preset::Article.scenario()
    };
    let tally = simulate(&scenario, &Policy::of(Behaviour::GUSH_SUB));
    assert_eq!((tally.lost_to_attempts, tally.attempts), (50, 500));
    assert_eq!((tally.admitted, tally.still_trying), (0, 0));
    assert!(tally.peak_to_mean().is_nan(), "of nothing");
}

#[test]
fn one_line_for_each_policy_with_the_figures_of_the_article() {
    let scenario = Scenario {
        subscribers: 100,
        ..Preset::Article.scenario()
    };
    let policies = Preset::Article.policies(10.0, scenario.subscribers);
    let tallies: Vec<_> = policies
        .iter()
        .map(|one| simulate(&scenario, one))
        .collect();
    let report = report(Preset::Article, &scenario, 10.0, &tallies);
    assert_eq!(report.checks.len(), 1, "only what holds for any scenario");
    let text = table(&report, &tallies);
    assert!(
        text.starts_with("gush storm simulate  preset article\n"),
        "{text}"
    );
    for expected in [
        "12,000",
        "3,500",
        "1,200",
        "paced by the server",
        "last back",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    assert!(report.html().contains("<title>gush storm simulate</title>"));
    assert!(chart(&tallies).file().contains("full jitter"));
    let peak = report.value("no_backoff_peak_at_once_count");
    assert_eq!(peak, Some(100.0));
}

fn behaviours() -> impl Strategy<Value = Vec<Share>> {
    let all = [
        Behaviour::CHROMIUM,
        Behaviour::FIREFOX,
        Behaviour::LAUNCHDARKLY,
        Behaviour::EVENT_SOURCE_PLUS,
        Behaviour::POLYFILL,
        Behaviour::GUSH_SUB,
        Behaviour::FULL_JITTER,
    ];
    let share = (prop::sample::select(all.to_vec()), 1_u32..9)
        .prop_map(|(behaviour, parts)| Share { behaviour, parts });
    prop::collection::vec(share, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever is dropped is back, gone for ever or still trying, whatever is played.
    #[test]
    fn nobody_is_lost_from_the_counts(
        shares in behaviours(),
        subscribers in 1_u32..60,
        away_s in 0_u64..20,
        end_s in 0_u64..30,
        per_second in 1_u32..50,
        at_once in prop::option::of(0_usize..30),
        is_hard: bool,
        is_paced: bool,
        seed: u64,
    ) {
        let scenario = Scenario {
            subscribers,
            away: Duration::from_secs(away_s),
            notice: Duration::from_secs(2),
            service: Duration::from_millis(700),
            end: Duration::from_secs(end_s),
            seed,
        };
        let policy = Policy {
            name: "any",
            shares,
            admission: Admission {
                rate: Some(Rate::new(f64::from(per_second), 3)),
                at_once,
                refusing: if is_hard { Refusing::Hard } else { Refusing::Softly },
                ..Admission::paced(f64::from(per_second))
            },
            told: if is_paced { Told::Paced } else { Told::Nothing },
            closes_over: None,
        };
        let tally = simulate(&scenario, &policy);
        prop_assert!(tally.adds_up(), "{tally:?}");
        prop_assert!(tally.peak_at_once <= at_once.map_or(u64::MAX, |most| most as u64));
        let highest = tally.curve.iter().map(|(_, most)| *most).fold(0.0, f64::max);
        prop_assert_eq!(highest.to_string(), tally.peak_at_once.to_string());
    }
}
