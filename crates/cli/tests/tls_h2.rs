//! TLS with ALPN, HTTP/2 subscribers and certificate reload, with curl as the other side.

use gush_testkit::{
    Curl, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, SseItem, eventually,
    write_certificate,
};
use std::process::{Command, Stdio};

const TOPIC: &str = "https://h2.example/1";

/// curl subscribing to the hub itself.
fn subscribe(hub: &HubProcess, scheme: &str, options: &[&str]) -> Outcome<Curl> {
    let topic = gush_testkit::encode_component(TOPIC);
    let url = format!(
        "{scheme}://{}/.well-known/mercure?topic={topic}",
        hub.address()
    );
    Curl::subscribe(&url, &hub.subscriber_token()?, options)
        .map_err(|failure| failure.within(hub.output()))
}

fn with_tls() -> Outcome<(HubProcess, HubBuilder)> {
    with_tls_and(&[])
}

fn with_tls_and(options: &[(&str, &str)]) -> Outcome<(HubProcess, HubBuilder)> {
    let mut builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    let files = write_certificate(builder.directory(), "hub.example")?;
    for (name, value) in options {
        builder = builder.option(name, value);
    }
    let builder = builder
        .option("--tls-cert", &files.certificate.display().to_string())
        .option("--tls-key", &files.key.display().to_string());
    let hub = builder.start()?;
    if !hub.stdout().contains("listening on https://") {
        return Failure::mismatch("stdout", "listening on https://…", hub.output());
    }
    Ok((hub, builder))
}

#[test]
fn subscribers_over_h2c_by_prior_knowledge() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    let over_h2 = subscribe(&hub, "http", &["--http2-prior-knowledge"])?;
    let mut over_h1 = hub.subscribe(&[("topic", TOPIC)])?;
    for n in 0..50 {
        hub.publish(&[("topic", TOPIC), ("data", &n.to_string())])?;
    }
    for n in 0..50 {
        over_h2.expect_data(&n.to_string())?;
        over_h1.expect_data(&n.to_string())?;
    }
    let big = "0123456789abcdef".repeat(20_000);
    hub.publish(&[("topic", TOPIC), ("data", &big)])?;
    over_h2.expect_data(&big)
}

#[test]
fn subscribers_over_tls_with_either_version() -> Outcome<()> {
    let (hub, _) = with_tls()?;
    every_kind_gets_everything(&hub)
}

#[test]
fn subscribers_over_tls_whose_shards_have_tables_of_their_own() -> Outcome<()> {
    let (hub, _) = with_tls_and(&[("--descriptor-tables", "own")])?;
    every_kind_gets_everything(&hub)
}

/// HTTP/2, and HTTP/1.1 with each cipher of TLS 1.3 and with TLS 1.2.
fn every_kind_gets_everything(hub: &HubProcess) -> Outcome<()> {
    let suite = |name| ["--insecure", "--http1.1", "--tls13-ciphers", name];
    let kinds: [&[&str]; 5] = [
        &["--insecure", "--http2"],
        &suite("TLS_AES_128_GCM_SHA256"),
        &suite("TLS_AES_256_GCM_SHA384"),
        &suite("TLS_CHACHA20_POLY1305_SHA256"),
        &["--insecure", "--http1.1", "--tls-max", "1.2"],
    ];
    let mut subscribers = Vec::new();
    for kind in kinds {
        let subscribed = subscribe(hub, "https", kind);
        subscribers.push(subscribed.map_err(|f| f.within(format!("{kind:?}")))?);
    }
    for n in 0..20 {
        hub.publish_on_admin(&[("topic", TOPIC), ("data", &n.to_string())])?;
    }
    let big = "0123456789abcdef".repeat(20_000);
    hub.publish_on_admin(&[("topic", TOPIC), ("data", &big)])?;
    for (curl, kind) in subscribers.iter_mut().zip(kinds) {
        let place = |f: Failure| f.within(format!("{kind:?}"));
        for n in 0..20 {
            curl.expect_data(&n.to_string()).map_err(place)?;
        }
        curl.expect_data(&big).map_err(place)?;
    }
    Ok(())
}

/// One request; what curl's `--write-out` says and its exit code.
fn ask(hub: &HubProcess, options: &[&str], format: &str) -> Outcome<(Option<i32>, String)> {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--output",
            "/dev/null",
            "--max-time",
            "20",
            "--write-out",
            format,
        ])
        .args(options)
        .arg(format!(
            "https://localhost:{}/healthz",
            hub.address().port()
        ))
        .output()
        .map_err(|e| Failure::from(e).within("starting curl"))?;
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    ))
}

#[test]
fn alpn_chooses_the_version() -> Outcome<()> {
    let (hub, _) = with_tls()?;
    for (option, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let (_, got) = ask(
            &hub,
            &["--insecure", option],
            "%{http_version} %{http_code}",
        )?;
        if got != format!("{version} 200") {
            return Failure::mismatch(option, format!("{version} 200"), got);
        }
    }
    Ok(())
}

