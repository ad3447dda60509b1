//! Upgrades that meet something else: a signal to end, a drain, another upgrade, a new process that
//! fails once it serves.

use gush_testkit::{
    BATCH_END, Connection, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, ProgramLink,
    Request, Response, begin_batch, eventually, exchange, send_batch_line,
};
use std::path::{Path, PathBuf};

const REAL: &str = env!("CARGO_BIN_EXE_gush");
const TOPIC: &str = "https://failures.example/1";

/// A hub started by a link, which can be made to lead elsewhere.
struct Linked {
    hub: HubBuilder,
    link: ProgramLink,
}

fn linked() -> Outcome<Linked> {
    let link = ProgramLink::to(REAL)?;
    Ok(Linked {
        hub: HubBuilder::new(link.path())?.disk(),
        link,
    })
}

impl Linked {
    /// The program itself is there again.
    fn restored(&self) -> Outcome<HubBuilder> {
        self.link.replace(&format!("exec {REAL} \"$@\""))?;
        Ok(self.hub.clone())
    }

    /// The next new process says that it is there, and goes on once the second file is.
    fn replace_by_a_slow_one(&self) -> Outcome<(PathBuf, PathBuf)> {
        let (there, go) = (self.link.beside("there"), self.link.beside("go"));
        self.link.replace(&format!(
            "touch '{}'\nuntil [ -e '{}' ]; do sleep 0.02; done\nexec {REAL} \"$@\"",
            there.display(),
            go.display()
        ))?;
        Ok((there, go))
    }
}

fn wait_file(path: &Path) -> Outcome<()> {
    eventually("the new process", PATIENCE, || {
        Ok(path.exists().then_some(()))
    })
}

/// A batch of which line 0 has been sent, and that is not at its end.
fn batch_of_one(hub: &HubProcess) -> Outcome<Connection> {
    let mut batch = begin_batch(hub)?;
    send_batch_line(&mut batch, TOPIC, "0")?;
    Ok(batch)
}

fn publish(hub: &HubProcess, data: &str) -> Outcome<String> {
    hub.publish(&[("topic", TOPIC), ("data", data)])
}

/// An order whose outcome comes later.
fn order(hub: &HubProcess) -> Outcome<Connection> {
    let mut connection = Connection::open(hub.admin()?)?;
    connection.send_request(&Request::new("POST", "/upgrade").header("Content-Length", "0"))?;
    Ok(connection)
}

fn outcome(order: &mut Connection) -> Outcome<Response> {
    order.read_response_within(4 * PATIENCE)
}

fn is_answered(order: &Connection) -> Outcome<bool> {
    let socket = order.socket();
    socket.set_nonblocking(true)?;
    let seen = socket.peek(&mut [0]);
    socket.set_nonblocking(false)?;
    Ok(matches!(seen, Ok(1..)))
}

fn pid_of(response: &Response) -> Outcome<u32> {
    response.expect_status(&[200])?;
    let text = response.text();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| Failure::new(text))
}

fn refused(response: &Response, says: &str) -> Outcome<()> {
    response.expect_status(&[500])?;
    if response.text().contains(says) {
        return Ok(());
    }
    Failure::mismatch("reason", says, response.text())
}

/// A hub that is told to end while a new process comes up ends, and that process with it: what was
/// accepted is stored, and streams are told when to come back.
#[test]
fn a_signal_to_end_ends_the_upgrade_and_the_hub() -> Outcome<()> {
    let linked = linked()?;
    let mut hub = linked.hub.clone().option("--drain-window", "0").start()?;
    let id = publish(&hub, "before")?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let (there, _) = linked.replace_by_a_slow_one()?;
    let mut ordered = order(&hub)?;
    wait_file(&there)?;
    publish(&hub, "during")?;
    stream.expect_data("during")?;
    hub.sigterm()?;
    refused(&outcome(&mut ordered)?, "the hub is told to end")?;
    stream.read_to_end(PATIENCE)?;
    assert!(stream.retry().is_some());
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    // The log is whole.
    let hub = linked.restored()?.start()?;
    let mut stream = hub.resume(&[("topic", TOPIC)], &id)?;
    stream.expect_data("during")?;
    Ok(())
}

/// The second order waits; the third is told at once. What the first comes to holds for the second.
#[test]
fn of_several_orders_one_is_obeyed() -> Outcome<()> {
    let linked = linked()?;
    let mut hub = linked.hub.start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let (there, go) = linked.replace_by_a_slow_one()?;
    let mut first = order(&hub)?;
    wait_file(&there)?;
    let mut others = [order(&hub)?, order(&hub)?];
    // One of the two is refused once the other waits. Signals are as many as one.
    eventually("a refusal", PATIENCE, || {
        let answered = others
            .iter()
            .map(is_answered)
            .collect::<Outcome<Vec<_>>>()?;
        Ok(answered.contains(&true).then_some(()))
    })?;
    hub.signal("USR2")?;
    hub.signal("USR2")?;
    publish(&hub, "during")?;
    std::fs::write(&go, "")?;
    hub.follow(pid_of(&outcome(&mut first)?)?);
    for other in &mut others {
        refused(&outcome(other)?, "another upgrade")?;
    }
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    publish(&hub, "after")?;
    stream.expect_all(&["during", "after"])
}

