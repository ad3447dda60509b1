//! Replay going over to live under continuous publishing, compared with a model.
//!
//! One subscriber to everything, connected before the first event, defines the one order. All
//! others come at random points with random cursors, selectors and claims, leave after a random
//! number of events and resume; together their parts must be exactly what a filter over the one
//! order gives.

use gush_testkit::{
    Claims, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, SseEvent, SseStream,
    encode_form, eventually,
};
use std::sync::Mutex;
use std::sync::mpsc::{SyncSender, sync_channel};

const HUB: &str = "/.well-known/mercure";
const PUBLISHERS: usize = 3;
const EVENTS_EACH: usize = 200;
const SUBSCRIBERS: usize = 16;
const END: &str = "https://model.example/end";
/// Topics events go to.
const TOPICS: [&str; 6] = [
    "https://model.example/books/1",
    "https://model.example/books/2",
    "https://model.example/books/2/pages",
    "https://model.example/users/1",
    "https://model.example/users/2",
    "plain topic",
];
/// Selectors, each with which of the topics it matches.
const SELECTORS: [(&str, [bool; 6]); 6] = [
    ("*", [true; 6]),
    (
        "https://model.example/books/1",
        [true, false, false, false, false, false],
    ),
    (
        "https://model.example/books/{id}",
        [true, true, false, false, false, false],
    ),
    (
        "https://model.example/{+rest}",
        [true, true, true, true, true, false],
    ),
    (
        "https://model.example/users/{id}",
        [false, false, false, true, true, false],
    ),
    ("plain topic", [false, false, false, false, false, true]),
];

/// What an event is about; travels as its data.
#[derive(Clone, Copy)]
struct Content {
    /// Bits of [`TOPICS`].
    topics: u8,
    private: bool,
}

impl Content {
    fn random(random: &mut fastrand::Rng) -> Self {
        let mut topics = 1 << random.usize(..TOPICS.len());
        if random.u8(..) < 80 {
            topics |= 1 << random.usize(..TOPICS.len());
        }
        Self {
            topics,
            private: random.bool(),
        }
    }

    fn parse(event: &SseEvent) -> Option<Self> {
        let mut parts = event.data.split(' ');
        let topics = parts.next()?.parse().ok()?;
        Some(Self {
            topics,
            private: parts.next()? == "private",
        })
    }

    fn matched_by(self, selectors: &[usize]) -> bool {
        selectors.iter().any(|selector| {
            let matches = &SELECTORS[*selector].1;
            (0..TOPICS.len()).any(|topic| self.topics & (1 << topic) != 0 && matches[topic])
        })
    }
}

/// What a subscriber asks for and may see: indices into [`SELECTORS`].
#[derive(Debug)]
struct Wish {
    selectors: Vec<usize>,
    granted: Vec<usize>,
}

impl Wish {
    fn random(random: &mut fastrand::Rng) -> Self {
        let mut some = |at_least: usize| -> Vec<usize> {
            let count = at_least + random.usize(..3);
            (0..count)
                .map(|_| random.usize(..SELECTORS.len()))
                .collect()
        };
        Self {
            selectors: some(1),
            granted: some(0),
        }
    }

    fn receives(&self, event: &SseEvent) -> bool {
        match Content::parse(event) {
            // The end marker, which everybody asks for.
            None => true,
            Some(content) => {
                content.matched_by(&self.selectors)
                    && (!content.private || content.matched_by(&self.granted))
            }
        }
    }

    fn open(&self, hub: &HubProcess, cursor: Option<&str>) -> Outcome<SseStream> {
        let mut query: Vec<_> = self
            .selectors
            .iter()
            .map(|selector| ("topic", SELECTORS[*selector].0))
            .collect();
        query.push(("topic", END));
        let granted: Vec<&str> = self.granted.iter().map(|at| SELECTORS[*at].0).collect();
        let token = hub
            .subscriber_key()
            .sign(&Claims::new().subscribe(&granted))?;
        let mut request = Request::get(&format!("{HUB}?{}", encode_form(&query))).bearer(&token);
        if let Some(cursor) = cursor {
            request = request.header("Last-Event-ID", cursor);
        }
        let stream = SseStream::open(hub.address(), &request)?;
        if let Some(cursor) = cursor {
            stream.head().expect_header("Last-Event-ID", cursor)?;
        }
        Ok(stream)
    }
}

/// Publishes random events on one connection; adds each answered id to `answered`.
fn publish(hub: &HubProcess, seed: u64, answered: &Mutex<Vec<String>>) -> Outcome<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut connection = hub.connect()?;
    for n in 0..EVENTS_EACH {
        let content = Content::random(&mut random);
        let kind = if content.private { "private" } else { "public" };
        // Sizes vary, so that positions in the log do too.
        let padding = "x".repeat(random.usize(..2000));
        let data = format!("{} {kind} {seed}/{n} {padding}", content.topics);
        let own = format!("own {seed}/{n}");
        let mut fields = vec![("data", data.as_str())];
        for (at, topic) in TOPICS.iter().enumerate() {
            if content.topics & (1 << at) != 0 {
                fields.push(("topic", topic));
            }
        }
        if content.private {
            fields.push(("private", "on"));
        }
        if random.u8(..) < 60 {
            fields.push(("id", &own));
        }
        let response = connection.exchange(&hub.publish_request(&fields)?)?;
        response.expect_status(&[200])?;
        answered
            .lock()
            .expect("no publisher panics")
            .push(response.text());
    }
    Ok(())
}