#[test]
fn a_new_certificate_is_served_and_open_streams_stay() -> Outcome<()> {
    let (hub, builder) = with_tls()?;
    let h2 = subscribe(&hub, "https", &["--insecure", "--http2"])?;
    let h1 = subscribe(&hub, "https", &["--insecure", "--http1.1"])?;
    let old = builder.directory().join("old.pem");
    std::fs::copy(builder.directory().join("cert.pem"), &old)?;
    let old = old.display().to_string();
    let trusts = |path: &str| Ok::<_, Failure>(ask(&hub, &["--cacert", path], "")?.0 == Some(0));
    if !trusts(&old)? {
        return Err(Failure::new(format!(
            "the first certificate is not served\n{}",
            hub.output()
        )));
    }
    let new = write_certificate(builder.directory(), "hub.example")?.certificate;
    let new = new.display().to_string();
    hub.signal("HUP")?;
    eventually("the new certificate", PATIENCE, || {
        Ok(trusts(&new)?.then_some(()))
    })
    .map_err(|f| f.within(hub.output()))?;
    hub.publish_on_admin(&[("topic", TOPIC), ("data", "after")])?;
    h2.expect_data("after")?;
    h1.expect_data("after")
}

#[test]
fn a_broken_certificate_keeps_the_old_one() -> Outcome<()> {
    let (hub, builder) = with_tls()?;
    std::fs::write(builder.directory().join("cert.pem"), "not a certificate")?;
    hub.signal("HUP")?;
    hub.wait_stderr(&["cert.pem"])?;
    let (code, _) = ask(&hub, &["--insecure"], "")?;
    if code == Some(0) {
        Ok(())
    } else {
        Failure::mismatch("curl", "0", format!("{code:?}"))
    }
}

#[test]
fn plain_http_on_the_tls_port_is_answered_or_closed() -> Outcome<()> {
    let (hub, _) = with_tls()?;
    let mut connection = hub.connect()?;
    connection.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let got = connection.read_to_close(PATIENCE)?;
    if got.starts_with(b"HTTP/1.1 2") {
        return Err(Failure::new("plain HTTP was served on the TLS port"));
    }
    Ok(())
}

#[test]
fn a_long_replay_over_either_version_is_whole() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    let files = write_certificate(builder.directory(), "hub.example")?;
    let hub = builder
        .disk()
        .option("--sync", "off")
        .option("--window-events", "64")
        .option("--tls-cert", &files.certificate.display().to_string())
        .option("--tls-key", &files.key.display().to_string())
        .start()?;
    let data = |n: usize| format!("{n} {}", "x".repeat(8000));
    for n in 0..500 {
        hub.publish_on_admin(&[("topic", TOPIC), ("data", &data(n))])?;
    }
    for version in ["--http2", "--http1.1"] {
        let options = ["--insecure", version, "--header", "Last-Event-ID: earliest"];
        let curl = subscribe(&hub, "https", &options)?;
        for n in 0..500 {
            curl.expect_data(&data(n)).map_err(|f| f.within(version))?;
        }
        hub.publish_on_admin(&[("topic", "https://h2.example/other"), ("data", "no")])?;
    }
    Ok(())
}

#[test]
fn a_stopped_subscriber_is_closed_and_the_others_get_everything() -> Outcome<()> {
    // More than curl's HTTP/2 window of 32 MiB and all buffers on the way; without such a window
    // the sockets' buffers are all there is.
    for (version, megabytes) in [("--http2", 48), ("--http1.1", 16)] {
        let place = |f: Failure| f.within(version);
        let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
            .disk()
            .option("--sync", "off")
            .option("--write-timeout", "1s")
            .option("--window-events", "64");
        let files = write_certificate(builder.directory(), "hub.example")?;
        let builder = builder
            .option("--tls-cert", &files.certificate.display().to_string())
            .option("--tls-key", &files.key.display().to_string());
        let hub = builder.start()?;
        let stopped = subscribe(&hub, "https", &["--insecure", version])?;
        let reading = subscribe(&hub, "https", &["--insecure", version])?;
        let pid = stopped.pid().to_string();
        let status = Command::new("kill").args(["-STOP", &pid]).status()?;
        if !status.success() {
            return Err(Failure::new("cannot stop curl"));
        }
        let data = "0123456789abcdef".repeat(64 * 1024);
        for _ in 0..megabytes {
            hub.publish_on_admin(&[("topic", TOPIC), ("data", &data)])?;
            reading.expect_data(&data).map_err(place)?;
        }
        let series = "gush_streams_closed_total{reason=\"write_timeout\"}";
        hub.wait_metric(series, |count| count == 1).map_err(place)?;
        hub.publish_on_admin(&[("topic", TOPIC), ("data", "after")])?;
        reading.expect_data("after").map_err(place)?;
    }
    Ok(())
}

