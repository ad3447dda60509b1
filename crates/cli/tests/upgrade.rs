//! A new process takes a running hub's place: nobody is refused, nothing is lost or doubled, and
//! live streams go on. A new process that does not come to serve changes nothing.

use gush_testkit::{
    Connection, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, ProgramLink, Request,
    SseStream, eventually,
};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const TOPIC: &str = "https://upgrade.example/1";

/// A hub started by a link, which can be made to lead elsewhere.
struct Linked {
    hub: HubBuilder,
    link: ProgramLink,
}

fn linked() -> Outcome<Linked> {
    let link = ProgramLink::to(env!("CARGO_BIN_EXE_gush"))?;
    let hub = HubBuilder::new(link.path())?.option("--drain-window", "0");
    Ok(Linked { hub, link })
}

fn publish(hub: &HubProcess, data: &str) -> Outcome<String> {
    hub.publish(&[("topic", TOPIC), ("data", data)])
}

/// Publishes numbers on one kept connection until told to stop; how many were acknowledged.
fn publish_numbers(hub: &HubProcess, stop: &AtomicBool, sent: &AtomicU64) -> Outcome<u64> {
    let mut connection = hub.connect()?;
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let data = number.to_string();
        let request = hub.publish_request(&[("topic", TOPIC), ("data", &data)])?;
        connection.exchange(&request)?.expect_status(&[200])?;
        number += 1;
        sent.store(number, Ordering::SeqCst);
    }
    Ok(number)
}

/// Connects and asks again and again; any failure is one client that Firefox would have lost.
fn keep_connecting(hub: &HubProcess, stop: &AtomicBool) -> Outcome<u64> {
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        let stream = TcpStream::connect(hub.address())?;
        let mut connection = Connection::over(stream, hub.address())?;
        connection
            .exchange(&Request::get("/healthz"))?
            .expect_status(&[200])?;
        count += 1;
    }
    Ok(count)
}

fn expect_numbers(stream: &mut SseStream, count: u64) -> Outcome<()> {
    for number in 0..count {
        stream.expect_data(&number.to_string())?;
    }
    Ok(())
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Outcome<T>>) -> Outcome<T> {
    thread
        .join()
        .map_err(|_| Failure::new("a thread panicked"))?
}

/// Live streams, a publisher and new connections under two upgrades in a row.
fn nothing_is_lost(builder: &HubBuilder) -> Outcome<()> {
    let mut hub = builder.start()?;
    let before = publish(&hub, "before")?;
    let mut streams: Vec<_> = (0..20)
        .map(|_| hub.subscribe(&[("topic", TOPIC)]))
        .collect::<Outcome<_>>()?;
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let first_pid = hub.pid();
    let shared = &hub;
    let (pids, count, connected) = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish_numbers(shared, &stop, &sent));
        let visitor = scope.spawn(|| keep_connecting(shared, &stop));
        let upgrades = || -> Outcome<Vec<u32>> {
            let mut pids = vec![first_pid];
            for _ in 0..2 {
                let until = sent.load(Ordering::SeqCst) + 20;
                eventually("some events", PATIENCE, || {
                    Ok((sent.load(Ordering::SeqCst) >= until).then_some(()))
                })?;
                pids.push(upgrade(shared)?);
            }
            let until = sent.load(Ordering::SeqCst) + 20;
            eventually("some events", PATIENCE, || {
                Ok((sent.load(Ordering::SeqCst) >= until).then_some(()))
            })?;
            Ok(pids)
        };
        let pids = upgrades();
        stop.store(true, Ordering::SeqCst);
        let (count, connected) = (joined(publisher), joined(visitor));
        Ok::<_, Failure>((pids?, count?, connected?))
    })
    .map_err(|failure| failure.within(hub.output()))?;
    for pid in &pids[1..] {
        hub.follow(*pid);
    }
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    assert!(connected > 0);
    for stream in &mut streams {
        expect_numbers(stream, count)?;
    }
    // Ids from before are known, and so are those of each process.
    let mut resumed = hub.resume(&[("topic", TOPIC)], &before)?;
    resumed.head().expect_header("last-event-id", &before)?;
    expect_numbers(&mut resumed, count)?;
    publish(&hub, "after")?;
    resumed.expect_data("after")?;
    for stream in &mut streams {
        stream.expect_data("after")?;
    }
    Ok(())
}

