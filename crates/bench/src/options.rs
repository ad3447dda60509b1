//! Everything a run can be told, as plain data. The command line fills it; each mode reads its
//! part.

use std::net::SocketAddr;
use std::time::Duration;

/// How the body of a publish is made of a topic and an event's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BodyFormat {
    /// `topic=..&data=..`, percent-encoded: what a Mercure hub takes.
    #[default]
    Form,
    /// The data and nothing else.
    Raw,
    /// A JSON text with `{topic}` and `{data}`, each replaced by its JSON-escaped text.
    Json(String),
}

/// Which of the two references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// One `send()` of the frame to every socket, for each event.
    Loop,
    /// A ring of frames, a cursor per socket, one `writev` per visit.
    Sweep,
}

/// What a server may take for its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    /// Resident memory of its processes.
    pub user_bytes: u64,
    /// Kernel memory of its side of the sockets while all of them are idle.
    pub kernel_bytes: u64,
    /// Sent bytes that may wait in the kernel for one stream that does not read.
    pub unread_bytes: u64,
}

/// The options of `gush bench`. Modes ignore what does not concern them.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// URL of a Mercure hub. Used for whatever of `subscribe` and `publish` is not given.
    pub url: String,
    /// Whether `url` was given by the user; `floor` measures a hub only then.
    pub is_url_given: bool,
    /// URL of a stream; `{topic}` is replaced by the percent-encoded topic.
    pub subscribe: Option<String>,
    /// URL to publish to; `{topic}` is replaced by the percent-encoded topic.
    pub publish: Option<String>,
    /// Body of a publish.
    pub publish_body: BodyFormat,
    /// Header lines of subscribes, `Name: value`.
    pub headers: Vec<String>,
    /// Header lines of publishes, `Name: value`.
    pub publish_headers: Vec<String>,
    /// HS256 key that a publisher token is signed with.
    pub publisher_key: Option<String>,
    /// Token of publishes; goes before `publisher_key`.
    pub publisher_token: Option<String>,
    /// Token of subscribes.
    pub subscriber_token: Option<String>,
    /// Processes of the server; empty: the owner of the listening socket and its children.
    pub pids: Vec<u32>,

    /// Streams to open.
    pub subscribers: u64,
    /// Topics they are spread over.
    pub topics: u32,
    /// Events to publish; goes before `duration`.
    pub events: Option<u64>,
    /// How long to publish, or to hold idle streams.
    pub duration: Option<Duration>,
    /// Events (or requests) per second, on a schedule that does not wait for the server (mode
    /// `floor`: of its last load).
    pub rate: Option<f64>,
    /// Most events that have not yet reached every subscriber; without a `rate` only.
    pub window: Option<u32>,
    /// Bytes of an event's data.
    pub size: usize,
    /// Connections to start per second.
    pub connect_rate: Option<f64>,
    /// Connections that publish at once.
    pub publishers: u32,
    /// Percentage of the subscribers that never read (mode `slow`).
    pub share: f64,
    /// Admin listener of a gush hub, whose `/metrics` are read (mode `hostile`).
    pub admin: Option<SocketAddr>,
    /// Memory that the server may take for the streams (mode `hostile`).
    pub budget: Option<MemoryBudget>,
    /// Generator threads; default one for each [`crate::descriptors::STREAMS_PER_TABLE`] streams.
    pub threads: Option<usize>,
    /// Time without any progress after which streams that have not answered, or events that have
    /// not come, are given up.
    pub patience: Duration,
    /// How threads that read wait while events are published.
    pub wait: Wait,
    /// Core the generator is pinned to.
    pub pin_generator: Option<usize>,

    /// Events in one NDJSON request (modes `publish` and `replay`); 0: one request for each event.
    pub batch: u32,
    /// A word for the server's settings, shown with the figures: "memory", "fsync".
    pub label: Option<String>,
    /// Where readers resume, in percent of the published events (mode `replay`).
    pub resume_at: f64,
    /// Replay what the server has already, after this id; publish nothing (mode `replay`).
    pub resume_id: Option<String>,
    /// Live streams, measured without and with the replays (mode `replay`).
    pub live: u64,

    /// More streams, opened first, that get no events (modes `topics` and `connect`).
    pub idle: u64,
    /// Subscribe with a URI template instead of the exact topic (mode `topics`).
    pub is_templated: bool,
    /// After opening, publish one event to all and check it (mode `idle`).
    pub is_broadcast: bool,
    /// Start only this reference and run until killed (mode `floor`).
    pub serve: Option<Reference>,
    /// Where a reference listens.
    pub listen: SocketAddr,
    /// Core the references are pinned to.
    pub pin_server: Option<usize>,
    /// How often it is measured: the servers take turns (`floor`), replays follow each other,
    /// hostile peers come and go (`hostile`). Zero is one.
    pub rounds: u32,
}

/// How a thread that reads waits for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// In the kernel; whoever sends first pays for waking it.
    #[default]
    Sleep,
    /// Awake, so that no server pays for that. For a generator with a core of its own.
    Spin,
    /// Asleep for a millisecond whenever nothing is there: no server pays for waking it either,
    /// and how often a reader is woken does not depend on how fast the server sends.
    Tick,
}

/// Where a Mercure hub is by default.
pub const DEFAULT_URL: &str = "http://127.0.0.1:3000/.well-known/mercure";

/// Longer than any pause of a server that is only busy.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(10);

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            url: DEFAULT_URL.to_owned(),
            is_url_given: false,
            subscribe: None,
            publish: None,
            publish_body: BodyFormat::Form,
            headers: Vec::new(),
            publish_headers: Vec::new(),
            publisher_key: None,
            publisher_token: None,
            subscriber_token: None,
            pids: Vec::new(),
            subscribers: 1000,
            topics: 1,
            events: None,
            duration: None,
            rate: None,
            window: None,
            size: 200,
            connect_rate: None,
            publishers: 1,
            share: 5.0,
            admin: None,
            budget: None,
            threads: None,
            wait: Wait::Sleep,
            patience: DEFAULT_PATIENCE,
            pin_generator: None,
            batch: 0,
            label: None,
            resume_at: 0.0,
            resume_id: None,
            live: 0,
            idle: 0,
            is_templated: false,
            is_broadcast: false,
            serve: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            pin_server: None,
            rounds: 3,
        }
    }
}

impl BenchOptions {
    /// How long to publish where neither a number of events nor a time was given.
    pub fn duration_or(&self, default: Duration) -> Duration {
        self.duration.unwrap_or(default)
    }
}
