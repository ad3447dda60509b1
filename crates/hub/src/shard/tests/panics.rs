//! A fault in one stream, injected: it ends that stream and nothing else.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use gush_log::Offset;
use mio::Events;

use super::rig::{ROOMY, Rig, Sizes};
use crate::close::CloseReason;
use crate::matcher_table::{FAULTY_EVENT, FAULTY_NEWCOMER};
use crate::shard::Shard;
use crate::socket::faults::{Place, arm};
use crate::topic::FAULTY_MATCHER;

fn wait_panics(rig: &Rig, count: u32) {
    rig.wait_for(&format!("gush_panics_total{{where=\"shard\"}} {count}"));
}

/// Everybody but one of a sweep over several slices has all events, each once and in order.
#[test]
fn a_panic_in_a_write_ends_one_stream_in_the_middle_of_a_sweep() {
    // Both ends of each stream are here: more than the 1,024 that many start with.
    crate::limits::raise_descriptors();
    let rig = Rig::new(&ROOMY, |_| {});
    let mut peers: Vec<_> = (0..600).map(|_| rig.subscribe(&["a"])).collect();
    rig.wait_for("gush_subscribers_behind 0");
    rig.wait_taken_in(600);
    for (victim, place) in [(300, Place::Write), (10, Place::Wrote)] {
        arm(peers[victim].descriptor, place);
    }
    for number in 0..20 {
        rig.publish("a", &number.to_string());
    }
    let mut victims: Vec<_> = [300, 10].map(|at| peers.swap_remove(at)).into();
    for peer in &mut peers {
        peer.expect_data((0..20).map(|number| number.to_string()));
    }
    for victim in &mut victims {
        victim.expect_reset();
    }
    rig.wait_closed(CloseReason::Panic, 2);
    wait_panics(&rig, 2);
    rig.wait_taken_in(598);
    rig.wait_for("gush_subscribers_behind 0");
}

#[test]
fn a_panic_anywhere_in_a_sink_ends_that_stream() {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.heartbeat = Duration::from_secs(24);
    });
    let mut before = rig.subscribe(&["a"]);
    let mut count = 0;
    for (place, reason) in [
        (Place::Hear, CloseReason::Panic),
        (Place::Flush, CloseReason::Panic),
        (Place::Write, CloseReason::Panic),
        (Place::Close, CloseReason::PeerLeft),
    ] {
        let mut victim = rig.subscribe(&["b"]);
        rig.wait_taken_in(2);
        arm(victim.descriptor, place);
        match place {
            Place::Hear => victim.socket.write_all(b"x").expect("written"),
            Place::Close => victim.socket.shutdown(Shutdown::Write).expect("open"),
            // The next heartbeat, and the room after a full socket.
            Place::Write => rig.advance(Duration::from_secs(24)),
            Place::Flush => {
                for _ in 0..400 {
                    rig.publish("b", &"x".repeat(60_000));
                }
                rig.wait_for("gush_subscribers_behind 1");
            }
            Place::Register | Place::Wrote => unreachable!("other tests"),
        }
        if place == Place::Close {
            assert_eq!(victim.chunk(), None);
        } else {
            victim.expect_reset();
        }
        count += 1;
        wait_panics(&rig, count);
        rig.wait_taken_in(1);
        rig.publish("a", "goes on");
        assert_eq!(before.data(), "goes on");
        assert!(rig.page().contains(&format!(
            "gush_streams_closed_total{{reason=\"{}\"}} {}",
            reason.name(),
            if reason == CloseReason::Panic {
                count
            } else {
                1
            }
        )));
    }
}

#[test]
fn a_newcomer_whose_socket_panics_takes_nobody_with_it() {
    let (rig, mut shard) = Rig::by_hand(&ROOMY);
    let mut first = rig.subscribe(&["a"]);
    let mut victim = rig.subscribe(&["a", "b"]);
    let mut last = rig.subscribe(&["a"]);
    arm(victim.descriptor, Place::Register);
    turn(&mut shard);
    victim.expect_reset();
    assert_eq!(shard.subscribers.len(), 2);
    assert_eq!(shard.matchers.len(), 1, "b is nobody's");
    rig.publish("a", "all");
    turn(&mut shard);
    for peer in [&mut first, &mut last] {
        assert_eq!(peer.data(), "all");
    }
    assert_eq!(shard.shared.panics.shard.caught(), 1);
}

#[test]
fn a_newcomer_whose_matchers_panic_leaves_nothing_behind() {
    let (rig, mut shard) = Rig::by_hand(&ROOMY);
    let mut victim = rig.subscribe(&["a", "/{b}", FAULTY_NEWCOMER]);
    turn(&mut shard);
    victim.expect_reset();
    assert_eq!(shard.subscribers.len(), 0);
    assert!(shard.matchers.is_empty());
    assert!(shard.lists.iter().all(Vec::is_empty));
    assert!(shard.ready.is_empty());
    rig.wait_for("gush_subscribers_behind 0");
    rig.wait_taken_in(0);
    rig.wait_closed(CloseReason::Panic, 1);
}

