//! Rows 74 to 82: readers that do not read, peers that leave, and floods.

use super::{CLOSED, Healthy, good_post, status};
use crate::cases::ensure;
use crate::target::HUB;
use crate::{Case, Need, Target, case};
use gush_testkit::{Connection, Outcome, Request, SseStream, encode_component, encode_form, peers};
use std::collections::HashSet;
use std::time::Duration;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = readers();
    cases.extend(leavers());
    cases.extend(floods());
    cases
}

fn subscribe_request(t: &Target, topic: &str) -> Outcome<Request> {
    let query = encode_form(&[("topic", topic)]);
    Ok(Request::get(&format!("{HUB}?{query}")).bearer(&t.subscriber_token()?))
}

fn readers() -> Vec<Case> {
    vec![
        case(
            "abuse/74-crowd-that-never-reads",
            &[],
            "a crowd that never reads costs bounded memory, and the others are served in time",
            never_reading,
        ),
        case(
            "abuse/75-octet-at-a-time-reader",
            &[],
            "a reader of one octet at a time is isolated from the others",
            |t| {
                let mut healthy = Healthy::open(t)?;
                let topic = t.topic();
                let request = subscribe_request(t, &topic)?;
                let slow = peers::unread_request(t.address, &request)?;
                for _ in 0..50 {
                    t.say(&topic, &"x".repeat(4096))?;
                    peers::read_step(&slow, 1, Duration::from_secs(5))?;
                    healthy.check(t)?;
                }
                Ok(())
            },
        ),
    ]
}

fn leavers() -> Vec<Case> {
    vec![
        case(
            "abuse/76-half-closes-and-resets",
            &[],
            "half-closes and resets before, after and during: nothing is left behind",
            half_closes,
        ),
        case(
            "abuse/77-publisher-gone-before-the-answer",
            &[],
            "a publisher that leaves before its answer has published at most once",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                for n in 0..60 {
                    let fields = [("topic", topic.as_str()), ("data", &n.to_string())];
                    let post = Request::form(HUB, &fields).bearer(&t.publisher_token()?);
                    let mut connection = t.connect()?;
                    connection.send(&post.to_bytes("h"))?;
                    if n % 2 == 0 {
                        peers::reset(connection)?;
                    }
                }
                let end = t.say(&topic, "end")?;
                let mut seen = HashSet::new();
                loop {
                    let event = stream.next_event()?;
                    if event.id.as_ref() == Some(&end) {
                        return Ok(());
                    }
                    ensure(seen.insert(event.data.clone()), || {
                        format!("twice: {event:?}")
                    })?;
                }
            },
        ),
        case(
            "abuse/78-leaving-during-replay",
            &[Need::History],
            "leaving during replay, 120 times: no leak; a patient reader gets all of it",
            leaving_during_replay,
        ),
    ]
}

fn floods() -> Vec<Case> {
    vec![
        case(
            "abuse/79-connection-flood",
            &[],
            "a flood of connections: each is served or refused, none hangs; a broadcast reaches \
             all that were served",
            connection_flood,
        ),
        case(
            "abuse/80-reconnect-storm",
            &[Need::History],
            "a crowd that comes back with its last id: served, nothing missed, others in time",
            |t| {
                let mut healthy = Healthy::open(t)?;
                let topic = t.topic();
                let last = t.say(&topic, "seen")?;
                let missed: Vec<String> = (0..5).map(|n| format!("missed {n}")).collect();
                for data in &missed {
                    t.say(&topic, data)?;
                }
                let mut crowd = Vec::new();
                for _ in 0..300 {
                    crowd.push(t.resume(&topic, &last)?);
                }
                healthy.check(t)?;
                for stream in &mut crowd {
                    for data in &missed {
                        stream.expect_data(data)?;
                    }
                }
                healthy.check(t)
            },
        ),
        case(
            "abuse/81-publish-flood",
            &[],
            "a flood of publishes: 200, 429 or 503; what was accepted is delivered in order",
            publish_flood,
        ),
        case(
            "abuse/82-churn",
            &[],
            "subscribing and leaving, new topics, bad tokens, over and over: memory stays",
            |t| {
                let mut healthy = Healthy::open(t)?;
                for n in 0..300 {
                    churn(t, n)?;
                }
                let before = t.memory_bytes()?;
                for n in 300..2300 {
                    churn(t, n)?;
                }
                healthy.check(t)?;
                t.memory_grew_less(before, 16 << 20)
            },
        ),
    ]
}

