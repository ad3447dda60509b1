//! The modes: what each is for, and which arguments it reads.

use clap::Command;
use gush_bench::modes::{connect, fanout, hostile, idle, publish, replay, slow, topics};
use gush_bench::{BenchError, BenchOptions, Progress, Report, floor};

use super::arguments;

/// One mode of `gush bench`.
pub(super) struct Mode {
    /// Word on the command line.
    pub(super) name: &'static str,
    about: &'static str,
    more: &'static str,
    examples: &'static str,
    /// Arguments it reads beside those of every mode, by id.
    arguments: &'static [&'static str],
    /// Streams it opens when nobody says how many.
    pub(super) subscribers: u64,
    /// Runs it.
    pub(super) run: fn(&BenchOptions, &Progress) -> Result<Report, BenchError>,
}

impl Mode {
    pub(super) fn command(&self) -> Command {
        let of_mode = |id: &str| arguments::COMMON.contains(&id) || self.arguments.contains(&id);
        let own = arguments::all(self.subscribers);
        let own = own
            .into_iter()
            .filter(|argument| of_mode(argument.get_id().as_str()));
        Command::new(self.name)
            .about(self.about)
            .long_about(format!("{}.\n\n{}", self.about, self.more))
            .after_help(self.examples)
            .args(own)
    }
}