#[test]
fn a_matcher_that_panics_ends_its_streams_and_the_event_reaches_the_others() {
    let rig = Rig::new(&ROOMY, |_| {});
    let mut exact = rig.subscribe(&["/faulty/now"]);
    let mut victims = [(); 2].map(|()| rig.subscribe(&["a", FAULTY_MATCHER]));
    let mut all = rig.subscribe(&["*"]);
    let mut template = rig.subscribe(&["/faulty/{x}"]);
    rig.wait_for("gush_subscribers_behind 0");
    rig.wait_taken_in(5);
    for data in ["1", "2", "3"] {
        rig.publish("/faulty/now", data);
        rig.publish("a", "not for all of them");
    }
    for peer in [&mut exact, &mut template] {
        peer.expect_data(["1", "2", "3"].map(str::to_owned));
    }
    let between = "not for all of them";
    all.expect_data(["1", between, "2", between, "3", between].map(str::to_owned));
    for victim in &mut victims {
        victim.expect_reset();
    }
    rig.wait_closed(CloseReason::Panic, 2);
    rig.wait_taken_in(3);
}

#[test]
fn an_event_at_which_the_table_panics_reaches_all_and_ends_nobody() {
    let rig = Rig::new(&ROOMY, |_| {});
    let mut peers = [&[FAULTY_EVENT][..], &["/faulty/{x}"], &["b", "*"]].map(|m| rig.subscribe(m));
    rig.wait_for("gush_subscribers_behind 0");
    rig.wait_taken_in(3);
    for number in 0..40 {
        rig.publish(FAULTY_EVENT, &number.to_string());
        for peer in &mut peers {
            assert_eq!(peer.data(), number.to_string());
        }
    }
    wait_panics(&rig, 40);
    rig.wait_taken_in(3);
}

#[test]
fn who_is_behind_and_panics_ends_alone() {
    let rig = Rig::new(&ROOMY, |_| {});
    rig.publish("/faulty/now", "old");
    let mut other = rig.subscribe_as(&["/faulty/{x}"], Offset::FIRST, |_| {});
    let mut victim = rig.subscribe_as(&[FAULTY_MATCHER], Offset::FIRST, |_| {});
    let mut second = rig.subscribe_as(&["/faulty/{x}"], Offset::FIRST, |_| {});
    victim.expect_reset();
    for peer in [&mut other, &mut second] {
        assert_eq!(peer.data(), "old");
    }
    rig.wait_closed(CloseReason::Panic, 1);
    rig.wait_for("gush_subscribers_behind 0");
}

/// The log is read by helpers, which go on as well.
#[test]
fn a_replay_that_panics_ends_its_stream_and_no_other() {
    let sizes = Sizes {
        log_events: 1000,
        window_events: 4,
    };
    let rig = Rig::new(&sizes, |_| {});
    for number in 0..100 {
        rig.publish("/faulty/now", &number.to_string());
    }
    for _ in 0..5 {
        let mut victim = rig.subscribe_as(&[FAULTY_MATCHER], Offset::FIRST, |_| {});
        victim.expect_reset();
    }
    rig.wait_closed(CloseReason::Panic, 5);
    rig.wait_for("gush_panics_total{where=\"replay\"} 5");
    let mut other = rig.subscribe_as(&["/faulty/now"], Offset::FIRST, |_| {});
    other.expect_data((0..100).map(|number| number.to_string()));
}

#[test]
fn a_drain_goes_on_behind_a_stream_that_panics() {
    let mut rig = Rig::new(&ROOMY, |_| {});
    let mut peers: Vec<_> = (0..20).map(|_| rig.subscribe(&["a"])).collect();
    rig.wait_for("gush_subscribers_behind 0");
    rig.wait_taken_in(20);
    arm(peers[7].descriptor, Place::Close);
    rig.drain(Duration::from_secs(20));
    let _late = rig.subscribe(&["a"]);
    rig.wait_taken_in(21);
    rig.advance(Duration::from_secs(20));
    rig.wait_closed(CloseReason::Drain, 21);
    let ended = rig.thread.take().expect("running").join();
    ended.expect("the shard did not panic");
    rig.replayer.stop();
    for (number, peer) in peers.iter_mut().enumerate() {
        // The one that panicked had its last words in hand.
        assert_eq!(peer.chunk().is_some(), number != 7, "{number}");
    }
    wait_panics(&rig, 1);
}

/// The process that is to end is this test again, with a word in its environment.
#[test]
fn panics_without_end_and_without_a_stream_end_the_hub() {
    const NAME: &str = "shard::tests::panics::panics_without_end_and_without_a_stream_end_the_hub";
    const IS_TO_END: &str = "GUSH_TEST_SHARD_PANICS";
    if std::env::var_os(IS_TO_END).is_some() {
        let (rig, mut shard) = Rig::by_hand(&ROOMY);
        let mut peer = rig.subscribe(&["*"]);
        turn(&mut shard);
        for _ in 0..17 {
            rig.publish(FAULTY_EVENT, "each of them, in one turn");
        }
        turn(&mut shard);
        panic!("served {:?}", peer.chunk());
    }
    let ended = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", NAME])
        .env(IS_TO_END, "1")
        .output()
        .expect("it runs");
    assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
}

fn turn(shard: &mut Shard) {
    shard.whole_turn(&Events::with_capacity(1));
}
