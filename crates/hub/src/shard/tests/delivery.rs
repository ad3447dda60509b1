//! Who gets what, live and behind.

use gush_log::Offset;
use socket2::SockRef;

use super::rig::{Peer, ROOMY, Rig, Sizes, parse};
use crate::close::CloseReason;

#[test]
fn live_events_reach_those_who_asked_in_order() {
    let rig = Rig::new(&ROOMY, |_| {});
    let mut exact = rig.subscribe(&["a"]);
    let mut both = rig.subscribe(&["b", "a", "a"]);
    let mut all = rig.subscribe(&["*"]);
    let mut template = rig.subscribe(&["/{id}"]);
    for number in 0..500 {
        rig.publish("a", &format!("a{number}"));
        rig.publish("b", &format!("b{number}"));
        rig.append(&["/x", "a"], &format!("c{number}"), false);
    }
    exact.expect_data((0..500).flat_map(|n| [format!("a{n}"), format!("c{n}")]));
    template.expect_data((0..500).map(|n| format!("c{n}")));
    for peer in [&mut both, &mut all] {
        peer.expect_data(
            (0..500).flat_map(|n| [format!("a{n}"), format!("b{n}"), format!("c{n}")]),
        );
    }
}

#[test]
fn private_events_need_a_grant_for_one_of_their_topics() {
    let rig = Rig::new(&ROOMY, |_| {});
    let start = rig.head();
    let mut plain = rig.subscribe(&["a"]);
    let mut granted = rig.subscribe_as(&["a"], start, |parts| parts.0.grants = parse(&["/me"]));
    rig.append(&["a"], "other", true);
    rig.append(&["a", "/me"], "mine", true);
    rig.append(&["/me"], "not asked for", true);
    rig.publish("a", "end");
    granted.expect_data(["mine".to_owned(), "end".to_owned()]);
    plain.expect_data(["end".to_owned()]);
    // The same through the log, where nothing was matched beforehand.
    let mut replayed = rig.subscribe_as(&["a"], start, |parts| parts.0.grants = parse(&["/me"]));
    replayed.expect_data(["mine".to_owned(), "end".to_owned()]);
}

#[test]
fn a_slow_reader_gets_everything_from_the_log() {
    let sizes = Sizes {
        log_events: 100_000,
        window_events: 16,
    };
    let rig = Rig::new(&sizes, |_| {});
    let mut slow = rig.subscribe(&["a"]);
    SockRef::from(&slow.socket)
        .set_recv_buffer_size(64 * 1024)
        .expect("a socket option");
    let mut quick = rig.subscribe(&["a"]);
    let data = |number: u32| format!("{number} {}", "x".repeat(2000));
    for number in 0..4000 {
        rig.publish("a", &data(number));
        if number % 16 == 0 {
            rig.publish("b", "not for them");
        }
    }
    quick.expect_data((0..4000).map(data));
    rig.wait_for("gush_subscribers_behind 1");
    slow.expect_data((0..4000).map(data));
    rig.wait_for("gush_subscribers_behind 0");
    rig.publish("a", "live again");
    slow.expect_data(["live again".to_owned()]);
}

#[test]
fn what_was_trimmed_away_is_told_or_ends_the_stream() {
    let sizes = Sizes {
        log_events: 50,
        window_events: 10,
    };
    let rig = Rig::new(&sizes, |_| {});
    let start = rig.head();
    for number in 0..100 {
        rig.publish("a", &number.to_string());
    }
    let mut told = rig.subscribe_as(&["a"], start, |parts| parts.0.wants_gap = true);
    let gap = told.chunk().expect("the gap event");
    assert_eq!(
        gap,
        "event: gush-gap\ndata: {\"events\":50,\"reason\":\"trimmed\"}\n\n"
    );
    told.expect_data((50..100).map(|number| number.to_string()));
    let mut plain = rig.subscribe_as(&["a"], start, |_| {});
    assert_eq!(plain.chunk(), None);
    rig.wait_closed(CloseReason::Gap, 1);
}

/// Subscribers come, go and resume at random while events are published; each sees exactly the
/// events for it from its cursor on, in order. Failures print the seed.
#[test]
fn nobody_misses_or_repeats_an_event_whatever_the_others_do() {
    for seed in 0..30 {
        churn(seed);
    }
}

fn churn(seed: u64) {
    struct Follower {
        peer: Peer,
        topics: Vec<usize>,
        expected: Vec<String>,
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let sizes = Sizes {
        log_events: 100_000,
        window_events: random.usize(4..200),
    };
    let rig = Rig::new(&sizes, |_| {});
    let mut published: Vec<(usize, String)> = Vec::new();
    let mut followers: Vec<Follower> = Vec::new();
    let wanted = |topics: &[usize], from: usize, published: &[(usize, String)]| -> Vec<String> {
        published[from..]
            .iter()
            .filter(|(topic, _)| topics.contains(topic))
            .map(|(_, data)| data.clone())
            .collect()
    };
    for step in 0..300 {
        match random.u32(0..10) {
            0..6 => {
                for burst in 0..random.usize(1..30) {
                    let topic = random.usize(0..4);
                    let data = format!("{seed}.{step}.{burst}");
                    rig.publish(&topic.to_string(), &data);
                    published.push((topic, data.clone()));
                    for follower in &mut followers {
                        if follower.topics.contains(&topic) {
                            follower.expected.push(data.clone());
                        }
                    }
                }
            }
            6..9 => {
                let topics: Vec<usize> = (0..4).filter(|_| random.bool()).collect();
                if topics.is_empty() {
                    continue;
                }
                let from = random.usize(0..=published.len());
                let names: Vec<String> = topics.iter().map(ToString::to_string).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let start = Offset::FIRST.plus(from as u64);
                let peer = rig.subscribe_as(&names, start, |_| {});
                let expected = wanted(&topics, from, &published);
                followers.push(Follower {
                    peer,
                    topics,
                    expected,
                });
            }
            _ if followers.is_empty() => {}
            _ => {
                // Leaves at once, with whatever is under way.
                followers.swap_remove(random.usize(0..followers.len()));
            }
        }
    }
    for (number, follower) in followers.iter_mut().enumerate() {
        for (place, expected) in follower.expected.iter().enumerate() {
            let found = follower.peer.data();
            assert_eq!(
                &found, expected,
                "seed {seed}, follower {number}, event {place}"
            );
        }
    }
}
