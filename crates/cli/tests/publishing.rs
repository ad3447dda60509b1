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
