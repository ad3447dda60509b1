//! Subscribers that are written to in one go are still each on their own.

use std::io::Read;
use std::net::TcpStream;

use mio::Events;

use super::rig::{Peer, ROOMY, Rig, pair};
use crate::frame::Framing;
use crate::shard::Shard;
use crate::shard::subscriber::Phase;
use crate::socket::faults::{Place, arm};
use crate::socket::volley::SHOTS_MAX;
use crate::socket::{Sink, TcpSink};

fn turn(shard: &mut Shard) {
    shard.whole_turn(&Events::with_capacity(1));
}

/// Until nothing is left to be swept.
fn turns(shard: &mut Shard) {
    turn(shard);
    while !shard.jobs.is_empty() {
        turn(shard);
    }
}

/// The places of those that are there.
fn places(shard: &Shard) -> Vec<u32> {
    let all = 0..shard.subscribers.places();
    all.filter(|place| shard.subscribers.get(*place).is_some())
        .collect()
}

#[test]
fn a_panic_over_one_write_leaves_the_others_of_its_volley_noted() {
    let (rig, mut shard) = Rig::by_hand(&ROOMY);
    let mut peers: Vec<_> = (0..2 * SHOTS_MAX).map(|_| rig.subscribe(&["a"])).collect();
    turns(&mut shard);
    // Two of one volley, one of them its last; the lists are swept from their end.
    for victim in [SHOTS_MAX + 7, SHOTS_MAX] {
        arm(peers[victim].descriptor, Place::Wrote);
    }
    rig.publish("a", "0");
    turns(&mut shard);
    let left = places(&shard);
    assert_eq!(left.len(), 2 * SHOTS_MAX - 2);
    for place in left {
        let subscriber = shard.subscribers.get(place).expect("it is there");
        let noted = (subscriber.events, subscriber.cursor, subscriber.phase);
        assert_eq!(noted, (1, rig.head(), Phase::Live), "{place}");
    }
    rig.publish("a", "1");
    turns(&mut shard);
    for victim in [SHOTS_MAX + 7, SHOTS_MAX] {
        peers.remove(victim).expect_reset();
    }
    for peer in &mut peers {
        peer.expect_data(["0", "1"].map(str::to_owned));
    }
    assert_eq!(shard.shared.panics.shard.caught(), 2);
}

/// A stream without chunks, as HTTP/1.0 has it.
fn subscribe_raw(rig: &Rig) -> TcpStream {
    let (ours, theirs) = pair();
    ours.set_nonblocking(true).expect("a socket option");
    let sink = Sink::Tcp(TcpSink::new(ours, Framing::Raw));
    rig.give(sink, &["a"], rig.head(), |_| {});
    theirs
}

#[test]
fn neighbours_in_a_list_are_framed_alike_or_not_and_have_room_or_not() {
    let (rig, mut shard) = Rig::by_hand(&ROOMY);
    let (mut chunked, mut raw, mut small): (Vec<Peer>, Vec<_>, Vec<Peer>) = Default::default();
    for number in 0..60 {
        match number % 7 {
            2 | 3 => raw.push(subscribe_raw(&rig)),
            5 => small.push(rig.subscribe_small(&["a"], rig.head())),
            _ => chunked.push(rig.subscribe(&["a"])),
        }
    }
    turns(&mut shard);
    let long = "x".repeat(100_000);
    for data in ["short", &long, "after"] {
        rig.publish("a", data);
        turns(&mut shard);
    }
    // Each socket that had no room is behind by its own bytes, and nobody else is.
    let mut blocked = 0;
    for place in places(&shard) {
        let subscriber = shard.subscribers.get(place).expect("it is there");
        if subscriber.phase == Phase::Live {
            assert_eq!((subscriber.events, subscriber.cursor), (3, rig.head()));
        } else {
            assert_eq!(subscriber.events, 1);
            assert!((1..100_000).contains(&subscriber.partial));
            blocked += 1;
        }
    }
    assert_eq!(blocked, small.len());
    for peer in &mut chunked {
        peer.expect_data(["short", &long, "after"].map(str::to_owned));
    }
    for socket in &mut raw {
        let mut text = Vec::new();
        while !text.ends_with(b"data: after\n\n") {
            let mut buffer = vec![0; 64 * 1024];
            let count = socket.read(&mut buffer).expect("bytes in time");
            text.extend_from_slice(&buffer[..count]);
        }
        let text = String::from_utf8(text).expect("UTF-8");
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        assert!(data.eq(["short", &long, "after"]));
    }
}
