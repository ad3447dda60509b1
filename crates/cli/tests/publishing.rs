//! The doors a publish comes in by: whole and in pieces, one and many, plain and unusual.

use gush_testkit::{Claims, HubBuilder, HubProcess, Outcome, Request};

const TOPIC: &str = "https://publish.example/1";
const HUB: &str = "/.well-known/mercure";

fn start() -> Outcome<HubProcess> {
    HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()
}

fn publish(hub: &HubProcess, data: &str) -> Outcome<Vec<u8>> {
    let request = hub.publish_request(&[("topic", TOPIC), ("data", data)])?;
    Ok(request.to_bytes("hub.example"))
}

fn batch(hub: &HubProcess, body: impl Into<Vec<u8>>) -> Outcome<Request> {
    Ok(Request::new("POST", HUB)
        .bearer(&hub.publisher_token()?)
        .header("Content-Type", "application/x-ndjson")
        .body(body))
}

#[test]
fn many_publishes_in_one_packet_are_answered_in_order() -> Outcome<()> {
    // On a disk they share a sync; in memory each is done at once.
    let disk = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .start()?;
    for hub in [start()?, disk] {
        let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
        let mut bytes = Vec::new();
        // More than are taken together, with one refused among them.
        for n in 0..150 {
            bytes.extend(publish(&hub, &n.to_string())?);
            if n == 70 {
                bytes.extend(hub.publish_request(&[("data", "no topic")])?.to_bytes("h"));
            }
        }
        let mut connection = hub.connect()?;
        connection.send(&bytes)?;
        for n in 0..150 {
            let answer = connection.read_response()?;
            answer.expect_status(&[200])?;
            let event = stream.expect_data(&n.to_string())?;
            assert_eq!(event.id, Some(answer.text()));
            if n == 70 {
                connection.read_response()?.expect_status(&[400])?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_publish_in_pieces_is_one_publish() -> Outcome<()> {
    let hub = start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let mut connection = hub.connect()?;
    let bytes = publish(&hub, "in pieces")?;
    for piece in bytes.chunks(7) {
        connection.send(piece)?;
    }
    connection.read_response()?.expect_status(&[200])?;
    stream.expect_data("in pieces")?;
    Ok(())
}

#[test]
fn plain_and_unusual_requests_share_a_connection() -> Outcome<()> {
    let hub = start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let mut connection = hub.connect()?;
    for round in 0..3 {
        let plain = hub.publish_request(&[("topic", TOPIC), ("data", "plain")])?;
        connection.exchange(&plain)?.expect_status(&[200])?;
        let health = connection.exchange(&Request::get("/healthz"))?;
        health.expect_status(&[200])?;
        let large = "x".repeat(100_000 + round);
        let large = hub.publish_request(&[("topic", TOPIC), ("data", &large)])?;
        connection.exchange(&large)?.expect_status(&[200])?;
        let rest = "=https%3A//publish.example/1&data=end";
        let chunked = format!(
            "POST {HUB} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\ntopic\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
            hub.publisher_token()?,
            rest.len(),
        );
        connection.send(chunked.as_bytes())?;
        connection.read_response()?.expect_status(&[200])?;
        stream.expect_data("plain")?;
        stream.next_event()?;
        stream.expect_data("end")?;
    }
    Ok(())
}

#[test]
fn both_doors_refuse_with_the_same_answer() -> Outcome<()> {
    let hub = start()?;
    let token = hub.publisher_token()?;
    let none = hub
        .publisher_key()
        .sign(&Claims::new().publish(&["other"]))?;
    let rows = [
        (Some(&token), "data=x"),
        (Some(&token), "topic=%zz"),
        (Some(&token), "topic=a&id=%0a"),
        (Some(&token), "topic=/.well-known/mercure"),
        (Some(&none), "topic=a"),
        (None, "topic=a"),
    ];
    for (token, body) in rows {
        let form = "application/x-www-form-urlencoded";
        let mut plain = Request::new("POST", HUB).header("Content-Type", form);
        if let Some(token) = token {
            plain = plain.bearer(token);
        }
        let plain = plain.body(body);
        // What hyper serves is told from the plain ones by this.
        let unusual = plain.clone().header("Connection", "close");
        let (plain, unusual) = (
            hub.connect()?.exchange(&plain)?,
            hub.connect()?.exchange(&unusual)?,
        );
        assert_eq!(plain.status(), unusual.status(), "{body}");
        assert_eq!(plain.text(), unusual.text(), "{body}");
        for name in ["Content-Type", "WWW-Authenticate", "X-Frame-Options"] {
            assert_eq!(plain.header(name), unusual.header(name), "{body}: {name}");
        }
    }
    Ok(())
}

#[test]
fn a_batch_of_many_reads_is_stored_whole_and_in_order() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .start()?;
    let line = |n: u32| format!("{{\"topic\":\"{TOPIC}\",\"data\":\"{n:0100}\"}}\n");
    let body: String = (0..20_000).map(line).collect();
    let mut connection = hub.connect()?;
    let answer = connection.exchange(&batch(&hub, body)?)?;
    answer.expect_status(&[200])?;
    let text = answer.text();
    let ids: Vec<&str> = text.lines().collect();
    assert_eq!(ids.len(), 20_000);
    assert!(ids.is_sorted() && ids.iter().all(|line| line.starts_with("{\"id\":\"urn:")));
    let mut stream = hub.resume(&[("topic", TOPIC)], "earliest")?;
    for n in 0..20_000 {
        stream.expect_data(&format!("{n:0100}"))?;
    }
    Ok(())
}

#[test]
fn a_line_that_is_too_long_ends_the_batch_behind_what_came_before() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--max-body", "1KiB")
        .start()?;
    let good = format!("{{\"topic\":\"{TOPIC}\"}}\n");
    for end in ["\n", ""] {
        let long = format!("{{\"topic\":\"a\",\"data\":\"{}\"}}{end}", "x".repeat(2000));
        let body = [good.as_str(), &long, &good].concat();
        let answer = hub.connect()?.exchange(&batch(&hub, body)?)?;
        answer.expect_status(&[200])?;
        let text = answer.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("{\"id\""));
        let expected = "{\"error\":\"the line is larger than 1024 bytes\",\"status\":400}";
        assert_eq!(lines[1], expected);
    }
    Ok(())
}

#[test]
fn a_batch_under_way_ends_with_the_hub() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--drain-window", "100ms")
        .start()?;
    let mut connection = hub.connect()?;
    let line = format!("{{\"topic\":\"{TOPIC}\"}}\n");
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let head = format!(
        "POST {HUB} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{line}\r\n",
        hub.publisher_token()?,
        line.len()
    );
    connection.send(head.as_bytes())?;
    stream.expect_data("")?;
    hub.sigterm()?;
    let answer = connection.read_response()?;
    let text = answer.text();
    let last = "{\"error\":\"the hub is shutting down\",\"status\":503}\n";
    assert!(
        text.starts_with("{\"id\"") && text.ends_with(last),
        "{text}"
    );
    Ok(())
}