/// One subscriber's life: cursor it began with (none: live) and every event it got.
struct Life {
    wish: Wish,
    cursor: Option<String>,
    events: Vec<SseEvent>,
}

/// `opened`: told once it subscribes for the first time.
fn live_one_life(
    hub: &HubProcess,
    seed: u64,
    answered: &Mutex<Vec<String>>,
    opened: SyncSender<()>,
) -> Outcome<Life> {
    let mut random = fastrand::Rng::with_seed(seed);
    let wish = Wish::random(&mut random);
    let wait_for = random.usize(1..PUBLISHERS * EVENTS_EACH / 2);
    let start = eventually("publishing goes on", PATIENCE * 2, || {
        let answered = answered.lock().expect("no publisher panics");
        Ok((answered.len() >= wait_for).then(|| answered[random.usize(..answered.len())].clone()))
    })?;
    let cursor = match random.u8(..) {
        0..30 => None,
        30..60 => Some("earliest".to_owned()),
        _ => Some(start),
    };
    let mut events: Vec<SseEvent> = Vec::new();
    let mut opened = Some(opened);
    loop {
        let resume = events
            .last()
            .and_then(|event| event.id.clone())
            .or_else(|| cursor.clone());
        let mut stream = wish.open(hub, resume.as_deref())?;
        if let Some(opened) = opened.take() {
            // There is room for all, and who ran this test may have given up.
            let _ = opened.send(());
        }
        // A live subscriber that leaves before its first event would start anew elsewhere.
        for _ in 0..random.usize(1..60) {
            let event = stream.next_event()?;
            let last = event.data == "end";
            events.push(event);
            if last {
                return Ok(Life {
                    wish,
                    cursor,
                    events,
                });
            }
        }
    }
}

fn check(order: &[SseEvent], life: &Life) -> Outcome<()> {
    let position = |id: &Option<String>| order.iter().position(|event| event.id == *id);
    let from = match &life.cursor {
        Some(cursor) if cursor == "earliest" => 0,
        Some(cursor) => {
            position(&Some(cursor.clone()))
                .ok_or_else(|| Failure::new("cursor not in the order"))?
                + 1
        }
        // Live: nothing is known about what was published before the first event it got.
        None => position(&life.events[0].id).ok_or_else(|| Failure::new("invented event"))?,
    };
    let expected: Vec<&SseEvent> = order[from..]
        .iter()
        .filter(|event| life.wish.receives(event))
        .collect();
    for (at, event) in life.events.iter().enumerate() {
        if expected
            .get(at)
            .is_none_or(|expected| expected.lines != event.lines)
        {
            return Failure::mismatch(
                format!(
                    "event {at} of a subscriber from {:?} with {:?}",
                    life.cursor, life.wish
                ),
                format!("{:?}", expected.get(at).map(|event| brief(event))),
                brief(event),
            );
        }
    }
    if life.events.len() == expected.len() {
        return Ok(());
    }
    Failure::mismatch("number of events", expected.len(), life.events.len())
}

fn brief(event: &SseEvent) -> String {
    format!(
        "{:?} {}",
        event.id,
        event.data.split(" x").next().unwrap_or_default()
    )
}

fn run(builder: &HubBuilder) -> Outcome<()> {
    let seed = gush_testkit::seed();
    let hub = builder.start()?;
    let mut everything = hub.subscribe(&[("topic", "*")])?;
    let answered = Mutex::new(Vec::new());
    let answered = &answered;
    let hub = &hub;
    let lives = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS as u64)
            .map(|n| scope.spawn(move || publish(hub, seed + n, answered)))
            .collect();
        let (opened, all_opened) = sync_channel(SUBSCRIBERS);
        let subscribers: Vec<_> = (0..SUBSCRIBERS as u64)
            .map(|n| {
                let opened = opened.clone();
                scope.spawn(move || live_one_life(hub, seed + 1000 + n, answered, opened))
            })
            .collect();
        drop(opened);
        for publisher in publishers {
            publisher
                .join()
                .map_err(|_| Failure::new("a publisher panicked"))??;
        }
        // A live one that came behind the end would wait for it for ever. One that failed says
        // nothing and is found below.
        while all_opened.recv().is_ok() {}
        hub.publish(&[("topic", END), ("data", "end")])?;
        let join = |handle: std::thread::ScopedJoinHandle<'_, Outcome<Life>>| {
            handle
                .join()
                .map_err(|_| Failure::new("a subscriber panicked"))?
        };
        subscribers
            .into_iter()
            .map(join)
            .collect::<Outcome<Vec<_>>>()
    })?;
    let mut order = Vec::new();
    while order
        .last()
        .is_none_or(|event: &SseEvent| event.data != "end")
    {
        order.push(everything.next_event()?);
    }
    if order.len() != PUBLISHERS * EVENTS_EACH + 1 {
        return Failure::mismatch("events", PUBLISHERS * EVENTS_EACH + 1, order.len());
    }
    lives.iter().try_for_each(|life| check(&order, life))
}

#[test]
fn from_memory() -> Outcome<()> {
    run(&HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?)
}

#[test]
fn from_disk() -> Outcome<()> {
    run(&HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.disk())
}

#[test]
fn from_disk_with_a_tiny_memory_window_and_small_segments() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .option("--window-events", "16")
        .option("--segment-bytes", "64KiB")
        .option("--retention-bytes", "64MiB");
    run(&builder)
}

#[test]
fn from_disk_with_more_shards_than_cores() -> Outcome<()> {
    run(&HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .option("--shards", "5"))
}