/// As `gush upgrade` asks for it.
fn upgrade(hub: &HubProcess) -> Outcome<u32> {
    let mut connection = Connection::open(hub.admin()?)?;
    connection.send_request(&Request::new("POST", "/upgrade").header("Content-Length", "0"))?;
    let response = connection.read_response_within(4 * PATIENCE)?;
    response.expect_status(&[200])?;
    let text = response.text();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits
        .parse()
        .map_err(|_| Failure::new(format!("no process id in {text}")))
}

#[test]
fn nothing_is_lost_with_a_disk_log() -> Outcome<()> {
    nothing_is_lost(&HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.disk())
}

#[test]
fn nothing_is_lost_with_a_memory_log() -> Outcome<()> {
    nothing_is_lost(&HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?)
}

#[test]
fn nothing_is_lost_with_descriptor_tables_of_their_own() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.disk();
    nothing_is_lost(&builder.option("--descriptor-tables", "own"))
}

/// More streams than go into one message, each with its own cursor.
fn many_streams_go_over(tables: &str) -> Outcome<()> {
    const STREAMS: usize = 300;
    let mut hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .option("--descriptor-tables", tables)
        .start()?;
    let topic = |number: usize| format!("{TOPIC}/{}", number % 7);
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        streams.push(hub.subscribe(&[("topic", &topic(number)), ("topic", TOPIC)])?);
        publish(&hub, &number.to_string())?;
    }
    hub.upgrade()?;
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    hub.wait_metric("gush_streams_taken_over_total", |taken| {
        taken == STREAMS as u64
    })?;
    for number in 0..7 {
        hub.publish(&[
            ("topic", &topic(number)),
            ("data", &format!("own {number}")),
        ])?;
    }
    publish(&hub, "after")?;
    for (number, stream) in streams.iter_mut().enumerate() {
        for missed in number..STREAMS {
            stream.expect_data(&missed.to_string())?;
        }
        stream.expect_data(&format!("own {}", number % 7))?;
        stream.expect_data("after")?;
    }
    Ok(())
}

#[test]
fn many_streams_go_over_with_one_descriptor_table() -> Outcome<()> {
    many_streams_go_over("shared")
}

#[test]
fn many_streams_go_over_with_descriptor_tables_of_their_own() -> Outcome<()> {
    many_streams_go_over("own")
}

/// After an upgrade that failed: the same process serves its streams, its log and new visitors.
fn goes_on_as_before(disk: bool, script: &str, said: &str) -> Outcome<()> {
    let linked = linked()?;
    let builder = if disk { linked.hub.disk() } else { linked.hub };
    // Only one that hangs is waited for so long; the others have time to come that far.
    let is_hanging = said.starts_with("took too long");
    let patience = if is_hanging { "3s" } else { "30s" };
    let builder = builder.option("--upgrade-timeout", patience);
    let mut hub = builder.start()?;
    let before = publish(&hub, "before")?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let mut publisher = hub.connect()?;
    linked.link.replace(script)?;
    let mut order = Connection::open(hub.admin()?)?;
    order.send_request(&Request::new("POST", "/upgrade").header("Content-Length", "0"))?;
    // While it is tried.
    for number in 0..50 {
        let data = number.to_string();
        let request = hub.publish_request(&[("topic", TOPIC), ("data", &data)])?;
        publisher.exchange(&request)?.expect_status(&[200])?;
    }
    let response = order.read_response_within(4 * PATIENCE)?;
    response
        .expect_status(&[500])
        .map_err(|failure| failure.within(hub.output()))?;
    assert!(response.text().contains(said), "{}", response.text());
    publish(&hub, "after")?;
    expect_numbers(&mut stream, 50)?;
    stream.expect_data("after")?;
    let mut resumed = hub.resume(&[("topic", TOPIC)], &before)?;
    resumed.head().expect_header("last-event-id", &before)?;
    expect_numbers(&mut resumed, 50)?;
    resumed.expect_data("after")?;
    hub.get("/readyz")?.expect_status(&[200])?;
    let failed = hub.metric("gush_upgrades_failed_total")?;
    assert_eq!(failed, Some(1), "the same process");
    hub.sigterm()?;
    assert_eq!(hub.wait_exit(4 * PATIENCE)?.code(), Some(0));
    Ok(())
}

