//! Silence, and how streams end.

use std::collections::BTreeSet;
use std::time::Duration;

use super::rig::{ROOMY, Rig};
use crate::close::CloseReason;

#[test]
fn silence_is_broken_by_a_bare_comment() {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.heartbeat = Duration::from_secs(24);
    });
    let mut peer = rig.subscribe(&["a"]);
    rig.wait_taken_in(1);
    rig.advance(Duration::from_secs(20));
    rig.publish("a", "restarts the timer");
    assert_eq!(peer.data(), "restarts the timer");
    rig.advance(Duration::from_secs(20));
    rig.advance(Duration::from_secs(4));
    assert_eq!(peer.chunk().as_deref(), Some(":\n"));
    rig.wait_for("gush_heartbeats_total 1");
}

/// The delay in a chunk that is a `retry:` line and nothing else.
fn told(chunk: Option<String>) -> u64 {
    let chunk = chunk.unwrap_or_default();
    let line = chunk.strip_prefix("retry: ").unwrap_or(&chunk);
    line.trim_end().parse().expect("a retry line")
}

#[test]
fn open_streams_are_told_anew_when_the_crowd_has_grown_and_when_it_has_gone() {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.heartbeat = Duration::from_secs(24);
        settings.overload.comeback_rate = 1;
        settings.overload.retry_max = Duration::from_hours(1);
    });
    let mut quiet = rig.subscribe(&["a"]);
    let mut busy = rig.subscribe(&["b"]);
    rig.wait_taken_in(2);
    for _ in 0..5000 {
        rig.crowd.join();
    }
    rig.advance(Duration::from_secs(20));
    rig.publish("b", "never silent for long");
    assert_eq!(busy.data(), "never silent for long");
    rig.advance(Duration::from_secs(4));
    // An hour's window: one in a hundred would be below 40 s.
    let before = [told(quiet.chunk()), told(busy.chunk())];
    assert!(before.iter().all(|ms| *ms <= 3_601_000), "{before:?}");
    rig.wait_for("gush_retries_told_total 2");
    rig.advance(Duration::from_secs(24));
    assert_eq!(quiet.chunk().as_deref(), Some(":\n"), "once");
    for _ in 0..5000 {
        rig.crowd.leave();
    }
    rig.advance(Duration::from_secs(24));
    assert!((1000..=3000).contains(&told(quiet.chunk())));
}

#[test]
fn who_takes_no_byte_is_reset_after_the_write_timeout() {
    let rig = Rig::new(&ROOMY, |_| {});
    let mut stalled = rig.subscribe(&["a"]);
    let mut reading = rig.subscribe(&["a"]);
    rig.wait_taken_in(2);
    let data = "x".repeat(60_000);
    for _ in 0..400 {
        rig.publish("a", &data);
    }
    reading.expect_data((0..400).map(|_| data.clone()));
    rig.wait_for("gush_subscribers_behind 1");
    rig.advance(Duration::from_secs(29));
    rig.publish("a", "still there");
    reading.expect_data(["still there".to_owned()]);
    rig.wait_taken_in(2);
    rig.advance(Duration::from_secs(2));
    rig.wait_closed(CloseReason::WriteTimeout, 1);
    stalled.expect_reset();
    rig.wait_for("gush_subscribers_behind 0");
}

#[test]
fn a_stream_ends_with_its_token_and_not_before() {
    let rig = Rig::new(&ROOMY, |_| {});
    let mut peer = rig.subscribe_as(&["a"], rig.head(), |parts| parts.1 = Some(60_000));
    rig.wait_taken_in(1);
    rig.advance(Duration::from_millis(59_800));
    rig.publish("a", "still");
    while peer.chunk().expect("open") == ":\n" {}
    rig.advance(Duration::from_millis(200));
    rig.wait_closed(CloseReason::TokenExpired, 1);
    // A heartbeat may have become due on the way.
    while let Some(rest) = peer.chunk() {
        assert_eq!(rest, ":\n");
    }
}

#[test]
fn a_stream_lives_no_longer_than_allowed() {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.heartbeat = Duration::ZERO;
        settings.max_stream_life = Some(Duration::from_secs(200));
    });
    let mut peer = rig.subscribe(&["a"]);
    rig.wait_taken_in(1);
    rig.advance(Duration::from_secs(159));
    rig.publish("a", "still");
    assert_eq!(peer.data(), "still");
    rig.advance(Duration::from_secs(41));
    assert_eq!(peer.chunk(), None);
    rig.wait_closed(CloseReason::StreamLife, 1);
}

#[test]
fn a_drain_spreads_the_ends_and_gives_each_its_own_delay() {
    let mut rig = Rig::new(&ROOMY, |_| {});
    let mut peers: Vec<_> = (0..40).map(|_| rig.subscribe(&["a"])).collect();
    rig.wait_taken_in(40);
    rig.drain(Duration::from_secs(20));
    // Commands are obeyed in order: once this late one is in, the drain has begun.
    let _late = rig.subscribe(&["a"]);
    rig.wait_taken_in(41);
    for second in 1..=10 {
        rig.advance(Duration::from_secs(1));
        rig.wait_closed(CloseReason::Drain, second * 2);
    }
    rig.advance(Duration::from_secs(10));
    rig.wait_closed(CloseReason::Drain, 41);
    rig.thread
        .take()
        .expect("running")
        .join()
        .expect("no panic");
    rig.replayer.stop();
    let delays: BTreeSet<u64> = peers
        .iter_mut()
        .map(|peer| {
            let words = peer.chunk().expect("last words");
            assert_eq!(peer.chunk(), None);
            let delay = words
                .strip_prefix("retry: ")
                .and_then(|rest| rest.trim_end().parse().ok());
            delay.expect("a retry line")
        })
        .collect();
    assert!(delays.len() > 30, "{delays:?}");
    assert!(
        delays.iter().all(|delay| (1000..=3000).contains(delay)),
        "{delays:?}"
    );
}

#[test]
fn bytes_behind_a_subscribe_are_thrown_away_up_to_a_bound() {
    use std::io::Write;
    let rig = Rig::new(&ROOMY, |_| {});
    let mut peer = rig.subscribe(&["a"]);
    peer.socket
        .write_all(b"POST / HTTP/1.1\r\n\r\n")
        .expect("written");
    rig.publish("a", "served");
    assert_eq!(peer.data(), "served");
    // Fails once the hub has reset the connection.
    let _ = peer.socket.write_all(&vec![b'x'; 1 << 20]);
    rig.wait_closed(CloseReason::ProtocolError, 1);
}
