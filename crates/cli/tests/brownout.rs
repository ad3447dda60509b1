//! Up and down the steps of the brownout, by a memory budget that is made smaller and larger, and
//! by events that take a shard long.

use gush_testkit::{
    Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, Response, SseStream, eventually,
    exchange, peers,
};
use std::path::PathBuf;

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://brownout.example/1";
const ENOUGH: u64 = 1 << 40;

/// The middle of each step's part of the memory; none for calm.
const SHARES: [f64; 5] = [0.0, 0.825, 0.875, 0.925, 2.0];

struct Pressed {
    hub: HubProcess,
    file: PathBuf,
    budget: u64,
}

impl Pressed {
    fn start() -> Outcome<Self> {
        let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.anonymous();
        let file = builder.directory().join("gush.toml");
        std::fs::write(&file, format!("memory_budget = \"{ENOUGH}B\"\n"))?;
        let hub = builder
            .option("--config", &file.display().to_string())
            .option("--brownout-dwell", "250ms")
            // Only what the test presses on, whatever else the machine does.
            .option("--brownout-turn", "off")
            .start()?;
        Ok(Self {
            hub,
            file,
            budget: ENOUGH,
        })
    }

    fn set_budget(&mut self, bytes: u64) -> Outcome<()> {
        self.budget = bytes;
        std::fs::write(&self.file, format!("memory_budget = \"{bytes}B\"\n"))?;
        self.hub.signal("HUP")
    }

    /// What the hub says of its pressure by memory.
    fn reading(&self) -> Outcome<String> {
        let page = self.hub.get_admin("/metrics")?.text();
        let line = "gush_pressure_ratio{source=\"memory\"} ";
        let ratio = page.lines().find_map(|text| text.strip_prefix(line));
        match ratio {
            None | Some("0") => Err(Failure::new("nothing measured yet")),
            Some(ratio) => Ok(ratio.to_owned()),
        }
    }

    /// What the hub takes by now, from what it says of its pressure.
    fn used(&mut self) -> Outcome<f64> {
        let before = eventually("a reading", PATIENCE, || self.reading().map(Some))?;
        // By a reading of another budget, which knows of all that the test has done so far.
        self.set_budget(self.budget + self.budget / 1000)?;
        let ratio = eventually("another reading", PATIENCE, || {
            self.reading().map(|now| (now != before).then_some(now))
        })?;
        let ratio: f64 = ratio.parse().map_err(|_| Failure::new(ratio))?;
        #[expect(clippy::cast_precision_loss, reason = "a budget has few digits")]
        Ok(ratio * 0.8 * self.budget as f64)
    }

    /// Presses until the hub is on this step.
    fn press(&mut self, step: usize) -> Outcome<()> {
        let used = self.used()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "some megabytes"
        )]
        self.set_budget((used / SHARES[step]) as u64)?;
        self.reach(step)
    }

    fn reach(&self, step: usize) -> Outcome<()> {
        self.hub
            .wait_metric("gush_brownout_step", |now| now == step as u64)
            .map(drop)
    }

    fn subscribe(&self, token: Option<&str>) -> Outcome<Response> {
        // HEAD: what a stream's answer would be, without the stream.
        let request = Request::new("HEAD", &format!("{HUB}?topic=x"));
        let request = match token {
            Some(token) => request.bearer(token),
            None => request,
        };
        exchange(self.hub.address(), &request)
    }

    fn publish(&self) -> Outcome<Response> {
        let request = self
            .hub
            .publish_request(&[("topic", TOPIC), ("data", "x")])?;
        exchange(self.hub.address(), &request)
    }

    fn probes_answer(&self) -> Outcome<()> {
        for target in ["/healthz", "/readyz"] {
            self.hub.get(target)?.expect_status(&[200])?;
            self.hub.get_admin(target)?.expect_status(&[200])?;
        }
        self.hub.get_admin("/metrics")?.expect_status(&[200])
    }
}

#[test]
fn each_step_gives_up_one_thing_more_and_nothing_else() -> Outcome<()> {
    let mut pressed = Pressed::start()?;
    let token = pressed.hub.subscriber_token()?;
    let mut open = pressed.hub.subscribe(&[("topic", TOPIC)])?;
    // What is done for the first time takes memory, of which a step is a twentieth.
    pressed.subscribe(Some(&token))?.expect_status(&[200])?;
    pressed.publish()?.expect_status(&[200])?;
    open.expect_data("x")?;
    pressed.probes_answer()?;

    pressed.press(1)?;
    pressed.subscribe(None)?.expect_status(&[503])?;
    pressed.subscribe(Some(&token))?.expect_status(&[200])?;
    pressed.publish()?.expect_status(&[200])?;
    open.expect_data("x")?;
    pressed.probes_answer()?;

    pressed.press(2)?;
    pressed.subscribe(Some(&token))?.expect_status(&[503])?;
    // A browser comes back by itself.
    let target = format!("{HUB}?topic=x");
    let browser = Request::get(&target).header("Accept", "text/event-stream");
    let refused = exchange(pressed.hub.address(), &browser)?;
    refused.expect_status(&[200])?;
    assert!(refused.text().starts_with("retry: "), "{}", refused.text());
    pressed.publish()?.expect_status(&[200])?;
    open.expect_data("x")?;
    pressed.probes_answer()?;

    pressed.press(3)?;
    let refused = pressed.publish()?;
    refused.expect_status(&[503])?;
    assert_eq!(refused.problem()?, "the hub has too much to do");
    assert!(refused.header("Retry-After").is_some());
    pressed.probes_answer()?;

    pressed.set_budget(ENOUGH)?;
    pressed.reach(0)?;
    pressed.publish()?.expect_status(&[200])?;
    open.expect_data("x")?;
    pressed.subscribe(None)?.expect_status(&[200])?;
    check_log(&pressed.hub)
}

