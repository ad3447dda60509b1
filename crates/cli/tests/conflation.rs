//! Topics of which a reader that is behind gets the newest event, asked for in the configuration
//! and by publishers.

use gush_testkit::{
    Failure, HubBuilder, HubProcess, Outcome, Request, SseStream, eventually, peers,
};

use std::process::{Command, Stdio};

const PRICE: &str = "https://conflation.example/price/1";
const CHAT: &str = "https://conflation.example/chat";
const BOTH: [(&str, &str); 2] = [("topic", PRICE), ("topic", CHAT)];

fn builder() -> Outcome<HubBuilder> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.disk();
    Ok(builder.option("--conflate-topic", "https://conflation.example/price/{id}"))
}

/// Publishes `count` prices, with a message after each tenth; the ids of the messages.
fn publish(hub: &HubProcess, count: usize) -> Outcome<Vec<String>> {
    let mut connection = hub.connect()?;
    let mut send = |topic: &str, data: &str| {
        let request = hub.publish_request(&[("topic", topic), ("data", data)])?;
        let answer = connection.exchange(&request)?;
        answer.expect_status(&[200])?;
        Ok::<_, Failure>(answer.text())
    };
    let mut ids = Vec::new();
    for n in 0..count {
        send(PRICE, &format!("{n} "))?;
        if n % 10 == 9 {
            ids.push(send(CHAT, &format!("message {n}"))?);
        }
    }
    Ok(ids)
}

#[test]
fn a_reader_that_stops_gets_the_newest_price_and_every_message() -> Outcome<()> {
    const PRICES: usize = 1000;
    let hub = builder()?.option("--write-timeout", "5m").start()?;
    let mut reading = hub.subscribe(&BOTH)?;
    let request = hub.subscribe_request(&BOTH)?;
    let mut stuck = SseStream::answered(peers::unread_request(hub.address(), &request)?)?;
    hub.wait_metric("gush_streams_opened_total", |streams| streams == 2)?;
    let filler = "x".repeat(2000);
    // Whoever keeps up, here one event at a time, gets each of them.
    for n in 0..PRICES {
        let price = format!("{n} {filler}");
        hub.publish(&[("topic", PRICE), ("data", &price)])?;
        reading.expect_data(&price)?;
        if n % 10 == 9 {
            let message = format!("message {n}");
            hub.publish(&[("topic", CHAT), ("data", &message)])?;
            reading.expect_data(&message)?;
        }
    }
    // It goes on: what its buffers held, then what counts.
    let last = format!("message {}", PRICES - 1);
    let (mut prices, mut messages) = (Vec::new(), Vec::new());
    loop {
        let event = stuck.next_event()?;
        match event.data.split_once(' ') {
            Some(("message", n)) => messages.push(n.to_owned()),
            Some((n, _)) => prices.push(n.parse::<usize>().unwrap_or(usize::MAX)),
            None => return Failure::mismatch("data", "a price or a message", event.data),
        }
        if event.data == last {
            break;
        }
    }
    let expected: Vec<String> = (9..PRICES).step_by(10).map(|n| n.to_string()).collect();
    assert_eq!(messages, expected);
    assert!(prices.is_sorted_by(|one, next| one < next), "{prices:?}");
    assert_eq!(prices.last(), Some(&(PRICES - 1)));
    assert!(prices.len() < PRICES / 2, "{prices:?}");
    let passed = hub.metric_sum("gush_conflated_events_total")?;
    assert_eq!(passed, (PRICES - prices.len()) as u64);
    // And is up to date from then on.
    for data in ["one", "two"] {
        hub.publish(&[("topic", PRICE), ("data", data)])?;
        stuck.expect_data(data)?;
    }
    Ok(())
}

/// The id of an event whose neighbours were passed over is as good a cursor as any.
#[test]
fn who_resumes_gets_the_newest_of_what_it_missed_also_after_a_restart() -> Outcome<()> {
    let builder = builder()?.option("--window-events", "16");
    let mut hub = builder.start()?;
    let ids = publish(&hub, 100)?;
    let last_price = "99 ";
    let expect_rest = |hub: &HubProcess, after: usize| {
        let mut stream = hub.resume(&BOTH, &ids[after])?;
        for message in after + 1..10 {
            if message == 9 {
                stream.expect_data(last_price)?;
            }
            stream.expect_data(&format!("message {}", message * 10 + 9))?;
        }
        Ok::<_, Failure>(stream)
    };
    for after in [0, 4, 8] {
        expect_rest(&hub, after)?;
    }
    // Resumed from the newest price itself, which was the one event of its topic it got.
    let mut stream = hub.resume(&BOTH, &ids[0])?;
    let mut price = stream.next_event()?;
    while !price.data.starts_with("99") {
        price = stream.next_event()?;
    }
    let id = price.id.ok_or_else(|| Failure::new("no id"))?;
    hub.resume(&BOTH, &id)?.expect_data("message 99")?;
    hub.sigkill()?;
    let hub = builder.start()?;
    for after in [8, 4] {
        expect_rest(&hub, after)?;
    }
    let mut stream = expect_rest(&hub, 0)?;
    hub.publish(&[("topic", PRICE), ("data", "live")])?;
    stream.expect_data("live")?;
    hub.resume(&BOTH, &ids[9])?.expect_data("live")?;
    Ok(())
}