/// The hub's own program, started by the script with the arguments given to that.
const REAL: &str = env!("CARGO_BIN_EXE_gush");

#[test]
fn a_binary_that_cannot_start_changes_nothing() -> Outcome<()> {
    goes_on_as_before(true, "exit 3", "ended at reading its configuration")
}

#[test]
fn a_binary_that_hangs_changes_nothing() -> Outcome<()> {
    goes_on_as_before(
        true,
        "exec sleep 600",
        "took too long at reading its configuration",
    )
}

#[test]
fn a_configuration_that_is_refused_changes_nothing() -> Outcome<()> {
    let script = format!("exec {REAL} \"$@\" --retry nonsense");
    goes_on_as_before(true, &script, "ended at reading its configuration")
}

#[test]
fn another_log_is_refused() -> Outcome<()> {
    let script = format!(
        "exec {REAL} serve --log memory --listen 127.0.0.1:0 --admin-listen off --publisher-key {}",
        "x".repeat(32)
    );
    goes_on_as_before(true, &script, "cannot be exchanged for memory")
}

/// A new process, played by a script: it says what the hand-over wants to hear until it has the
/// log, says that too if it is to, and then does something else.
fn with_the_log(then_says: &str, does: &str) -> String {
    // A message is its length in eight bytes, and JSON.
    let say = |text: &str| {
        format!(
            "printf '\\{:03o}\\0\\0\\0\\0\\0\\0\\0%s' '{text}' >&0\n",
            text.len()
        )
    };
    let hear = |text: &str| {
        format!("until dd bs=65536 count=1 2>/dev/null <&0 | grep -q {text}; do :; done\n")
    };
    let mut script = hear("Hello") + &say(r#"{"Ready":{"version":2,"takes_streams":true}}"#);
    script += &hear("Yours");
    if !then_says.is_empty() {
        script += &say(then_says);
        script += &hear("Go");
    }
    script + does
}

#[test]
fn a_new_process_that_dies_with_the_log_in_hand_changes_nothing() -> Outcome<()> {
    goes_on_as_before(
        true,
        &with_the_log("", "exit 1"),
        "ended at opening the log",
    )
}

#[test]
fn a_new_process_that_dies_with_a_memory_log_in_hand_changes_nothing() -> Outcome<()> {
    goes_on_as_before(
        false,
        &with_the_log("", "exit 1"),
        "ended at opening the log",
    )
}

#[test]
fn a_new_process_that_dies_before_it_serves_changes_nothing() -> Outcome<()> {
    let script = with_the_log(r#""Opened""#, "exit 1");
    goes_on_as_before(true, &script, "ended at beginning to serve")
}

#[test]
fn a_new_process_that_hangs_with_the_log_in_hand_is_killed() -> Outcome<()> {
    let script = with_the_log("", "exec sleep 600");
    goes_on_as_before(true, &script, "took too long at opening the log")
}

#[test]
fn a_new_process_that_cannot_have_the_log_changes_nothing() -> Outcome<()> {
    let failed = r#"{"Failed":"no such luck"}"#;
    goes_on_as_before(true, &with_the_log(failed, "exit 1"), "no such luck")
}

/// SIGUSR2 does the same, and the new process starts what is at the path by then.
#[test]
fn a_signal_starts_what_is_at_the_path() -> Outcome<()> {
    let linked = linked()?;
    let mut hub = linked.hub.disk().start()?;
    linked
        .link
        .replace(&format!("echo the new one >&2\nexec {REAL} \"$@\""))?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    hub.signal("USR2")?;
    hub.wait_stderr(&["the new one"])?;
    let line = hub.wait_stderr(&["the new process serves", "pid="])?;
    let pid = line
        .rsplit_once("pid=")
        .and_then(|(_, pid)| pid.trim().parse().ok());
    hub.follow(pid.ok_or_else(|| Failure::new(line))?);
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    publish(&hub, "after")?;
    stream.expect_data("after")?;
    let taken = hub.metric("gush_streams_taken_over_total")?;
    assert_eq!(taken, Some(1));
    Ok(())
}

/// A kept connection on which a part of the next request was sent goes on in the new process.
#[test]
fn half_a_request_goes_over() -> Outcome<()> {
    let mut hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    let request = hub.publish_request(&[("topic", TOPIC), ("data", "halved")])?;
    let bytes = request.to_bytes(&hub.address().to_string());
    let mut halves = Vec::new();
    // In the head, in the body, and behind a request that hyper served.
    for (at, first) in [(20, None), (bytes.len() - 3, None), (20, Some("/healthz"))] {
        let mut connection = hub.connect()?;
        if let Some(target) = first {
            let response = connection.exchange(&Request::get(target))?;
            response.expect_status(&[200])?;
        }
        connection.send(&bytes[..at])?;
        halves.push((connection, at));
    }
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    hub.upgrade()?;
    for (connection, at) in &mut halves {
        connection.send(&bytes[*at..])?;
        connection.read_response()?.expect_status(&[200])?;
        stream.expect_data("halved")?;
    }
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    Ok(())
}

/// A reader that is far behind, in the middle of an event, gets every byte once.
#[test]
fn a_slow_reader_goes_on_in_the_middle_of_an_event() -> Outcome<()> {
    let mut hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--send-buffer", "16KiB")
        .start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    // More than any socket takes.
    let large: Vec<String> = (0..40)
        .map(|number| format!("{number}{}", "x".repeat(200_000)))
        .collect();
    for data in &large {
        publish(&hub, data)?;
    }
    hub.wait_metric("gush_subscribers_behind", |behind| behind == 1)?;
    hub.upgrade()?;
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    for data in &large {
        stream.expect_data(data)?;
    }
    Ok(())
}

/// The new process knows the subscribers that came over by the names they had, and says nothing
/// about them.
#[test]
fn the_active_subscriptions_stay_as_they_are() -> Outcome<()> {
    const SUBSCRIPTIONS: &str = "/.well-known/mercure/subscriptions";
    let mut hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .subscriptions()
        .disk()
        .start()?;
    let mut watching = hub.subscribe(&[("topic", "/.well-known/mercure/subscriptions/{t}/{s}")])?;
    watching.next_event()?;
    let _stream = hub.subscribe(&[("topic", TOPIC)])?;
    watching.next_event()?;
    let (address, token) = (hub.address(), hub.subscriber_token()?);
    let list = || -> Outcome<String> {
        let request = Request::get(SUBSCRIPTIONS).bearer(&token);
        let response = gush_testkit::exchange(address, &request)?;
        response.expect_status(&[200])?;
        Ok(response.text())
    };
    let names = |text: &str| -> Vec<String> {
        let found = text
            .match_indices("urn:uuid:")
            .map(|(at, _)| text[at..at + 45].to_owned());
        let mut names: Vec<_> = found.collect();
        names.sort();
        names.dedup();
        names
    };
    let before = names(&list()?);
    let pid = upgrade(&hub)?;
    hub.follow(pid);
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    // Streams come over one by one. The last event's id stands in the list too.
    eventually("the same names", PATIENCE, || {
        Ok((names(&list()?) == before).then_some(()))
    })?;
    publish(&hub, "next")?;
    let _third = hub.subscribe(&[("topic", "https://upgrade.example/2")])?;
    let told = watching.next_event()?;
    assert!(told.data.contains("upgrade.example/2"), "{}", told.data);
    Ok(())
}

/// Web pages reach a listener on loopback; they are not obeyed.
#[test]
fn a_web_page_cannot_order_anything() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    for path in ["/upgrade", "/drain"] {
        let request = Request::new("POST", path)
            .header("Origin", "https://evil.example")
            .body(r#"{"rate":1}"#);
        gush_testkit::exchange(hub.admin()?, &request)?.expect_status(&[403])?;
        let public = Request::new("POST", path).body(r#"{"rate":1}"#);
        gush_testkit::exchange(hub.address(), &public)?.expect_status(&[404])?;
    }
    Ok(())
}
