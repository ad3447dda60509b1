//! Many events in one request, and the command that sends it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use gush_testkit::{Claims, HubBuilder, HubProcess, Outcome, Request};

const TOPIC: &str = "https://batch.example/1";
const HUB: &str = "/.well-known/mercure";

fn start() -> Outcome<HubProcess> {
    HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()
}

fn batch(hub: &HubProcess, body: impl Into<Vec<u8>>) -> Outcome<Request> {
    Ok(Request::new("POST", HUB)
        .bearer(&hub.publisher_token()?)
        .header("Content-Type", "application/x-ndjson")
        .body(body))
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
        let expected =
            "{\"error\":\"the line is larger than 1024 bytes\",\"status\":400,\"line\":2}";
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
    let last = "{\"error\":\"the hub is shutting down\",\"status\":503,\"line\":2}\n";
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

fn line(data: &str) -> String {
    format!("{{\"topic\":\"{TOPIC}\",\"data\":\"{data}\"}}\n")
}

/// The command, sending; killed when dropped.
struct Sending {
    child: Child,
    lines: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sending {
    fn start(hub: &HubProcess, token: &str) -> Outcome<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gush"))
            .args(["pub", "--ndjson", "-"])
            .args(["--hub", &format!("http://{}{HUB}", hub.address())])
            .args(["--token", token])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let answers = child.stdout.take().ok_or("it was started with a pipe")?;
        Ok(Self {
            lines: child.stdin.take(),
            answers: BufReader::new(answers),
            child,
        })
    }

    fn send(&mut self, bytes: &str) -> Outcome<()> {
        let lines = self.lines.as_mut().ok_or("not finished yet")?;
        lines.write_all(bytes.as_bytes())?;
        Ok(lines.flush()?)
    }

    fn answer(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }
}

#[test]
fn the_command_sends_one_request_and_prints_answers_as_they_come() -> Outcome<()> {
    let hub = start()?;
    let mut batch = Sending::start(&hub, &hub.publisher_token()?)?;
    for n in 0..3 {
        let whole = line(&n.to_string());
        let (first, second) = whole.split_at(10);
        batch.send(first)?;
        batch.send(second)?;
        assert!(batch.answer()?.starts_with("{\"id\""));
    }
    // Its number is that in the whole input.
    batch.send("no JSON\n")?;
    assert!(batch.answer()?.ends_with("\"line\":4}\n"));
    batch.send(line("last").trim_end())?;
    drop(batch.lines.take());
    assert!(batch.answer()?.starts_with("{\"id\""));
    assert_eq!(batch.answer()?, "");
    assert_eq!(batch.child.wait()?.code(), Some(1));
    Ok(())
}

#[test]
fn the_command_says_when_the_hub_ends_the_request() -> Outcome<()> {
    let hub = start()?;
    let claims = Claims::new().publish(&["*"]).expires_in(1);
    let mut batch = Sending::start(&hub, &hub.publisher_key().sign(&claims)?)?;
    loop {
        if batch.send(&line("x")).is_err() {
            break;
        }
        let answer = batch.answer()?;
        if !answer.starts_with("{\"id\"") {
            assert!(
                answer.is_empty() || answer.contains("\"status\":401"),
                "{answer}"
            );
            break;
        }
    }
    // It does not wait for more input.
    let mut left = String::new();
    std::io::Read::read_to_string(&mut batch.answers, &mut left)?;
    assert_eq!(batch.child.wait()?.code(), Some(1), "{left}");
    Ok(())
}