#[test]
fn a_publisher_asks_for_it_and_keeps_keys_apart_by_form_and_by_line() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    let mut reading = hub.subscribe(&[("topic", CHAT)])?;
    let send = |data: &str, latest: Option<&str>, key: Option<&str>| {
        let mut fields = vec![("topic", CHAT), ("data", data)];
        fields.extend(latest.map(|latest| ("gush_latest", latest)));
        fields.extend(key.map(|key| ("gush_key", key)));
        hub.publish(&fields)
    };
    send("a 1", Some("1"), Some("a"))?;
    send("b 1", Some("1"), Some("b"))?;
    send("none 1", Some("true"), None)?;
    send("not conflated 1", Some("0"), Some("a"))?;
    send("not conflated 2", None, Some("a"))?;
    send("a 2", Some("1"), Some("a"))?;
    let line =
        |data: &str, rest: &str| format!("{{\"topic\":\"{CHAT}\",\"data\":\"{data}\"{rest}}}\n");
    let body = [
        line("none 2", ",\"gush_latest\":true"),
        line("a 3", ",\"gush_latest\":true,\"gush_key\":\"a\""),
        line("not conflated 3", ",\"gush_latest\":false"),
        line("refused", ",\"gush_latest\":\"yes\""),
        line("refused", &format!(",\"gush_key\":\"{}\"", "k".repeat(257))),
    ]
    .concat();
    let request = Request::new("POST", "/.well-known/mercure")
        .bearer(&hub.publisher_token()?)
        .header("Content-Type", "application/x-ndjson")
        .body(body);
    let answer = hub.connect()?.exchange(&request)?;
    answer.expect_status(&[200])?;
    if answer.text().matches("\"error\"").count() != 2 {
        return Failure::mismatch("the answer", "two refusals", answer.text());
    }
    let all = [
        "a 1",
        "b 1",
        "none 1",
        "not conflated 1",
        "not conflated 2",
        "a 2",
        "none 2",
        "a 3",
        "not conflated 3",
    ];
    reading.expect_all(&all)?;
    let mut late = hub.resume(&[("topic", CHAT)], "earliest")?;
    late.expect_all(&[
        "b 1",
        "not conflated 1",
        "not conflated 2",
        "none 2",
        "a 3",
        "not conflated 3",
    ])
}

#[test]
fn the_command_line_asks_for_it_as_well() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    for (data, options) in [
        ("a 1", &["--latest", "--latest-key", "a"][..]),
        ("b 1", &["--latest", "--latest-key", "b"]),
        ("plain", &[]),
        ("a 2", &["--latest", "--latest-key", "a"]),
    ] {
        let status = Command::new(env!("CARGO_BIN_EXE_gush"))
            .args(["pub", CHAT, "--data", data])
            .args(options)
            .args(["--hub", &format!("http://{}", hub.address())])
            .args(["--token", &hub.publisher_token()?])
            .stdout(Stdio::null())
            .status()?;
        assert!(status.success(), "{data}");
    }
    let mut late = hub.resume(&[("topic", CHAT)], "earliest")?;
    late.expect_all(&["b 1", "plain", "a 2"])
}

#[test]
fn a_reload_changes_which_topics_are_conflated() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .option("--window-events", "16");
    let path = builder.directory().join("gush.toml");
    std::fs::write(&path, "")?;
    let hub = builder
        .option("--config", &path.display().to_string())
        .start()?;
    for data in ["1", "2", "3"] {
        hub.publish(&[("topic", PRICE), ("data", data)])?;
    }
    hub.publish(&[("topic", CHAT), ("data", "end")])?;
    // Out of the window, where events stand as they came in.
    for _ in 0..16 {
        hub.publish(&[("topic", "of nobody")])?;
    }
    let from_start = || hub.resume(&BOTH, "earliest");
    from_start()?.expect_all(&["1", "2", "3", "end"])?;
    std::fs::write(&path, format!("conflate_topics = [\"{PRICE}\"]\n"))?;
    hub.signal("HUP")?;
    hub.wait_stderr(&["configuration reloaded", "conflate_topic"])?;
    from_start()?.expect_all(&["3", "end"])?;
    std::fs::write(&path, "")?;
    hub.signal("HUP")?;
    eventually("the old way", gush_testkit::PATIENCE, || {
        let first = from_start()?.next_event()?;
        Ok((first.data == "1").then_some(()))
    })
}