/// One line for each step, up and down.
fn check_log(hub: &HubProcess) -> Outcome<()> {
    // It goes down a step before it says so.
    hub.wait_stderr(&["brownout recedes: everything is served"])?;
    let log = hub.stderr();
    let up = log.matches("brownout: ").count();
    let down = log.matches("brownout recedes: ").count();
    let counted = |direction: &str| {
        let series = format!("gush_brownout_changes_total{{direction=\"{direction}\"}}");
        hub.metric(&series)
    };
    let counts = (counted("up")?, counted("down")?);
    if (up, down) != (3, 3) || counts != (Some(3), Some(3)) {
        return Failure::mismatch(
            "steps",
            "three up and three down",
            format!("{counts:?}\n{log}"),
        );
    }
    Ok(())
}

#[test]
fn on_the_last_step_the_slowest_readers_go_and_the_others_stay() -> Outcome<()> {
    let mut pressed = Pressed::start()?;
    let mut open = pressed.hub.subscribe(&[("topic", TOPIC)])?;
    let request = pressed.hub.subscribe_request(&[("topic", TOPIC)])?;
    let mut stuck = peers::unread_request(pressed.hub.address(), &request)?;
    pressed
        .hub
        .wait_metric("gush_streams_opened_total", |opened| opened == 2)?;
    // More than any socket's buffers take.
    let large = "x".repeat(256 * 1024);
    for _ in 0..20 {
        pressed.hub.publish(&[("topic", TOPIC), ("data", &large)])?;
        open.expect_data(&large)?;
    }
    pressed
        .hub
        .wait_metric("gush_subscribers_behind", |n| n == 1)?;
    pressed.press(4)?;
    pressed
        .hub
        .wait_metric("gush_streams_closed_total{reason=\"shed\"}", |n| n == 1)?;
    // It notices, with what it had of the stream.
    stuck.read_to_close(PATIENCE)?;
    pressed.probes_answer()?;
    pressed.set_budget(ENOUGH)?;
    pressed.reach(0)?;
    pressed.publish()?.expect_status(&[200])?;
    open.expect_data("x")?;
    // And is let in again.
    let mut back: SseStream = pressed
        .hub
        .subscribe(&[("topic", TOPIC), ("lastEventID", "earliest")])?;
    back.expect_data(&large).map(drop)
}

/// An event of many topics, which a shard has to compare with all of these templates.
#[test]
fn events_that_take_a_shard_long_are_refused_in_the_end_and_taken_again() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .anonymous()
        .option("--brownout-turn", "10ms")
        .option("--brownout-dwell", "250ms")
        .option("--brownout-memory", "off")
        .start()?;
    let mut open = hub.subscribe(&[("topic", TOPIC)])?;
    let templates: Vec<_> = (0..500)
        .map(|n| format!("https://brownout.example/{{a}}/{{b}}/x{n}"))
        .collect();
    let matchers: Vec<_> = templates.iter().map(|text| ("topic", &**text)).collect();
    let _many = hub.subscribe(&matchers)?;
    let topics: Vec<_> = (0..1000)
        .map(|n| format!("https://brownout.example/{n}/{n}/x"))
        .collect();
    let mut fields: Vec<_> = topics.iter().map(|text| ("topic", &**text)).collect();
    fields.push(("data", "heavy"));
    let heavy = hub.publish_request(&fields)?;
    // Without a pause, so that they wait for the shard.
    let mut connection = hub.connect()?;
    let mut refused = connection.exchange(&heavy)?;
    for _ in 0..10_000 {
        if refused.status() != 200 {
            break;
        }
        refused = connection.exchange(&heavy)?;
    }
    refused.expect_status(&[503])?;
    assert_eq!(refused.problem()?, "the hub has too much to do");
    let subscribe = Request::new("HEAD", &format!("{HUB}?topic=x"));
    exchange(hub.address(), &subscribe)?.expect_status(&[503])?;
    hub.get("/healthz")?.expect_status(&[200])?;
    hub.get("/readyz")?.expect_status(&[200])?;
    hub.get_admin("/metrics")?.expect_status(&[200])?;
    let steps = [
        "step=1 by=\"turn\"",
        "step=2 by=\"turn\"",
        "step=3 by=\"turn\"",
    ];
    // It is on a step before it says so.
    hub.wait_stderr(&[steps[2]])?;
    let log = hub.stderr();
    let at = steps.map(|step| log.find(step));
    assert!(at.is_sorted() && at[0].is_some(), "{log}");
    // Nothing heavy comes any more, and so it is over by itself.
    hub.wait_metric("gush_brownout_step", |step| step == 0)?;
    hub.publish(&[("topic", TOPIC), ("data", "after")])?;
    open.expect_data("after")?;
    exchange(hub.address(), &subscribe)?.expect_status(&[200])
}
