//! 1.7 history, replay and the answer header.

use super::{ensure, nothing_before, same};
use crate::{Case, Need, Target, case};
use gush_testkit::{Claims, Failure, Outcome};
use std::sync::atomic::{AtomicUsize, Ordering};

const NEEDS: &[Need] = &[Need::History];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = replay();
    cases.extend(filtered_replay());
    cases.extend(replayed_events());
    cases.extend(header());
    cases.extend(header_secrets());
    cases.push(case(
        "1.7/hand-over",
        NEEDS,
        "replay goes over to live without gap and without repeat: 400 events under continuous \
         publishing, subscribers join at every tenth",
        hand_over,
    ));
    cases.push(case(
        "1.7/resume-chain",
        NEEDS,
        "leaving and resuming after every few events, again and again, gives every event once",
        resume_chain,
    ));
    cases
}

fn replay() -> Vec<Case> {
    vec![
        case(
            "1.7/after-the-cursor",
            NEEDS,
            "all updates after the id, then live ones",
            |t| {
                let topic = t.topic();
                let ids = [
                    t.say(&topic, "0")?,
                    t.say(&topic, "1")?,
                    t.say(&topic, "2")?,
                ];
                for (at, id) in ids.iter().enumerate() {
                    let mut stream = t.resume(&topic, id)?;
                    for (n, id) in ids.iter().enumerate().skip(at + 1) {
                        let event = stream.expect_data(&n.to_string())?;
                        same("id of a replayed event", &event.id.as_ref(), &Some(id))?;
                    }
                }
                Ok(())
            },
        ),
        case(
            "1.7/then-live",
            NEEDS,
            "after the replay the stream is live",
            |t| {
                let topic = t.topic();
                let id = t.say(&topic, "0")?;
                t.say(&topic, "1")?;
                let mut stream = t.resume(&topic, &id)?;
                stream.expect_data("1")?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
        case(
            "1.7/one-history",
            NEEDS,
            "a cursor is a position in the hub's one history: the id of an update on another topic \
             will do, also a private one that the subscriber may not see",
            |t| {
                let (topic, other) = (t.topic(), t.topic());
                t.say(&topic, "before")?;
                let public = t.say(&other, "elsewhere")?;
                t.say(&topic, "between")?;
                let fields = [
                    ("topic", other.as_str()),
                    ("data", "secret"),
                    ("private", "on"),
                ];
                let private = t.publish(&fields)?;
                t.say(&topic, "after")?;
                let token = t.plain_token()?;
                let resume = |cursor: &str| {
                    let request = Target::subscribe_bare(&[("topic", &topic)]).bearer(&token);
                    t.open(&request.header("Last-Event-ID", cursor))
                };
                resume(&public)?.expect_all(&["between", "after"])?;
                resume(&private)?.expect_all(&["after"])
            },
        ),
    ]
}

fn filtered_replay() -> Vec<Case> {
    vec![
        case(
            "1.7/earliest",
            NEEDS,
            "`earliest` is everything stored",
            |t| {
                let topic = t.topic();
                t.say(&topic, "0")?;
                t.say(&topic, "1")?;
                let mut stream = t.resume(&topic, "earliest")?;
                stream.head().expect_header("Last-Event-ID", "earliest")?;
                stream.expect_all(&["0", "1"])?;
                nothing_before(t, &mut stream, &topic)?;
                t.subscribe(&[("topic", &topic), ("lastEventID", "earliest")])?
                    .expect_all(&["0", "1"])
            },
        ),
        case(
            "1.7/private-in-replay",
            NEEDS,
            "private rules apply to replay as to live",
            |t| {
                let topic = t.topic();
                let start = t.say(&topic, "public 1")?;
                t.publish(&[("topic", &topic), ("data", "secret"), ("private", "on")])?;
                t.say(&topic, "public 2")?;
                t.resume(&topic, &start)?
                    .expect_all(&["secret", "public 2"])?;
                let token = t
                    .subscriber
                    .sign(&Claims::new().subscribe(&["something else"]))?;
                let request = Target::subscribe_bare(&[("topic", &topic)]).bearer(&token);
                let mut stream = t.open(&request.header("Last-Event-ID", &start))?;
                stream.expect_data("public 2")?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
        case(
            "1.7/selectors-in-replay",
            NEEDS,
            "replay is filtered by selectors, once each",
            |t| {
                let base = t.topic();
                let start = t.say(&t.topic(), "start")?;
                let (one, deep) = (format!("{base}/1"), format!("{base}/1/2"));
                t.say(&one, "1")?;
                t.say(&deep, "1/2")?;
                t.publish(&[("topic", &deep), ("topic", &one), ("data", "both")])?;
                let template = format!("{base}/{{id}}");
                let mut stream = t.subscribe(&[
                    ("topic", &template),
                    ("topic", &one),
                    ("lastEventID", &start),
                ])?;
                stream.expect_all(&["1", "both"])?;
                nothing_before(t, &mut stream, &one)
            },
        ),
    ]
}

fn replayed_events() -> Vec<Case> {
    vec![
        case(
            "1.7/fields-in-replay",
            NEEDS,
            "a replayed event is the event as it was live",
            |t| {
                let topic = t.topic();
                let start = t.say(&topic, "start")?;
                let mut live = t.subscribe(&[("topic", &topic)])?;
                let own = format!("own {}", t.unique());
                t.publish(&[
                    ("topic", &topic),
                    ("data", "a\r\nb\n"),
                    ("type", "kind"),
                    ("id", &own),
                    ("retry", "77"),
                ])?;
                t.publish(&[("topic", &topic)])?;
                let mut replayed = t.resume(&topic, &start)?;
                for _ in 0..2 {
                    same(
                        "replayed event",
                        &replayed.next_event()?.lines,
                        &live.next_event()?.lines,
                    )?;
                }
                Ok(())
            },
        ),
        case(
            "1.7/own-id-as-cursor",
            NEEDS,
            "an id given by the publisher is a cursor too",
            |t| {
                let topic = t.topic();
                let own = format!("https://x.example/{}?a=b", t.unique());
                t.publish(&[("topic", &topic), ("data", "0"), ("id", &own)])?;
                t.say(&topic, "1")?;
                let mut stream = t.resume(&topic, &own)?;
                stream.head().expect_header("Last-Event-ID", &own)?;
                stream.expect_data("1")?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
    ]
}

fn header() -> Vec<Case> {
    vec![
        case(
            "1.7/header-found",
            NEEDS,
            "the requested id, when it was found",
            |t| {
                let topic = t.topic();
                let id = t.say(&topic, "0")?;
                t.resume(&topic, &id)?
                    .head()
                    .expect_header("Last-Event-ID", &id)?;
                t.say(&topic, "1")?;
                t.resume(&topic, &id)?
                    .head()
                    .expect_header("Last-Event-ID", &id)
            },
        ),
        case(
            "1.7/header-unknown",
            NEEDS,
            "unknown id: nothing is replayed, the header names another id (the last stored one \
             that this subscriber may read) or `earliest`, and the stream is live",
            |t| {
                let topic = t.topic();
                t.say(&topic, "stored")?;
                for unknown in [
                    "no-such-id",
                    "urn:uuid:00000000-0000-4000-8000-000000000000",
                    "\"#",
                ] {
                    let mut stream = t.resume(&topic, unknown)?;
                    let header = stream.head().header("Last-Event-ID").map(str::to_owned);
                    ensure(
                        header.is_some() && header.as_deref() != Some(unknown),
                        || format!("Last-Event-ID other than {unknown:?} expected, got {header:?}"),
                    )?;
                    nothing_before(t, &mut stream, &topic)?;
                }
                Ok(())
            },
        ),
    ]
}

fn header_secrets() -> Vec<Case> {
    vec![
        case(
            "1.7/header-unknown-hides-private",
            NEEDS,
            "the id in the header is of an update that this subscriber may read",
            |t| {
                let topic = t.topic();
                t.say(&topic, "public")?;
                let fields = [
                    ("topic", topic.as_str()),
                    ("data", "secret"),
                    ("private", "on"),
                ];
                let secret = t.publish(&fields)?;
                let request = Target::subscribe_bare(&[("topic", &topic)])
                    .bearer(&t.plain_token()?)
                    .header("Last-Event-ID", "no-such-id");
                let stream = t.open(&request)?;
                let header = stream
                    .head()
                    .header("Last-Event-ID")
                    .unwrap_or_default()
                    .to_owned();
                ensure(header != secret && !header.is_empty(), || {
                    format!("an id this subscriber may read expected, got {header:?}")
                })
            },
        ),
        case(
            "1.7/no-injection",
            NEEDS,
            "a junk cursor never splits the answer's head, and the stream is live",
            |t| {
                let topic = t.topic();
                let junk = "x\r\nX-Injected: 1\r\n\r\ndata: x";
                let mut stream = t.subscribe(&[("topic", &topic), ("lastEventID", junk)])?;
                ensure(stream.head().header("X-Injected").is_none(), || {
                    format!("split head:\n{}", stream.head().raw)
                })?;
                nothing_before(t, &mut stream, &topic)
            },
        ),
    ]
}

const EVENTS: usize = 400;

/// Publishes 0 to [`EVENTS`] on one connection, counting what was acknowledged.
fn publish_all(t: &Target, topic: &str, published: &AtomicUsize) -> Outcome<()> {
    let mut connection = t.connect()?;
    let token = t.publisher_token()?;
    for n in 0..EVENTS {
        let (id, data) = (format!("{topic}#{n}"), n.to_string());
        let fields = [
            ("topic", topic),
            ("data", data.as_str()),
            ("id", id.as_str()),
        ];
        let request = gush_testkit::Request::form(crate::target::HUB, &fields).bearer(&token);
        connection.exchange(&request)?.expect_status(&[200])?;
        published.store(n + 1, Ordering::Release);
    }
    Ok(())
}

/// Waits until event `n` is acknowledged, or publishing failed.
fn await_published(published: &AtomicUsize, n: usize) -> Outcome<()> {
    gush_testkit::eventually("publishing goes on", gush_testkit::PATIENCE * 3, || {
        Ok((published.load(Ordering::Acquire) > n).then_some(()))
    })
}

fn hand_over(t: &Target) -> Outcome<()> {
    let topic = t.topic();
    let published = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let posting = scope.spawn(|| publish_all(t, &topic, &published));
        let mut joined = Vec::new();
        for start in (0..EVENTS).step_by(10) {
            await_published(&published, start)?;
            // A cursor well behind what is being published, so that replay and live overlap.
            let from = start / 2;
            joined.push((from, t.resume(&topic, &format!("{topic}#{from}"))?));
        }
        for (from, stream) in &mut joined {
            for n in *from + 1..EVENTS {
                stream
                    .expect_data(&n.to_string())
                    .map_err(|f| f.within(format!("joined at {from}")))?;
            }
        }
        posting
            .join()
            .map_err(|_| Failure::new("the publisher panicked"))?
    })
}

fn resume_chain(t: &Target) -> Outcome<()> {
    let topic = t.topic();
    let published = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let posting = scope.spawn(|| publish_all(t, &topic, &published));
        await_published(&published, 0)?;
        let mut last = 0;
        while last + 1 < EVENTS {
            let mut stream = t.resume(&topic, &format!("{topic}#{last}"))?;
            for _ in 0..=last % 13 {
                if last + 1 == EVENTS {
                    break;
                }
                stream.expect_data(&(last + 1).to_string())?;
                last += 1;
            }
        }
        posting
            .join()
            .map_err(|_| Failure::new("the publisher panicked"))?
    })
}
