//! The gush server library: an event's way from the publisher's wire to the subscribers' wires.
//!
//! The modules are declared in the order in which an event and its subscribers meet them.
#![deny(missing_docs)]

// Typed settings, checked against each other once; defaults stand in `options.rs`.
pub mod config;

// One record per option: flag, environment, file key, help, default, how it is applied.
pub mod options;

// A text that never shows up in logs or listings.
pub mod secret;

// What the machine gives: cores and descriptors.
pub mod limits;

// Memory as arithmetic: what streams cost, and whether the machine has it.
pub mod budget;

// Time as the hub sees it.
pub mod clock;

// Which events are held back, and how long.
pub mod flush;

// The settings as the hub uses them, swapped whole on a reload.
pub mod policy;

// `--dev`: a hub to try things with.
pub mod dev;

// The parts of a running hub.
pub mod hub;

// The listening sockets.
pub(crate) mod listeners;

// A new binary takes over while the hub serves.
pub(crate) mod upgrade;

// What a service manager is told.
pub(crate) mod notify;

// Putting a hub together, running it, and taking it down in order.
pub mod serve;

// The TLS configuration and its exchange.
pub(crate) mod tls;

// Whom a connection and its requests count for.
pub mod peer;

// Listeners, and the hand-over of sockets.
pub(crate) mod accept;

// The byte stream under HTTP, and the look at what comes next on it.
pub(crate) mod transport;

// Where a request of HTTP/1 ends.
pub mod span;

// Method and path to one of a closed set of routes.
pub mod request;

// Request fields and documents of dialect 0.x.
pub mod dialect;

// Forms, queries, percent-encoding.
pub mod form;

// Where a request's token stands.
pub mod credentials;

// Keys of publishers and subscribers.
pub mod keys;

// What tokens grant.
pub mod token;

// Which web origins may read and publish.
pub mod origin;

// How hard the hub is pressed, and what it gives up for it.
pub mod pressure;

// The only place that refuses.
pub mod admit;

// What open streams are told for the day when they lose it.
pub(crate) mod crowd;

// How a refusal is told, the same at every door.
pub mod refuse;

// A routed request's answer.
pub mod answer;

// The log's answers on their way to those who wait.
mod answered;

// A checked event into the log, and the answer with its id.
pub mod publish;

// Plain publishes, one after the other, without hyper.
pub(crate) mod publish_plain;

// A line of a batch to the fields of an event.
pub mod publish_line;

// Many events in one request: lines in, lines out.
pub mod publish_batch;

// Opening the log that the settings name.
pub mod store;

// Events that stand for each other, and the newest of them.
pub mod conflate;

// The newest events with their frames: all that shards read.
pub mod window;

// Cursor to first offset; nothing is missed between the answer's head and the shard.
pub mod subscribe;

// Topics and the matchers held against them.
pub mod topic;

// From a topic to the matchers it satisfies.
pub mod matcher_table;

// What one subscriber wants and may read.
pub mod selection;

// Encoded once, shared by all.
pub mod frame;

// One thread each: sockets, topic index, timers.
pub mod shard;

// Reads of the log that may wait, away from the shards.
pub(crate) mod replay;

// What a shard writes to.
pub mod socket;

// The records of streams' begins and ends.
pub mod stream_log;

// Why a stream ended.
pub mod close;

// What has panicked, by where.
pub(crate) mod panics;

// Who is subscribed to what, and the events about it.
pub mod presence;

// The active-subscriptions API.
pub mod subscriptions;

// What an operator orders.
pub(crate) mod orders;

// Closing streams for balance.
pub(crate) mod balance;

// Settings that change while the hub runs.
pub mod change;

// The orderly end.
pub(crate) mod drain;

// The console's files.
pub mod console;

// The metric catalogue.
pub mod metrics;

// What an operator reads when the hub cannot start.
pub mod error;

pub use dev::DevInfo;
pub use error::ServeError;
pub use serve::{Started, serve};
