//! Events that are held back, and when they go.

use std::time::Duration;

use gush_log::{Conflation, Draft};

use super::rig::{Peer, ROOMY, Rig, Sizes, topic_of};

/// What is published from then on is held back for everybody.
const UP_TO_DATE: &str = "gush_subscribers_behind 0";

/// Tells when the shard has taken in everything published so far.
struct Marker(Peer);

impl Marker {
    /// Its events are never held; for rigs with an interval for all topics.
    const RULE: &str = "marker=0";

    fn new(rig: &Rig) -> Self {
        Self(rig.subscribe(&["marker"]))
    }

    fn wait(&mut self, rig: &Rig) {
        rig.publish("marker", "taken");
        assert_eq!(self.0.data(), "taken");
    }
}

/// A rig that holds everything but markers, a subscriber of `a`, and a marker.
fn holding(interval: Duration, batch: u32) -> (Rig, Peer, Marker) {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.flush_interval = interval;
        settings.flush_batch = batch;
        settings.flush_topics = vec![Marker::RULE.into()];
    });
    let peer = rig.subscribe(&["a"]);
    let marker = Marker::new(&rig);
    rig.wait_taken_in(2);
    (rig, peer, marker)
}

fn data(numbers: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    numbers.map(|number| number.to_string())
}

#[test]
fn an_event_is_held_until_its_interval_is_over() {
    let (rig, mut peer, mut marker) = holding(Duration::from_millis(500), 0);
    for number in 0..3 {
        rig.publish("a", &number.to_string());
    }
    marker.wait(&rig);
    rig.advance(Duration::from_millis(400));
    marker.wait(&rig);
    peer.expect_nothing();
    rig.advance(Duration::from_millis(100));
    peer.expect_data(data(0..3));
}

#[test]
fn a_full_batch_goes_at_once() {
    let (rig, mut peer, mut marker) = holding(Duration::from_mins(1), 3);
    rig.publish("a", "0");
    rig.publish("a", "1");
    marker.wait(&rig);
    peer.expect_nothing();
    rig.publish("a", "2");
    peer.expect_data(data(0..3));
}

#[test]
fn an_event_that_is_not_held_brings_the_held_ones_before_it() {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.flush_topics = vec!["slow=60s".into()];
    });
    let mut both = rig.subscribe(&["slow", "fast"]);
    let mut slow = rig.subscribe(&["slow"]);
    rig.wait_taken_in(2);
    rig.publish("slow", "0");
    rig.publish("slow", "1");
    rig.publish("fast", "2");
    rig.publish("slow", "3");
    both.expect_data(data(0..3));
    slow.expect_nothing();
    rig.publish("fast", "4");
    both.expect_data(data(3..5));
    rig.advance(Duration::from_mins(1));
    slow.expect_data(["0", "1", "3"].map(str::to_owned));
}

#[test]
fn a_newcomer_gets_each_held_event_once() {
    let (rig, mut early, mut marker) = holding(Duration::from_secs(1), 0);
    let before = rig.head();
    for number in 0..5 {
        rig.publish("a", &number.to_string());
    }
    // It replays from before the held events, and must not get them again with the others.
    let mut late = rig.subscribe_as(&["a"], before, |_| {});
    late.expect_data(data(0..5));
    rig.advance(Duration::from_secs(1));
    rig.publish("a", "5");
    marker.wait(&rig);
    rig.advance(Duration::from_secs(1));
    early.expect_data(data(0..6));
    late.expect_data(data(5..6));
}

#[test]
fn an_event_behind_many_held_ones_is_not_passed_over() {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.flush_topics = vec!["slow=60s".into()];
    });
    let mut fast = rig.subscribe(&["fast"]);
    let mut both = rig.subscribe(&["slow", "fast"]);
    rig.publish("fast", "0");
    fast.expect_data(data(0..1));
    both.expect_data(data(0..1));
    rig.wait_for(UP_TO_DATE);
    // More than are looked at for one write, and more of them than one write takes.
    for held in [300, 64, 128] {
        for number in 0..held {
            rig.publish("slow", &number.to_string());
        }
        rig.publish("fast", "now");
        fast.expect_data(["now".to_owned()]);
        both.expect_data(data(0..held).chain(["now".to_owned()]));
    }
}

#[test]
fn who_leaves_in_a_drain_gets_what_is_held_first() {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.flush_topics = vec!["slow=60s".into()];
    });
    let mut peer = rig.subscribe(&["slow", "fast"]);
    rig.publish("fast", "0");
    peer.expect_data(data(0..1));
    let mut marker = Marker::new(&rig);
    rig.wait_taken_in(2);
    rig.wait_for(UP_TO_DATE);
    for number in 1..101 {
        rig.publish("slow", &number.to_string());
    }
    marker.wait(&rig);
    rig.drain(Duration::ZERO);
    peer.expect_data(data(1..101));
    assert!(peer.chunk().expect("last words").starts_with("retry:"));
    assert_eq!(peer.chunk(), None);
}

#[test]
fn who_has_lived_long_enough_gets_what_is_held_first() {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.heartbeat = Duration::ZERO;
        settings.max_stream_life = Some(Duration::from_secs(200));
        settings.flush_topics = vec!["slow=60s".into()];
    });
    let mut peer = rig.subscribe(&["slow", "fast"]);
    rig.publish("fast", "0");
    peer.expect_data(data(0..1));
    rig.advance(Duration::from_secs(159));
    let mut marker = Marker::new(&rig);
    rig.wait_taken_in(2);
    rig.wait_for(UP_TO_DATE);
    rig.publish("slow", "1");
    marker.wait(&rig);
    rig.advance(Duration::from_secs(41));
    peer.expect_data(data(1..2));
    assert_eq!(peer.chunk(), None);
}

#[test]
fn a_shard_that_was_overtaken_holds_nothing_back() {
    let sizes = Sizes {
        log_events: 100_000,
        window_events: 100,
    };
    let rig = Rig::new(&sizes, |settings| {
        settings.flush_topics = vec!["slow=60s".into()];
    });
    let mut peer = rig.subscribe(&["slow", "fast"]);
    rig.publish("fast", "0");
    peer.expect_data(data(0..1));
    let mut marker = Marker::new(&rig);
    rig.wait_taken_in(2);
    rig.wait_for(UP_TO_DATE);
    rig.publish("slow", "1");
    marker.wait(&rig);
    // Before the shard can look at them, the first of these have left the window.
    let drafts = (2..302).map(|number: u32| draft("slow", &number.to_string()));
    let all_in = |outcomes: Vec<Result<_, _>>| assert!(outcomes.iter().all(Result::is_ok));
    rig.log.append_batch(drafts.collect(), Box::new(all_in));
    peer.expect_data(data(1..302));
}

fn draft(topic: &str, data: &str) -> Draft {
    Draft {
        topics: [topic_of(topic)].into(),
        is_private: false,
        id: None,
        kind: None,
        retry_ms: None,
        conflation: Conflation::default(),
        data: data.into(),
    }
}
