//! Lines that are no events, cut by a full sink.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gush_sse::{Item, Parser};
use hyper::body::Body;

use super::rig::{PATIENCE, ROOMY, Rig};
use crate::socket::{PIPE_BYTES_MAX, PipeBody, Sink, pipe};

const HEARTBEAT: Duration = Duration::from_secs(24);

/// A rig whose crowd has grown since its streams were told.
fn grown() -> Rig {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.heartbeat = HEARTBEAT;
        settings.overload.comeback_rate = 1;
        settings.overload.retry_max = Duration::from_hours(1);
    });
    for _ in 0..5000 {
        rig.crowd.join();
    }
    rig
}

/// What a pipe brings until it has brought the words.
fn read_until(body: &mut PipeBody, words: &str, text: &mut String) {
    let started = Instant::now();
    while !text.contains(words) {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut *body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => {
                let piece = frame.into_data().expect("data");
                text.push_str(std::str::from_utf8(&piece).expect("UTF-8"));
            }
            Poll::Ready(_) => panic!("ended after {text:?}"),
            Poll::Pending => std::thread::yield_now(),
        }
        assert!(started.elapsed() < PATIENCE, "no {words:?} in {text:?}");
    }
}

/// The items of a stream behind the comment that filled it.
fn items(text: &str) -> Vec<Item> {
    let mut items = vec![];
    let mut parser = Parser::new(1 << 20);
    let parsed = parser.push_items(text.as_bytes(), &mut |item| items.push(item));
    parsed.expect("a stream");
    items.split_off(1)
}

/// Fills a pipe but for so many bytes, lets the hub speak, and empties it.
fn spoken_into(room: usize) -> Vec<Item> {
    let rig = grown();
    let filling = format!(":{}\n", "x".repeat(PIPE_BYTES_MAX - room - 2));
    let (sink, mut body) = pipe(Bytes::from(filling));
    rig.give(Sink::Pipe(sink), &["a"], rig.head(), |_| {});
    rig.wait_for("gush_subscribers_open{sink=\"h2\"} 1");
    // It begins behind: only from here on that means that a line was cut.
    rig.wait_for("gush_subscribers_behind 0");
    rig.advance(HEARTBEAT);
    rig.wait_for("gush_subscribers_behind 1");
    rig.publish("a", "first");
    rig.publish("a", "second");
    let mut text = String::new();
    read_until(&mut body, "data: second\n\n", &mut text);
    rig.wait_for("gush_subscribers_behind 0");
    if room == 0 {
        assert!(!text.contains("retry"), "not a byte of it fitted");
        rig.advance(HEARTBEAT);
        read_until(&mut body, "retry: ", &mut text);
        read_until_line_end(&mut body, &mut text);
    }
    rig.wait_for("gush_retries_told_total 1");
    items(&text)
}

fn read_until_line_end(body: &mut PipeBody, text: &mut String) {
    if !text.ends_with('\n') {
        read_until(body, "\n", text);
    }
}

#[test]
fn the_rest_of_a_retry_line_goes_out_before_any_event() {
    for room in 1..=8 {
        let items = spoken_into(room);
        let [Item::Retry(_), Item::Event(first), Item::Event(second)] = &items[..] else {
            panic!("with room for {room}: {items:?}");
        };
        assert_eq!((&*first.data, &*second.data), ("first", "second"));
    }
}

#[test]
fn a_retry_line_of_which_nothing_fitted_is_told_with_the_next_heartbeat() {
    let items = spoken_into(0);
    assert!(
        matches!(items[..], [Item::Event(_), Item::Event(_), Item::Retry(_)]),
        "{items:?}"
    );
}
