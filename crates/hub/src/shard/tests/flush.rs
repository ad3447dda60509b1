//! Events that are held back, and when they go.

use std::time::Duration;

use super::rig::{Peer, ROOMY, Rig};

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

fn data(numbers: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    numbers.map(|number| number.to_string())
}

#[test]
fn an_event_is_held_until_its_interval_is_over() {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.flush_interval = Duration::from_millis(500);
        settings.flush_batch = 0;
        settings.flush_topics = vec![Marker::RULE.into()];
    });
    let mut peer = rig.subscribe(&["a"]);
    let mut marker = Marker::new(&rig);
    rig.wait_taken_in(2);
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
    let rig = Rig::new(&ROOMY, |settings| {
        settings.flush_interval = Duration::from_mins(1);
        settings.flush_batch = 3;
        settings.flush_topics = vec![Marker::RULE.into()];
    });
    let mut peer = rig.subscribe(&["a"]);
    let mut marker = Marker::new(&rig);
    rig.wait_taken_in(2);
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
    let rig = Rig::new(&ROOMY, |settings| {
        settings.flush_interval = Duration::from_secs(1);
        settings.flush_batch = 0;
        settings.flush_topics = vec![Marker::RULE.into()];
    });
    let mut early = rig.subscribe(&["a"]);
    let mut marker = Marker::new(&rig);
    rig.wait_taken_in(2);
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
