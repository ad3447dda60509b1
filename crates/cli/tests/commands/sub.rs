//! `gush sub`: resuming, giving up, final answers, output. The hub is a script here, so that it
//! does what a hub does only on a bad day.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;

use crate::support::{Finished, Lines, end_of, finish, gush, holds};
use gush_testkit::{Failure, HubBuilder, Outcome, PATIENCE, own_address};

const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// An answer that ends so is not followed by the end of the connection.
const SILENCE: &str = ": now silent\n";

/// A hub that gives these answers, one per connection, and hands out the heads it got.
struct Script {
    url: String,
    heads: mpsc::Receiver<String>,
}

impl Script {
    fn new(answers: &[String]) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/hub", listener.local_addr()?);
        let (sender, heads) = mpsc::sync_channel(answers.len());
        let answers = answers.to_vec();
        std::thread::spawn(move || {
            let mut open = vec![];
            for answer in answers {
                let Ok((mut peer, _)) = listener.accept() else {
                    return;
                };
                let mut head = vec![];
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && peer.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                let _ = peer.write_all(answer.as_bytes());
                let _ = sender.send(String::from_utf8_lossy(&head).into_owned());
                if answer.ends_with(SILENCE) {
                    open.push(peer);
                }
            }
        });
        Ok(Self { url, heads })
    }

    fn head(&self) -> Outcome<String> {
        self.heads
            .recv_timeout(PATIENCE)
            .map_err(|_| Failure::new("no further request"))
    }
}

