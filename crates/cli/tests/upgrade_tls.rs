//! Streams under TLS 1.3 go over an upgrade: curl goes on reading what another process seals.

use gush_testkit::{
    Curl, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, encode_form, send_signal,
    write_certificate,
};

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://tls.example/1";
const OPEN: &str = "gush_subscribers_open{sink=\"tls\"}";
const TAKEN: &str = "gush_streams_taken_over_total";

fn with_tls(options: &[(&str, &str)]) -> Outcome<HubProcess> {
    let mut builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.disk();
    let files = write_certificate(builder.directory(), "hub.example")?;
    for (name, value) in options {
        builder = builder.option(name, value);
    }
    builder
        .option("--tls-cert", &files.certificate.display().to_string())
        .option("--tls-key", &files.key.display().to_string())
        .start()
}

fn subscribe(hub: &HubProcess, options: &[&str]) -> Outcome<Curl> {
    let query = encode_form(&[("topic", TOPIC)]);
    let url = format!("https://{}{HUB}?{query}", hub.address());
    let options = [&["--insecure", "--http1.1", "--tlsv1.3"], options].concat();
    Curl::subscribe(&url, &hub.subscriber_token()?, &options)
}

fn publish(hub: &HubProcess, data: &str) -> Outcome<()> {
    hub.publish_on_admin(&[("topic", TOPIC), ("data", data)])?;
    Ok(())
}

/// Two upgrades in a row: what was taken over is handed over again. Who leaves is noticed.
fn goes_on(options: &[(&str, &str)], curl: &[&[&str]]) -> Outcome<()> {
    let mut hub = with_tls(options)?;
    let mut streams = Vec::new();
    for options in curl {
        streams.push(subscribe(&hub, options)?);
    }
    let count = streams.len() as u64;
    let mut sent = 0..100;
    let mut say = |hub: &HubProcess| -> Outcome<()> {
        let data = sent.next().ok_or("enough")?.to_string();
        publish(hub, &data)?;
        streams
            .iter()
            .try_for_each(|stream| stream.expect_data(&data))
    };
    say(&hub)?;
    for round in 0..2 {
        hub.upgrade()?;
        hub.wait_metric(TAKEN, |taken| taken == count)?;
        if round == 0 {
            let code = hub.wait_exit(PATIENCE)?.code();
            assert_eq!(code, Some(0), "{}", hub.output());
        }
        for _ in 0..3 {
            say(&hub)?;
        }
    }
    assert_eq!(hub.metric(OPEN)?, Some(count));
    drop(streams);
    hub.wait_metric(OPEN, |open| open == 0)?;
    let left = hub.metric("gush_streams_closed_total{reason=\"peer_left\"}")?;
    assert_eq!(left, Some(count), "{}", hub.output());
    Ok(())
}

#[test]
fn streams_of_every_suite_go_on() -> Outcome<()> {
    goes_on(
        &[],
        &[
            &["--tls13-ciphers", "TLS_AES_128_GCM_SHA256"],
            &["--tls13-ciphers", "TLS_AES_256_GCM_SHA384"],
            &["--tls13-ciphers", "TLS_CHACHA20_POLY1305_SHA256"],
        ],
    )
}

#[test]
fn streams_whose_shards_have_tables_of_their_own_go_on() -> Outcome<()> {
    goes_on(&[("--descriptor-tables", "own")], &[&[], &[], &[]])
}

/// A reader that has stopped reading long before, in the middle of an event and of a record, gets
/// every byte once; and so does one that reads all the time.
#[test]
fn a_slow_reader_goes_on_in_the_middle_of_a_record() -> Outcome<()> {
    let mut hub = with_tls(&[("--send-buffer", "16KiB"), ("--write-timeout", "5m")])?;
    let slow = subscribe(&hub, &[])?;
    let quick = subscribe(&hub, &[])?;
    send_signal("STOP", slow.pid())?;
    let large: Vec<String> = (0..40)
        .map(|number| format!("{number}{}", "x".repeat(200_000)))
        .collect();
    let (before, after) = large.split_at(30);
    for data in before {
        publish(&hub, data)?;
        quick.expect_data(data)?;
    }
    hub.wait_metric("gush_subscribers_behind", |behind| behind == 1)?;
    hub.upgrade()?;
    hub.wait_metric(TAKEN, |taken| taken == 2)?;
    for data in after {
        publish(&hub, data)?;
        quick.expect_data(data)?;
    }
    send_signal("CONT", slow.pid())?;
    for data in &large {
        slow.expect_data(data)?;
    }
    let code = hub.wait_exit(PATIENCE)?.code();
    if code == Some(0) {
        return Ok(());
    }
    Failure::mismatch("exit", "0", format!("{code:?}\n{}", hub.output()))
}
