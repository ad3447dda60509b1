//! A disk whose syncs take long: a real hub on a real disk, with a library before the C library's
//! that makes each sync wait. The brownout goes up step by step for it and comes down again, and
//! whoever only asks how the hub is gets an answer all the time.

use gush_testkit::{
    Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, eventually, exchange,
};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const TOPIC: &str = "https://disk.example/1";
const HUB: &str = "/.well-known/mercure";

/// Where the brownout begins; its next steps at two and four times as much.
const LOG: Duration = Duration::from_millis(200);
const DWELL: Duration = Duration::from_millis(250);

/// What a step up and a step down say.
const UP: [&str; 3] = [
    "brownout: new anonymous streams are refused",
    "brownout: all new streams are refused",
    "brownout: publishes are refused too",
];
const DOWN: [&str; 3] = [
    "brownout recedes: everything is served",
    "brownout recedes: new anonymous streams are refused",
    "brownout recedes: all new streams are refused",
];

/// A hub and the disk under it.
struct Slow {
    hub: HubProcess,
    file: PathBuf,
}

impl Slow {
    fn start() -> Outcome<Self> {
        let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
            .disk()
            .anonymous();
        let library = builder.directory().join("slow_sync.so");
        compile(&library)?;
        let file = builder.directory().join("delay");
        std::fs::write(&file, "0")?;
        let hub = builder
            .option("--brownout-log", &format!("{}ms", LOG.as_millis()))
            .option("--brownout-dwell", &format!("{}ms", DWELL.as_millis()))
            // Only what the test presses on, whatever else the machine does.
            .option("--brownout-turn", "off")
            .option("--brownout-intake", "off")
            .env("LD_PRELOAD", &library.display().to_string())
            .env("SLOW_SYNC_FILE", &file.display().to_string())
            .start()?;
        Ok(Self { hub, file })
    }

    /// From the next sync on each takes so long.
    fn set_delay(&self, delay: Duration) -> Outcome<()> {
        let whole = self.file.with_extension("new");
        std::fs::write(&whole, delay.as_millis().to_string())?;
        Ok(std::fs::rename(whole, &self.file)?)
    }

    fn reach(&self, step: u64) -> Outcome<()> {
        self.hub
            .wait_metric("gush_brownout_step", |now| now == step)
            .map(drop)
    }

    fn probes_answer(&self) -> Outcome<()> {
        for target in ["/healthz", "/readyz"] {
            self.hub.get(target)?.expect_status(&[200])?;
            self.hub.get_admin(target)?.expect_status(&[200])?;
        }
        for target in ["/metrics", "/limits", "/drain"] {
            self.hub.get_admin(target)?.expect_status(&[200])?;
        }
        Ok(())
    }

    fn subscribe(&self, token: Option<&str>) -> Outcome<u16> {
        // HEAD: what a stream's answer would be, without the stream.
        let request = Request::new("HEAD", &format!("{HUB}?topic=x"));
        let request = match token {
            Some(token) => request.bearer(token),
            None => request,
        };
        Ok(exchange(self.hub.address(), &request)?.status())
    }
}

fn compile(library: &Path) -> Outcome<()> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/slow_disk/slow_sync.c");
    let built = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()))
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([library.as_os_str(), source.as_ref()])
        .arg("-ldl")
        .output()?;
    if built.status.success() {
        return Ok(());
    }
    Err(Failure::new(String::from_utf8_lossy(&built.stderr)))
}

/// Publishes one event after the other until it is told to stop; gives what was accepted.
struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<Vec<String>>>,
}

impl Publisher {
    fn stop(self) -> Outcome<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the publisher did not panic")
    }
}

fn publisher(hub: &HubProcess) -> Outcome<Publisher> {
    let stop = Arc::new(AtomicBool::new(false));
    let (address, token) = (hub.address(), hub.publisher_token()?);
    let told = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        let mut accepted = Vec::new();
        for n in 0.. {
            if told.load(Ordering::Relaxed) {
                break;
            }
            let data = n.to_string();
            let fields = [("topic", TOPIC), ("data", data.as_str())];
            let answer = exchange(address, &Request::form(HUB, &fields).bearer(&token))?;
            answer.expect_status(&[200, 503])?;
            if answer.status() == 200 {
                accepted.push(data);
            } else {
                assert!(answer.header("Retry-After").is_some(), "{}", answer.text());
            }
        }
        Ok(accepted)
    });
    Ok(Publisher { stop, thread })
}