/// Every mode, in the order of the help.
pub(super) const MODES: &[Mode] = &[
    Mode {
        name: "idle",
        about: "Open streams, hold them, and see what each costs in memory",
        more: "Memory is counted on both sides of the system call: the server's resident set, and \
               the kernel's sockets (for those /proc/slabinfo has to be readable: as root). With \
               the generator on the same machine the kernel holds both ends of each stream. With \
               --topics the streams take them by turns (as many as streams: one for each), and \
               --broadcast publishes one event to each topic.",
        examples: "\
Examples:
  gush bench idle --subscribers 100000 --seconds 60
  gush bench idle --subscribers 100000 --topics 100000   a topic for each
  gush bench idle --subscribers 1000000 --broadcast --publisher-key \"$KEY\"",
        arguments: &[
            "publish",
            "publish-body",
            "publish-header",
            "publisher-key",
            "publisher-token",
            "subscribers",
            "topics",
            "seconds",
            "size",
            "connect-rate",
            "broadcast",
        ],
        subscribers: 1000,
        run: idle::run,
    },
    Mode {
        name: "fanout",
        about: "Publish events that every stream gets",
        more: "Without --rate it publishes as fast as the streams take the events: at most \
               --window events are on their way at any time. 1 leaves a server nothing to put \
               together; 4 and more show what it does under pressure. With --rate the schedule \
               does not wait for the server, and latency counts from the moment an event was due.",
        examples: "\
Examples:
  gush bench fanout --subscribers 10000 --events 200 --publisher-key \"$KEY\"
  gush bench fanout --subscribers 10000 --rate 1 --seconds 30 --publisher-key \"$KEY\"
  gush bench fanout --subscribers 1000 --window 1 --size 1000 --json",
        arguments: &[
            "publish",
            "publish-body",
            "publish-header",
            "publisher-key",
            "publisher-token",
            "subscribers",
            "events",
            "seconds",
            "rate",
            "window",
            "size",
            "publishers",
            "connect-rate",
        ],
        subscribers: 1000,
        run: fanout::run,
    },
    Mode {
        name: "topics",
        about: "Spread streams over many topics",
        more: "Each stream follows one topic, exactly or with --templates by a URI template, and \
               has to get the events of that topic and no other.",
        examples: "\
Examples:
  gush bench topics --subscribers 10000 --topics 1000 --publisher-key \"$KEY\"
  gush bench topics --subscribers 10000 --topics 10000 --templates --publisher-key \"$KEY\"",
        arguments: &[
            "publish",
            "publish-body",
            "publish-header",
            "publisher-key",
            "publisher-token",
            "subscribers",
            "topics",
            "templates",
            "idle",
            "events",
            "seconds",
            "rate",
            "window",
            "size",
            "publishers",
            "connect-rate",
        ],
        subscribers: 1000,
        run: topics::run,
    },
    Mode {
        name: "publish",
        about: "Publish as fast as the answers come, and check that nothing acknowledged is lost",
        more: "Each publisher is a kept connection with one request on its way. With --batch the \
               requests are NDJSON with that many events, which gush takes. Every acknowledged \
               event has to reach every stream that is open (--subscribers, 0 for none) once and \
               in its publisher's order, and every id has to be given once. How durable an \
               acknowledged event is, is the server's setting: name it with --label. With \
               --durability hubs of its own are measured in all of them, one after the other.",
        examples: "\
Examples:
  gush bench publish --publishers 64 --durability
  gush bench publish --publishers 64 --label fsync --publisher-key \"$KEY\"
  gush bench publish --publishers 4 --batch 1000 --events 1000000 --publisher-key \"$KEY\"
  gush bench publish --rate 1000 --seconds 30 --publisher-key \"$KEY\"",
        arguments: &[
            "publish",
            "publish-body",
            "publish-header",
            "publisher-key",
            "publisher-token",
            "subscribers",
            "events",
            "seconds",
            "rate",
            "size",
            "publishers",
            "batch",
            "durability",
        ],
        subscribers: 1,
        run: publish::run,
    },
    Mode {
        name: "replay",
        about: "Resume streams in a log: time to the first event, and bytes per second",
        more: "Publishes a log first, on one connection, and resumes after --resume-at percent of \
               it; or takes the log that is there, after the id of --resume-id. A log that keeps \
               less than was published (log = memory keeps window_events) fails the run. In the \
               same run a file of as many bytes is copied to a socket, by read and write and by \
               sendfile, and read by the same reader: a replay of one stream is compared with \
               that. --live streams are measured alone and beside the replays.",
        examples: "\
Examples:
  gush bench replay --events 1000000 --batch 1000 --publisher-key \"$KEY\"
  gush bench replay --events 1000000 --batch 1000 --resume-at 99.9 --publisher-key \"$KEY\"
  gush bench replay --subscribers 1000 --live 100 --events 20000 --publisher-key \"$KEY\"
  gush bench replay --resume-id earliest",
        arguments: &[
            "publish",
            "publish-body",
            "publish-header",
            "publisher-key",
            "publisher-token",
            "subscribers",
            "events",
            "seconds",
            "rate",
            "size",
            "batch",
            "rounds",
            "resume-at",
            "resume-id",
            "live",
        ],
        subscribers: 1,
        run: replay::run,
    },
    Mode {
        name: "connect",
        about: "Open streams at a rate, and see how soon each is answered",
        more: "--idle streams are opened first and stay. Time counts from the begin of the connect \
               to the first byte of the answer.",
        examples: "\
Examples:
  gush bench connect --subscribers 10000 --connect-rate 2000
  gush bench connect --subscribers 5000 --connect-rate 2000 --idle 100000",
        arguments: &["subscribers", "connect-rate", "idle"],
        subscribers: 1000,
        run: connect::run,
    },
    Mode {
        name: "slow",
        about: "Let a share of the streams never read, and see what the others notice",
        more: "The others have to get everything; memory is counted too, since what a stream does \
               not read is kept for it by the server or by the kernel.",
        examples: "\
Examples:
  gush bench slow --subscribers 1000 --share 5 --size 1000 --events 1400 --publisher-key \"$KEY\"",
        arguments: &[
            "publish",
            "publish-body",
            "publish-header",
            "publisher-key",
            "publisher-token",
            "subscribers",
            "share",
            "events",
            "seconds",
            "rate",
            "window",
            "size",
            "publishers",
            "connect-rate",
        ],
        subscribers: 1000,
        run: slow::run,
    },
    Mode {
        name: "hostile",
        about: "Let one tenth of the subscribers be hostile, and see what the others notice",
        more: "The other nine tenths are measured alone and beside the hostile ones, by turns in \
               each of --rounds, and both are printed side by side: p99 may be twice the quiet \
               one. \
               The hostile ones never read, read one byte per second, reset in every state, leave \
               heads half sent, send them a byte per second, open connections, send heads that \
               are too large, publish or subscribe with a bad token, or come and go, a tenth each. \
               Memory and descriptors of the server have to be back afterwards. With --admin a \
               gush hub is asked why each stream was closed. The memory budget is that of a hub \
               with default settings and as many streams. Run it as root for the kernel's memory.",
        examples: "\
Examples:
  gush bench hostile --admin 127.0.0.1:3001 --publisher-key \"$KEY\"
  gush bench hostile --subscribers 1000 --rate 20 --seconds 30 --json --publisher-key \"$KEY\"
  gush bench hostile --size 8000 --seconds 45 --rounds 1 --publisher-key \"$KEY\"",
        arguments: &[
            "publish",
            "publish-body",
            "publish-header",
            "publisher-key",
            "publisher-token",
            "subscribers",
            "admin",
            "events",
            "seconds",
            "rate",
            "window",
            "size",
            "publishers",
            "connect-rate",
            "rounds",
        ],
        subscribers: 10_000,
        run: hostile::run,
    },
    Mode {
        name: "floor",
        about: "What a fan-out costs at least on this machine, and how far a hub is from it",
        more: "Starts two references in processes of their own: a bare loop (one send for each \
               stream and event) and a bare sweep (a cursor for each stream into a ring of frames, \
               one write for all it has not had), without access control, log or heartbeats. With \
               --url (or --subscribe) a hub is measured in turns with them, and the ratios are \
               printed. The last load has a pace of --rate events per second (1): choose one that \
               the machine can keep up with.",
        examples: "\
Examples:
  gush bench floor --subscribers 10000 --pin-server 0 --pin-generator 1
  gush bench floor --url http://127.0.0.1:3000/.well-known/mercure --publisher-key \"$KEY\"
  gush bench floor --serve sweep --listen 127.0.0.1:4000    only the reference, until killed",
        arguments: &[
            "publish",
            "publish-body",
            "publish-header",
            "publisher-key",
            "publisher-token",
            "subscribers",
            "seconds",
            "rate",
            "size",
            "connect-rate",
            "serve",
            "listen",
            "pin-server",
            "rounds",
        ],
        subscribers: 1000,
        run: floor::run,
    },
];
