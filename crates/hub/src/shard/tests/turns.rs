//! Who gets a turn beside a sweep. The shard has no thread here, so that turns can be counted.

use gush_log::Offset;

use super::rig::{Peer, ROOMY, Rig};
use crate::close::CloseReason;
use crate::frame::Framing;
use crate::shard::Shard;

const NEVER_OVER: fn() -> bool = || false;

/// A shard with an event at hand that it has not begun to send to a live subscriber.
fn sweeping() -> (Rig, Shard, Peer) {
    let (rig, mut shard) = Rig::by_hand(&ROOMY);
    let live = rig.subscribe(&["a"]);
    shard.obey_commands();
    shard.give_turns(0, NEVER_OVER);
    assert_eq!(shard.ready.len(), 1, "no turn was given");
    shard.give_turns(1, NEVER_OVER);
    rig.wait_for("gush_subscribers_behind 0");
    rig.publish("a", "swept");
    shard.take_new_events();
    assert_eq!(shard.jobs.len(), 1);
    (rig, shard, live)
}

#[test]
fn who_only_has_to_be_told_that_it_is_live_waits_for_nobody() {
    let (rig, mut shard, mut live) = sweeping();
    let newcomers = (0..300).map(|_| rig.subscribe(&["a"]));
    let mut newcomers: Vec<_> = newcomers.collect();
    shard.obey_commands();
    assert!(!shard.give_turns(1, NEVER_OVER));
    assert!(shard.ready.is_empty());
    rig.wait_for("gush_subscribers_behind 0");
    // Each gets what comes from now on, and what was there before only who was.
    rig.publish("a", "next");
    shard.take_new_events();
    while !shard.jobs.is_empty() {
        shard.sweep_slice();
    }
    live.expect_data(["swept", "next"].map(str::to_owned));
    for newcomer in &mut newcomers {
        assert_eq!(newcomer.data(), "next");
    }
    newcomers[0].expect_nothing();
}

#[test]
fn who_is_sent_something_takes_a_turn_and_is_live_with_the_last_of_it() {
    let (rig, mut shard, _live) = sweeping();
    let mut behind: Vec<_> = (0..10)
        .map(|_| rig.subscribe_as(&["a"], Offset::FIRST, |_| {}))
        .collect();
    shard.obey_commands();
    assert!(!shard.give_turns(4, NEVER_OVER));
    assert_eq!(shard.ready.len(), 6);
    rig.wait_for("gush_subscribers_behind 6");
    assert!(!shard.give_turns(6, NEVER_OVER));
    rig.wait_for("gush_subscribers_behind 0");
    // The sweep passes over those who have had its event.
    while !shard.jobs.is_empty() {
        shard.sweep_slice();
    }
    for peer in &mut behind {
        assert_eq!(peer.data(), "swept");
        peer.expect_nothing();
    }
}

#[test]
fn who_has_left_takes_no_turn() {
    let (rig, mut shard, _live) = sweeping();
    let left: Vec<_> = (0..100)
        .map(|_| rig.subscribe_as(&["a"], Offset::FIRST, |_| {}))
        .collect();
    shard.obey_commands();
    let keys: Vec<_> = shard.ready.iter().map(|key| key.index).collect();
    assert_eq!(keys.len(), left.len());
    for index in keys {
        shard.close(index, CloseReason::PeerLeft);
    }
    let mut stays = rig.subscribe_as(&["a"], Offset::FIRST, |_| {});
    shard.obey_commands();
    assert!(!shard.give_turns(1, NEVER_OVER));
    assert_eq!(stays.data(), "swept");
    assert!(shard.ready.is_empty());
}

#[test]
fn the_time_bounds_turns_of_any_kind() {
    let (rig, mut shard, _live) = sweeping();
    let _newcomers: Vec<_> = (0..3).map(|_| rig.subscribe(&["a"])).collect();
    shard.obey_commands();
    assert!(shard.give_turns(usize::MAX, || true));
    assert_eq!(shard.ready.len(), 2);
}

/// In an upgrade nearly all streams come over at once, while live events come for those who are
/// there already: in the line of those who replay, which pauses for those, the last one waited for
/// seconds.
#[test]
fn who_comes_over_does_not_wait_with_those_who_replay() {
    let (rig, mut shard, _live) = sweeping();
    let _replaying = rig.subscribe_as(&["a"], Offset::FIRST, |_| {});
    let arrived = (0..10).map(|_| rig.come_over(&["a"], Offset::FIRST));
    let mut arrived: Vec<_> = arrived.collect();
    shard.obey_commands();
    while !shard.arrived.is_empty() {
        assert_eq!(shard.timeout(), Some(std::time::Duration::ZERO));
        shard.arrived_slice();
    }
    for peer in &mut arrived {
        assert_eq!(peer.data(), "swept");
    }
    assert_eq!(shard.ready.len(), 1, "who replays is still in line");
    // The sweep passes over those who have had its event.
    while !shard.jobs.is_empty() {
        shard.sweep_slice();
    }
    arrived[0].expect_nothing();
}

/// A slow reader takes it in many turns, and each of them copied all of it.
#[test]
fn a_large_event_of_the_window_is_shared_and_goes_alone() {
    let (rig, mut shard) = Rig::by_hand(&ROOMY);
    let large = "x".repeat(1 << 20);
    for data in ["small", &large, "small", "small"] {
        rig.publish("a", data);
        rig.publish("b", "passed over");
    }
    let _peer = rig.subscribe_as(&["a"], Offset::FIRST, |_| {});
    shard.obey_commands();
    let key = shard.ready[0];
    let mut window = Vec::new();
    shard.shared.window.take(Offset::FIRST, 8, &mut window);
    let mut ranges = Vec::new();
    let mut cursor = Offset::FIRST;
    while cursor < rig.head() {
        shard.subscribers.of_key(key).expect("there").cursor = cursor;
        let held = rig.replayer.gauge.bytes();
        let stretch = shard.frame_window(key).expect("in the window");
        let piece = stretch.piece(cursor, 0, usize::MAX).expect("an event");
        let end = stretch.reached(&piece, piece.len()).cursor;
        ranges.push((cursor.as_u64(), end.as_u64()));
        if piece.len() > 1 << 20 {
            let frame = stretch.frame(&piece);
            let theirs = window[2].frame.framed(Framing::Chunked);
            assert_eq!(frame.framed(Framing::Chunked).as_ptr(), theirs.as_ptr());
            assert_eq!(rig.replayer.gauge.bytes(), held);
        }
        cursor = end;
    }
    let first = Offset::FIRST.as_u64();
    assert_eq!(
        ranges,
        [(0, 2), (2, 3), (3, 8)].map(|(from, next)| (first + from, first + next))
    );
}