#[test]
fn a_drain_ends_streams_of_every_kind_with_a_retry() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.option("--drain-window", "1s");
    let files = write_certificate(builder.directory(), "hub.example")?;
    let mut hub = builder
        .option("--tls-cert", &files.certificate.display().to_string())
        .option("--tls-key", &files.key.display().to_string())
        .start()?;
    let mut streams = Vec::new();
    for version in ["--http2", "--http1.1", "--http2", "--http1.1"] {
        streams.push(subscribe(&hub, "https", &["--insecure", version])?);
    }
    hub.sigterm()?;
    for curl in &mut streams {
        let mut retries = 0;
        // The iterator ends when curl has printed all.
        while let Ok(item) = curl.next_item() {
            retries += u32::from(matches!(item, SseItem::Retry(_)));
        }
        let code = curl.wait()?;
        // One when it began, one at its end.
        if retries != 2 || code != Some(0) {
            let got = format!(
                "{retries} retry lines, exit code {code:?}\n{}",
                hub.output()
            );
            return Failure::mismatch("drained stream", "a retry and a regular end", got);
        }
    }
    let status = hub.wait_exit(PATIENCE)?;
    if status.success() {
        Ok(())
    } else {
        Failure::mismatch("exit", "0", status)
    }
}

#[test]
fn streams_of_every_kind_end_when_the_token_expires() -> Outcome<()> {
    let (hub, _) = with_tls()?;
    let claims = gush_testkit::Claims::new().subscribe(&["*"]).expires_in(4);
    let token = format!(
        "Authorization: Bearer {}",
        hub.subscriber_key().sign(&claims)?
    );
    let mut ends = Vec::new();
    for version in ["--http2", "--http1.1"] {
        let url = format!("https://{}/.well-known/mercure?topic=x", hub.address());
        let child = Command::new("curl")
            .args(["--silent", "--insecure", "--no-buffer", "--max-time", "20"])
            .args([version, "--header", &token, &url])
            .stdout(Stdio::null())
            .spawn()?;
        ends.push((version, child));
    }
    for (version, mut child) in ends {
        let code = child.wait()?.code();
        if code != Some(0) {
            return Failure::mismatch(version, "a regular end, code 0", format!("{code:?}"));
        }
    }
    hub.wait_metric("gush_streams_closed_total{reason=\"token_expired\"}", |n| {
        n == 2
    })
    .map(drop)
}

#[test]
fn the_other_requests_work_over_h2_too() -> Outcome<()> {
    let (hub, _) = with_tls()?;
    let stream = subscribe(&hub, "https", &["--insecure", "--http2"])?;
    let url = format!("https://{}/.well-known/mercure", hub.address());
    let publisher = format!("Authorization: Bearer {}", hub.publisher_token()?);
    let subscriber = format!("Authorization: Bearer {}", hub.subscriber_token()?);
    let topic = format!("topic={TOPIC}");
    let with_topic = format!("{url}?topic=x");
    let (ok, subscribe) = (["--header", &publisher], ["--header", &subscriber]);
    let big = format!("data={}", "x".repeat(100_000));
    let rows: [(&[&str], &str, &str); 7] = [
        (
            &[
                ok[0],
                ok[1],
                "--data-urlencode",
                &topic,
                "--data",
                "data=over h2",
            ],
            &url,
            "200",
        ),
        (
            &[ok[0], ok[1], "--data-urlencode", &topic, "--data", &big],
            &url,
            "200",
        ),
        (&["--data-urlencode", &topic], &url, "401"),
        (&[ok[0], ok[1], "--data", "data=x"], &url, "400"),
        (&[subscribe[0], subscribe[1], "--head"], &with_topic, "200"),
        (&[subscribe[0], subscribe[1]], &url, "400"),
        (&["--request", "PUT"], &url, "405"),
    ];
    for (arguments, url, wanted) in rows {
        let output = Command::new("curl")
            .args(["--silent", "--insecure", "--http2", "--max-time", "20"])
            .args([
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_version} %{http_code}",
            ])
            .args(arguments)
            .arg(url)
            .output()?;
        let got = String::from_utf8_lossy(&output.stdout).into_owned();
        if got != format!("2 {wanted}") {
            let shown: Vec<&str> = arguments.iter().map(|a| &a[..a.len().min(60)]).collect();
            return Failure::mismatch(format!("{shown:?}"), format!("2 {wanted}"), got);
        }
    }
    stream.expect_data("over h2")?;
    stream.expect_data(&"x".repeat(100_000))?;
    // HEAD left no subscriber: only the stream is there.
    eventually("one subscriber", PATIENCE, || {
        Ok((hub.metric_sum("gush_subscribers_open")? == 1).then_some(()))
    })
}