fn publish_flood(t: &Target) -> Outcome<()> {
    let topic = t.topic();
    let mut stream = t.subscribe(&[("topic", &topic)])?;
    let token = t.publisher_token()?;
    let mut accepted = Vec::new();
    let mut connection = t.connect()?;
    for round in 0..20 {
        let mut bytes = Vec::new();
        for n in 0..50 {
            let data = (round * 50 + n).to_string();
            let fields = [("topic", topic.as_str()), ("data", data.as_str())];
            bytes.extend(Request::form(HUB, &fields).bearer(&token).to_bytes("h"));
        }
        connection.send(&bytes)?;
        for n in 0..50 {
            let answer = connection.read_response()?;
            answer.expect_status(&[200, 429, 503])?;
            if answer.status() == 200 {
                accepted.push((round * 50 + n).to_string());
            }
        }
    }
    for data in &accepted {
        stream.expect_data(data)?;
    }
    ensure(!accepted.is_empty(), || "nothing was accepted".to_owned())
}

/// A subscriber that leaves at once and one that is refused, on a topic never used before.
fn churn(t: &Target, n: usize) -> Outcome<()> {
    let topic = format!("https://abuse.example/churn/{}/{n}", t.unique());
    let target = format!("{HUB}?topic={}", encode_component(&topic));
    drop(t.open(&Request::get(&target).bearer(&t.subscriber_token()?))?);
    let mut connection = t.connect()?;
    let bad = Request::get(&target).bearer(&format!("{}.{n}.x", "x".repeat(60)));
    connection.send_request(&bad)?;
    let got = status(&mut connection)?;
    ensure([401, 429, CLOSED].contains(&got), || {
        format!("401 was to come, not {got}")
    })
}

fn half_closes(t: &Target) -> Outcome<()> {
    let open = t.open_subscribers()?;
    let mut healthy = Healthy::open(t)?;
    let topic = t.topic();
    let request = subscribe_request(t, &topic)?;
    for round in 0..60 {
        let mut connection = t.connect()?;
        match round % 6 {
            0 => peers::reset(connection)?,
            1 => connection.finish_sending()?,
            2 => {
                connection.send(b"GET /.well-known")?;
                peers::reset(connection)?;
            }
            3 => {
                connection.send_request(&request)?;
                peers::reset(connection)?;
            }
            4 => {
                connection.send_request(&request)?;
                let stream = SseStream::answered(connection)?;
                t.say(&topic, "for those there")?;
                drop(stream);
            }
            _ => {
                connection.send(&good_post(t)?.to_bytes("h"))?;
                peers::reset(connection)?;
            }
        }
    }
    t.until_subscribers(open.map(|before| before + 1))?;
    healthy.check(t)
}

fn leaving_during_replay(t: &Target) -> Outcome<()> {
    let open = t.open_subscribers()?;
    let mut healthy = Healthy::open(t)?;
    let topic = t.topic();
    let first = t.say(&topic, "first")?;
    for n in 0..40 {
        t.say(&topic, &format!("{n} {}", "x".repeat(32 << 10)))?;
    }
    let request = subscribe_request(t, &topic)?.header("Last-Event-ID", &first);
    for round in 0..120 {
        let mut connection = t.connect()?;
        connection.send_request(&request)?;
        if round % 3 > 0 {
            peers::read_step(&connection, 1000 * round, Duration::from_secs(5))?;
        }
        if round % 2 == 0 {
            peers::reset(connection)?;
        }
    }
    t.until_subscribers(open.map(|before| before + 1))?;
    let mut patient = t.resume(&topic, &first)?;
    for n in 0..40 {
        let data = patient.next_event()?.data;
        ensure(data.starts_with(&format!("{n} ")), || {
            format!("{n}: {data:.20}")
        })?;
    }
    healthy.check(t)
}

fn connection_flood(t: &Target) -> Outcome<()> {
    let mut healthy = Healthy::open(t)?;
    let topic = t.topic();
    let request = subscribe_request(t, &topic)?;
    let mut served: Vec<SseStream> = Vec::new();
    for _ in 0..1500 {
        let mut connection: Connection = t.connect()?;
        connection.send_request(&request)?;
        if let Ok(stream) = SseStream::answered(connection) {
            served.push(stream);
        }
    }
    ensure(!served.is_empty(), || "nobody was served".to_owned())?;
    t.say(&topic, "to all")?;
    for stream in &mut served {
        stream.expect_data("to all")?;
    }
    drop(served);
    healthy.check(t)
}

fn never_reading(t: &Target) -> Outcome<()> {
    let mut healthy = Healthy::open(t)?;
    let topic = t.topic();
    let before = t.memory_bytes()?;
    let request = subscribe_request(t, &topic)?;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(peers::unread_request(t.address, &request)?);
    }
    let data = "x".repeat(64 << 10);
    for _ in 0..64 {
        t.say(&topic, &data)?;
        healthy.check(t)?;
    }
    // 4 MiB for each of the crowd would be 400: the log holds them once.
    t.memory_grew_less(before, 64 << 20)?;
    drop(crowd);
    healthy.check(t)
}