fn sub(script: &Script, arguments: &[&str]) -> Outcome<Finished> {
    let all = [&["sub", "a", "--hub", &script.url][..], arguments].concat();
    finish(gush(&all), "")
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn it_resumes_behind_the_last_event_and_ends_on_204() -> Outcome<()> {
    let script = Script::new(&[
        format!("{STREAM}:\nretry: 1\nid: 1\ndata: one\n\nid: 2\ndata: cut"),
        answer("503 Service Unavailable", "draining"),
        format!("{STREAM}id: 2\nevent: t\ndata: two\ndata: lines\n\n"),
        "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned(),
    ])?;
    let ended = sub(&script, &["--json"])?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(
        ended.stdout,
        "{\"id\":\"1\",\"type\":\"message\",\"data\":\"one\"}\n\
         {\"id\":\"2\",\"type\":\"t\",\"data\":\"two\\nlines\"}\n"
    );
    let first = script.head()?;
    holds(
        &first,
        &["GET /hub?topic=a HTTP/1.1", "accept: text/event-stream"],
    )?;
    assert!(!first.contains("last-event-id"), "{first}");
    for id in ["1", "1", "2"] {
        holds(&script.head()?, &[&format!("last-event-id: {id}\r\n")])?;
    }
    holds(&ended.stderr, &["503 draining"])
}

#[test]
fn it_gives_up_after_the_attempts_it_was_allowed() -> Outcome<()> {
    let busy = answer("503 Service Unavailable", "too many");
    // An empty stream is a failure too; one that brings an event starts the count again.
    let empty = format!("{STREAM}retry: 1\n\n");
    let good = format!("{STREAM}retry: 1\nid: 1\ndata: x\n\n");
    let script = Script::new(&[empty.clone(), good, busy.clone(), empty, busy])?;
    let ended = sub(&script, &["--max-attempts", "3"])?;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    holds(
        &ended.stderr,
        &[
            "gave up after 3 failed attempts",
            "503 too many",
            "--max-attempts",
        ],
    )?;
    for _ in 0..5 {
        script.head()?;
    }
    Ok(())
}

/// The waits that it told on stderr, in seconds.
fn waits(stderr: &str) -> Vec<f64> {
    let after = stderr.split("next attempt in ").skip(1);
    let words = after.filter_map(|text| text.split(' ').next());
    words.filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn it_never_comes_sooner_than_the_hub_asks_for() -> Outcome<()> {
    let later = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\
                 Connection: close\r\n\r\n";
    let script = Script::new(&[
        // A soft refusal: 200, `retry:` and the end.
        format!("{STREAM}retry: 400\n\n"),
        later.to_owned(),
        // After an event the ceiling is the first one again.
        format!("{STREAM}id: 1\ndata: x\n\n"),
        answer("401 Unauthorized", "bye"),
    ])?;
    let ended = sub(&script, &[])?;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    holds(&ended.stderr, &["a soft refusal", "bye"])?;
    let waits = waits(&ended.stderr);
    let bounds = [(0.4, 0.8), (1.0, 3.0), (0.4, 0.8)];
    assert_eq!(waits.len(), bounds.len(), "{}", ended.stderr);
    for (wait, (least, most)) in waits.iter().zip(bounds) {
        assert!((least..=most).contains(wait), "{wait}: {}", ended.stderr);
    }
    Ok(())
}

#[test]
fn it_gives_up_when_nobody_listens_and_says_so() -> Outcome<()> {
    let url = format!("http://{}/hub", own_address());
    let arguments = ["sub", "a", "--hub", &url, "--max-attempts", "2"];
    let ended = finish(gush(&arguments), "")?;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(waits(&ended.stderr).len(), 1, "{}", ended.stderr);
    holds(&ended.stderr, &["gave up after 2 failed attempts in a row"])
}

#[test]
fn a_full_hub_is_left_after_the_attempts_that_were_allowed_and_told_apart() -> Outcome<()> {
    // The hub asks for one to two seconds, in whole seconds and with none to two more where the
    // refusal is hard. Up to a second comes on top.
    for (refusals, text, longest) in [("soft", "a soft refusal", 3.0), ("hard", "503", 5.0)] {
        let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
            .anonymous()
            .option("--max-connections", "1")
            .option("--refusals", refusals)
            .start()?;
        let _stream = hub.subscribe(&[("topic", "a")])?;
        let url = format!("http://{}", hub.address());
        let arguments = ["sub", "a", "--hub", &url, "--max-attempts", "2"];
        let ended = finish(gush(&arguments), "")?;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        holds(&ended.stderr, &["gave up after 2 failed attempts", text])?;
        let waits = waits(&ended.stderr);
        let is_paced = waits.len() == 1 && (1.0..=longest).contains(&waits[0]);
        assert!(is_paced, "{}", ended.stderr);
    }
    Ok(())
}

#[test]
fn a_refusal_for_good_is_final_at_once() -> Outcome<()> {
    for (status, reason, hint) in [
        ("401 Unauthorized", "token expired 12 s ago", "--token"),
        ("403 Forbidden", "no", "--token"),
        ("400 Bad Request", "Missing topic", "400"),
        ("404 Not Found", "nothing here", "--hub"),
        ("301 Moved Permanently", "", "--hub"),
    ] {
        let script = Script::new(&[answer(status, reason)])?;
        let ended = sub(&script, &[])?;
        assert_eq!(ended.code, Some(1), "{status}: {ended:?}");
        holds(&ended.stderr, &[reason, hint])?;
    }
    let script = Script::new(&[answer("200 OK", "<html>")])?;
    let ended = sub(&script, &[])?;
    assert_eq!(ended.code, Some(1));
    holds(&ended.stderr, &["event stream", "--hub"])
}

#[test]
fn a_silent_stream_is_left_and_a_lost_cursor_is_told() -> Outcome<()> {
    let header = "Content-Type: text/event-stream\r\nLast-Event-ID: other";
    let silent = format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\nretry: 1\n{SILENCE}");
    let script = Script::new(&[silent, answer("401 Unauthorized", "bye")])?;
    let ended = sub(
        &script,
        &["--last-event-id", "mine", "--idle-timeout", "50ms", "--gap"],
    )?;
    assert_eq!(ended.code, Some(1));
    holds(&script.head()?, &["gush_gap=1", "last-event-id: mine"])?;
    holds(&ended.stderr, &["events may be missing", "silent", "bye"])
}

#[test]
fn events_come_out_as_they_happen_and_a_closed_pipe_is_no_failure() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .anonymous()
        .start()?;
    let url = format!("http://{}", hub.address());
    let first = hub.publish(&[("topic", "a"), ("data", "1")])?;
    let arguments = ["sub", "*", "--hub", &url, "--last-event-id", "earliest"];
    let mut child = gush(&arguments).spawn()?;
    let lines = Lines::of(child.stdout.take())?;
    assert_eq!(lines.next()?, format!("id: {first}"));
    for expected in ["type: message", "data: 1", ""] {
        assert_eq!(lines.next()?, expected);
    }
    let second = hub.publish(&[("topic", "a"), ("data", "2"), ("type", "t")])?;
    assert_eq!(lines.next()?, format!("id: {second}"));
    assert_eq!(lines.next()?, "type: t");
    drop(lines);
    // The reading thread is gone after at most one more line, then the pipe is closed.
    let mut ended = None;
    for _ in 0..20 {
        hub.publish(&[("topic", "a"), ("data", "3")])?;
        if let Some(status) = child.try_wait()? {
            ended = Some(status);
            break;
        }
    }
    let code = match ended {
        Some(status) => status.code(),
        None => end_of(child)?.code,
    };
    assert_eq!(code, Some(0));
    Ok(())
}

#[test]
fn nothing_is_lost_or_doubled_when_the_hub_is_killed_and_comes_back() -> Outcome<()> {
    let listen = own_address().to_string();
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .anonymous()
        .without_listeners()
        .option("--listen", &listen)
        .option("--admin-listen", "off")
        // Short, so that the test spends its time on the rounds and not on waiting.
        .option("--retry", "20ms");
    let mut hub = builder.start()?;
    let url = format!("http://{listen}");
    let arguments = [
        "sub",
        "a",
        "--hub",
        &url,
        "--json",
        "--max-attempts",
        "0",
        "--last-event-id",
        "earliest",
    ];
    let mut child = gush(&arguments).spawn()?;
    let lines = Lines::of(child.stdout.take())?;
    let result = (|| {
        for round in 0..3 {
            for number in 0..5 {
                let data = format!("{round}.{number}");
                let id = hub.publish(&[("topic", "a"), ("data", &data)])?;
                let expected =
                    format!("{{\"id\":\"{id}\",\"type\":\"message\",\"data\":\"{data}\"}}");
                // In even rounds the kill comes before the event was seen, perhaps.
                if round % 2 == 1 || number < 4 {
                    assert_eq!(lines.next()?, expected);
                } else {
                    hub.sigkill()?;
                    hub = builder.start()?;
                    assert_eq!(lines.next()?, expected);
                }
            }
        }
        Ok(())
    })();
    child.kill()?;
    child.wait()?;
    result
}

#[test]
fn count_ends_it() -> Outcome<()> {
    let script = Script::new(&[format!(
        "{STREAM}id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n\n"
    )])?;
    let ended = sub(&script, &["--count", "2"])?;
    assert_eq!(ended.code, Some(0));
    assert_eq!(
        ended.stdout,
        "id: 1\ntype: message\ndata: a\n\nid: 2\ntype: message\ndata: b\n\n"
    );
    Ok(())
}