#[test]
fn the_command_publishes_a_file_of_lines() -> Outcome<()> {
    let hub = start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let file = hub.builder().directory().join("events.ndjson");
    let line = |n| format!("{{\"topic\":\"{TOPIC}\",\"data\":\"{n:060}\"}}\n");
    let lines = (0..30_000).map(line).collect::<Vec<_>>().concat();
    let run = |lines: &str| {
        std::fs::write(&file, lines).expect("a writable directory");
        std::process::Command::new(env!("CARGO_BIN_EXE_gush"))
            .args(["pub", "--ndjson"])
            .arg(&file)
            .args(["--hub", &format!("http://{}{HUB}", hub.address())])
            .args(["--token", &hub.publisher_token().expect("a token")])
            .output()
            .expect("it runs")
    };
    let reader = std::thread::spawn(move || -> Outcome<()> {
        for n in 0..30_000 {
            stream.expect_data(&format!("{n:060}"))?;
        }
        Ok(())
    });
    let output = run(&lines);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout.split(|b| *b == b'\n').count(), 30_001);
    reader.join().expect("no panic")?;
    let output = run("{\"topic\":\"a\"}\nno JSON");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.starts_with("{\"id\"") && text.contains("\n{\"error\""),
        "{text}"
    );
    Ok(())
}