#[test]
fn a_hub_that_drains_is_not_upgraded() -> Outcome<()> {
    let linked = linked()?;
    let mut hub = linked.hub.option("--drain-window", "4s").start()?;
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    let mut ordered = Connection::open(hub.admin()?)?;
    hub.sigterm()?;
    eventually("the drain", PATIENCE, || {
        let answer = exchange(hub.admin()?, &Request::get("/readyz"))?;
        Ok((answer.status() == 503).then_some(()))
    })?;
    ordered.send_request(&Request::new("POST", "/upgrade").header("Content-Length", "0"))?;
    refused(&outcome(&mut ordered)?, "the end of the hub")?;
    hub.signal("USR2")?;
    for stream in &mut streams {
        stream.read_to_end(PATIENCE)?;
        assert!(stream.retry().is_some());
    }
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    Ok(())
}

/// Streams that an operator has closed for balance are closed; the order ends with the process that
/// it was given to, and the others go over.
#[test]
fn an_order_to_close_streams_ends_with_the_old_process() -> Outcome<()> {
    const STREAMS: usize = 20;
    let mut hub = HubBuilder::new(REAL)?.start()?;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    let drain = Request::new("POST", "/drain").body(r#"{"rate":1}"#);
    exchange(hub.admin()?, &drain)?.expect_status(&[200])?;
    hub.upgrade()?;
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    publish(&hub, "after")?;
    let (mut went_over, mut closed) = (0, 0);
    for stream in &mut streams {
        match stream.next_event() {
            Ok(event) => {
                assert_eq!(event.data, "after");
                went_over += 1;
            }
            Err(_) if stream.retry().is_some() => closed += 1,
            Err(failure) => return Err(failure),
        }
    }
    assert_eq!(went_over + closed, STREAMS);
    assert!(
        went_over > 0,
        "the last would have been closed in twenty seconds"
    );
    let cancel = Request::new("POST", "/drain").body(r#"{"cancel":true}"#);
    let answer = exchange(hub.admin()?, &cancel)?;
    assert_eq!(answer.text(), r#"{"cancelled":false}"#);
    Ok(())
}

/// Once it has said that it serves, there is no way back: its failure is the hub's, and the old
/// process says so by its exit code. Streams are told when to come back, publishers to try again.
#[test]
fn a_new_process_that_fails_once_it_serves_is_the_hubs_failure() -> Outcome<()> {
    let linked = linked()?;
    let mut hub = linked.hub.clone().option("--drain-window", "20s").start()?;
    let id = publish(&hub, "before")?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let mut batch = batch_of_one(&hub)?;
    stream.expect_data("0")?;
    let say = |text: &str| {
        format!(
            "printf '\\{:03o}\\0\\0\\0\\0\\0\\0\\0%s' '{text}' >&0\n",
            text.len()
        )
    };
    let hear = |text: &str| {
        format!("until dd bs=65536 count=1 2>/dev/null <&0 | grep -q {text}; do :; done\n")
    };
    linked.link.replace(
        &[
            hear("Hello"),
            say(r#"{"Ready":{"version":2,"takes_streams":true}}"#),
            hear("Yours"),
            say(r#""Opened""#),
            hear("Go"),
            say(r#""Serving""#),
            "exit 7".into(),
        ]
        .concat(),
    )?;
    let pid = pid_of(&outcome(&mut order(&hub)?)?)?;
    eventually("the end of the new process", PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Ok(stat.contains(") Z ").then_some(()))
    })?;
    send_batch_line(&mut batch, TOPIC, "1")?;
    batch.send(BATCH_END)?;
    let answer = batch.read_response()?.text();
    assert!(answer.contains("\"status\":503,\"line\":2"), "{answer}");
    stream.read_to_end(PATIENCE)?;
    assert!(stream.retry().is_some());
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(1));
    hub.wait_stderr(&["the new process served, and then failed", "7"])?;
    let hub = linked.restored()?.start()?;
    let resumed = hub.resume(&[("topic", TOPIC)], &id)?;
    resumed.head().expect_header("last-event-id", &id)
}

/// One upgrade after the other, as fast as they are obeyed, while the oldest process still serves
/// a batch: that is answered through all of them.
#[test]
fn upgrades_in_a_row_keep_what_is_under_way() -> Outcome<()> {
    let mut hub = HubBuilder::new(REAL)?.disk().start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let mut batch = batch_of_one(&hub)?;
    stream.expect_data("0")?;
    for n in 1..4 {
        hub.upgrade()?;
        send_batch_line(&mut batch, TOPIC, &n.to_string())?;
        stream.expect_data(&n.to_string())?;
    }
    batch.send(BATCH_END)?;
    let answer = batch.read_response()?.text();
    assert_eq!(answer.lines().count(), 4, "{answer}");
    assert!(
        answer.lines().all(|line| line.starts_with("{\"id\"")),
        "{answer}"
    );
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    Ok(())
}