/// The steps in the order of the log, each as its place in `UP` or `DOWN`.
fn steps(log: &str) -> Vec<(bool, usize)> {
    let find = |of: &[&str], line: &str| of.iter().position(|words| line.contains(words));
    let lines = log.lines();
    let of_line = |line| {
        let up = find(&UP, line).map(|step| (true, step + 1));
        up.or_else(|| find(&DOWN, line).map(|step| (false, step)))
    };
    lines.filter_map(of_line).collect()
}

#[test]
fn the_slower_the_disk_the_more_is_given_up_and_probes_are_answered() -> Outcome<()> {
    let slow = Slow::start()?;
    let token = slow.hub.subscriber_token()?;
    let mut open = slow.hub.subscribe(&[("topic", TOPIC)])?;
    let publisher = publisher(&slow.hub)?;
    open.expect_data("0")?;
    // In the middle of what belongs to each step.
    for (step, times) in [(1, 1.5), (2, 3.0), (3, 6.0)] {
        slow.set_delay(LOG.mul_f64(times))?;
        slow.reach(step)?;
        slow.probes_answer()?;
        assert_eq!(slow.subscribe(None)?, 503, "a stranger on step {step}");
        if step == 2 {
            assert_eq!(slow.subscribe(Some(&token))?, 503, "step 2");
        }
    }
    let at_most = slow.hub.metric("gush_brownout_step")?;
    assert!(
        at_most <= Some(3),
        "no reader is shed for a disk: {at_most:?}"
    );
    slow.set_delay(Duration::ZERO)?;
    let fast_again = Instant::now();
    slow.reach(0)?;
    // Down more slowly than up: five dwells for each step, of which one may have begun before.
    assert!(fast_again.elapsed() >= 5 * DWELL, "no hysteresis");
    slow.probes_answer()?;
    assert_eq!(slow.subscribe(None)?, 200);
    let accepted = publisher.stop()?;
    check_steps(&slow.hub)?;
    // Whatever was accepted meanwhile is delivered, once and in order; "0" was read above.
    for data in &accepted[1..] {
        open.expect_data(data)?;
    }
    slow.hub.publish(&[("topic", TOPIC), ("data", "last")])?;
    open.expect_data("last").map(drop)
}

/// One step at a time, each counted and each for the log.
fn check_steps(hub: &HubProcess) -> Outcome<()> {
    // It goes down a step before it says so.
    hub.wait_stderr(&[DOWN[0]])?;
    let log = hub.stderr();
    let steps = steps(&log);
    let mut now = 0;
    for (is_up, step) in &steps {
        let wanted = if *is_up { now + 1 } else { now - 1 };
        if *step != wanted {
            return Failure::mismatch("one step at a time", wanted, format!("{steps:?}"));
        }
        now = *step;
    }
    assert_eq!(
        (now, steps.iter().map(|(_, step)| *step).max()),
        (0, Some(3))
    );
    let strangers = log.lines().filter(|line| line.contains("brownout: "));
    let strangers: Vec<_> = strangers
        .filter(|line| !line.contains("by=\"log\""))
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    let counted = |direction: &str| {
        let series = format!("gush_brownout_changes_total{{direction=\"{direction}\"}}");
        hub.metric(&series)
    };
    let ups = steps.iter().filter(|(is_up, _)| *is_up).count() as u64;
    assert_eq!(counted("up")?, Some(ups));
    assert_eq!(counted("down")?, Some(steps.len() as u64 - ups));
    Ok(())
}

#[test]
fn a_sync_that_stands_still_is_seen_before_it_ends_and_loses_nothing() -> Outcome<()> {
    let slow = Slow::start()?;
    let mut open = slow.hub.subscribe(&[("topic", TOPIC)])?;
    slow.set_delay(Duration::from_secs(5))?;
    let request = slow
        .hub
        .publish_request(&[("topic", TOPIC), ("data", "slow")])?;
    let mut publisher = slow.hub.connect()?;
    publisher.send_request(&request)?;
    // Nothing was measured to its end yet.
    slow.reach(3)?;
    slow.set_delay(Duration::ZERO)?;
    slow.probes_answer()?;
    let refused = exchange(slow.hub.address(), &request)?;
    refused.expect_status(&[503])?;
    publisher.read_response()?.expect_status(&[200])?;
    open.expect_data("slow")?;
    eventually("the hub to take publishes again", PATIENCE, || {
        let answer = exchange(slow.hub.address(), &request)?;
        Ok((answer.status() == 200).then_some(()))
    })?;
    open.expect_data("slow").map(drop)
}
