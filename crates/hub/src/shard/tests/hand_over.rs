//! Streams on their way to another process, which is the test here.

use std::io::Read;
use std::time::Duration;

use super::rig::{ROOMY, Rig};
use crate::close::CloseReason;
use crate::shard::{Command, HandOver, Way};
use crate::socket::Sink;
use crate::socket::records::tests::hear;
use crate::socket::table::SOCKETS_MAX;
use crate::socket::tls::tests::connected;
use crate::upgrade::{Channel, StreamNote, StreamNotes};

/// What of a plain stream and one under TLS comes by the way, and the client's end of the second.
fn handed_over(takes_tls: bool) -> (StreamNotes, usize, Vec<u8>, bool) {
    let rig = Rig::new(&ROOMY, |_| {});
    let _plain = rig.subscribe(&["a"]);
    let (sink, mut client, mut theirs) = connected(0);
    rig.give(Sink::Tls(Box::new(sink)), &["a"], rig.head(), |_| {});
    rig.wait_for("gush_subscribers_behind 0");
    rig.wait_for("gush_subscribers_open{sink=\"tls\"} 1");
    let (here, there) = Channel::pair().expect("a pair");
    let sent = rig.inbox.send(Command::HandOver(Box::new(HandOver {
        way: Way::Here(here),
        takes_tls,
        together: SOCKETS_MAX,
        window: Duration::ZERO,
    })));
    assert!(sent.is_ok());
    let (notes, sockets) = there.receive::<StreamNotes>().expect("streams");
    let secret_bytes = notes.iter().map(StreamNote::tls_bytes).sum();
    there.receive_bytes(secret_bytes).expect("their secrets");
    if takes_tls {
        rig.wait_closed(CloseReason::HandedOver, 2);
        // Nothing was said to the client, and the socket is open as long as the other has it.
        drop(sockets);
    } else {
        rig.wait_closed(CloseReason::Drain, 1);
    }
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes).expect("an end in time");
    let (plain, is_end) = hear(&mut client, &bytes);
    (notes, secret_bytes, plain, is_end)
}

#[test]
fn who_takes_streams_under_tls_gets_them() {
    let (notes, secret_bytes, plain, is_end) = handed_over(true);
    assert_eq!(notes.len(), 2);
    assert!(secret_bytes > 0);
    assert_eq!((plain.len(), is_end), (0, false));
}

/// A binary from before they went over.
#[test]
fn who_takes_no_streams_under_tls_gets_the_others() {
    let (notes, secret_bytes, plain, is_end) = handed_over(false);
    assert_eq!((notes.len(), secret_bytes), (1, 0));
    assert!(notes[0].tls.is_none());
    assert!(is_end, "it ends in order");
    assert!(plain.starts_with(b"retry:"), "{plain:?}");
}

/// What did not reach the other process goes on here until it is ended, under the same key.
#[test]
fn a_stream_under_tls_that_reaches_nobody_is_ended_in_order() {
    let rig = Rig::new(&ROOMY, |_| {});
    let (sink, mut client, mut theirs) = connected(0);
    rig.give(Sink::Tls(Box::new(sink)), &["a"], rig.head(), |_| {});
    rig.wait_for("gush_subscribers_behind 0");
    rig.wait_for("gush_subscribers_open{sink=\"tls\"} 1");
    let (here, there) = Channel::pair().expect("a pair");
    drop(there);
    let sent = rig.inbox.send(Command::HandOver(Box::new(HandOver {
        way: Way::Here(here),
        takes_tls: true,
        together: SOCKETS_MAX,
        window: Duration::ZERO,
    })));
    assert!(sent.is_ok());
    rig.wait_closed(CloseReason::Drain, 1);
    let mut bytes = Vec::new();
    theirs.read_to_end(&mut bytes).expect("an end in time");
    let (plain, is_end) = hear(&mut client, &bytes);
    assert!(is_end && plain.starts_with(b"retry:"), "{plain:?}");
}
