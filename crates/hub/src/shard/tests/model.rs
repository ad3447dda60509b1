//! A shard against a model: whatever comes between, each stream gets just what is for it, once and
//! in the log's order, whoever it is written to together with. Streams of all kinds share lists;
//! peers read, stop, and leave; writes panic; events are private, of several topics, or large.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::{Duration, Instant};

use gush_log::{Conflation, Draft};
use mio::Events;
use socket2::SockRef;

use super::rig::{PATIENCE, Rig, Sizes, pair, parse, take_chunk, topic_of};
use crate::frame::Framing;
use crate::shard::Shard;
use crate::socket::faults::{Place, arm};
use crate::socket::{Sink, TcpSink};

const TOPICS: [&str; 3] = ["a", "b", "c"];

/// Matchers, and which of the topics they match.
const WISHES: [(&[&str], [bool; 3]); 6] = [
    (&["a"], [true, false, false]),
    (&["a"], [true, false, false]),
    (&["b"], [false, true, false]),
    (&["a", "b"], [true, true, false]),
    (&["*"], [true; 3]),
    (&["{x}"], [true; 3]),
];

/// Grants, and which of the topics they open.
const GRANTS: [(&[&str], [bool; 3]); 3] = [
    (&[], [false; 3]),
    (&["a"], [true, false, false]),
    (&["*"], [true; 3]),
];

/// Steps of one run.
const STEPS: usize = 400;
/// Streams that are there before the first.
const CROWD: usize = 80;

/// Longest that events are held, where they are.
const HELD: Duration = Duration::from_millis(500);

struct Reader {
    socket: TcpStream,
    descriptor: RawFd,
    framing: Framing,
    raw: Vec<u8>,
    text: String,
    wish: [bool; 3],
    grant: [bool; 3],
    expected: Vec<u64>,
    got: Vec<u64>,
    is_lazy: bool,
    /// A write to it has been made to panic: it ends somewhere.
    is_doomed: bool,
    is_over: bool,
}

impl Reader {
    fn join(rig: &Rig, random: &mut fastrand::Rng) -> Self {
        let (ours, socket) = pair();
        ours.set_nonblocking(true).expect("a socket option");
        socket.set_nonblocking(true).expect("a socket option");
        let is_lazy = random.u8(..) < 40;
        if is_lazy {
            // Few enough bytes to stop it, and enough that the kernel does not wait for more room.
            let ours = SockRef::from(&ours).set_send_buffer_size(8192);
            let theirs = SockRef::from(&socket).set_recv_buffer_size(64 * 1024);
            ours.and(theirs).expect("socket options");
        }
        let framing = match random.u8(..) {
            0..40 => Framing::Raw,
            _ => Framing::Chunked,
        };
        let (wish, grant) = (random.usize(..WISHES.len()), random.usize(..GRANTS.len()));
        let descriptor = ours.as_raw_fd();
        let sink = Sink::Tcp(TcpSink::new(ours, framing));
        rig.give(sink, WISHES[wish].0, rig.head(), |parts| {
            parts.0.grants = parse(GRANTS[grant].0);
        });
        Self {
            socket,
            descriptor,
            framing,
            raw: Vec::new(),
            text: String::new(),
            wish: WISHES[wish].1,
            grant: GRANTS[grant].1,
            expected: Vec::new(),
            got: Vec::new(),
            is_lazy,
            is_doomed: false,
            is_over: false,
        }
    }

    /// Notes an event of these topics, if it is for this one.
    fn note(&mut self, number: u64, topics: &[usize], is_private: bool) {
        let any = |of: &[bool; 3]| topics.iter().any(|topic| of[*topic]);
        if any(&self.wish) && (!is_private || any(&self.grant)) {
            self.expected.push(number);
        }
    }

    /// Reads what there is, at most so many bytes, and compares it.
    fn read(&mut self, mut most: usize) {
        let mut buffer = [0; 16 * 1024];
        while most > 0 && !self.is_over {
            let room = buffer.len().min(most);
            match self.socket.read(&mut buffer[..room]) {
                Ok(0) => self.is_over = true,
                Ok(count) => {
                    most -= count;
                    self.raw.extend_from_slice(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    self.is_over = true;
                }
            }
        }
        if self.framing == Framing::Raw {
            let whole = self.raw.iter().rposition(|byte| *byte == b'\n');
            let whole: Vec<u8> = self.raw.drain(..whole.map_or(0, |at| at + 1)).collect();
            self.text
                .push_str(std::str::from_utf8(&whole).expect("ASCII"));
        } else {
            while let Some(chunk) = take_chunk(&mut self.raw) {
                self.text.push_str(&chunk);
            }
        }
        // An event ends with an empty line.
        let whole = self.text.rfind("\n\n").map_or(0, |at| at + 2);
        let events: String = self.text.drain(..whole).collect();
        for line in events.lines() {
            if let Some(data) = line.strip_prefix("data: ") {
                let number = data.split(' ').next().unwrap_or_default();
                self.got.push(number.parse().expect("a number"));
            }
        }
        let is_good = self.expected.starts_with(&self.got);
        assert!(is_good, "{:?}\nnot {:?}", self.got, self.expected);
        assert!(!self.is_over || self.is_doomed, "ended: {:?}", self.got);
    }

    fn is_done(&self) -> bool {
        self.is_over || self.got.len() == self.expected.len()
    }
}

struct Run {
    rig: Rig,
    shard: Shard,
    readers: Vec<Reader>,
    published: u64,
    random: fastrand::Rng,
}

impl Run {
    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        let polled = self.shard.poll.poll(&mut events, Some(Duration::ZERO));
        polled.expect("a poll");
        self.shard.now = self.shard.shared.clock.tick();
        self.shard.whole_turn(&events);
    }

    fn publish(&mut self) {
        let random = &mut self.random;
        let mut topics = vec![random.usize(..TOPICS.len())];
        let another = random.usize(..TOPICS.len());
        if random.u8(..) < 60 && !topics.contains(&another) {
            topics.push(another);
        }
        let is_private = random.u8(..) < 60;
        let length = match random.u8(..) {
            0..20 => random.usize(..60_000),
            _ => random.usize(..300),
        };
        let number = self.published;
        self.published += 1;
        self.rig.append_draft(Draft {
            topics: topics
                .iter()
                .map(|topic| topic_of(TOPICS[*topic]))
                .collect(),
            is_private,
            id: None,
            kind: None,
            retry_ms: None,
            conflation: Conflation::default(),
            data: format!("{number} {}", "x".repeat(length)).into(),
        });
        for reader in &mut self.readers {
            reader.note(number, &topics, is_private);
        }
    }

    fn step(&mut self) {
        match self.random.u8(..) {
            0..110 => self.publish(),
            110..200 => self.turn(),
            200..210 => {
                let reader = Reader::join(&self.rig, &mut self.random);
                self.readers.push(reader);
            }
            210..220 => {
                let leaves = self.random.usize(..self.readers.len());
                if self.readers[leaves].is_doomed {
                    // Its fault would strike whoever gets its descriptor.
                    return;
                }
                let left = self.readers.swap_remove(leaves);
                if self.random.bool() {
                    let linger = SockRef::from(&left.socket).set_linger(Some(Duration::ZERO));
                    linger.expect("a socket option");
                }
            }
            220..224 => {
                let victim = self.random.usize(..self.readers.len());
                let victim = &mut self.readers[victim];
                if !victim.is_doomed {
                    let wrote = self.random.bool();
                    let place = if wrote { Place::Wrote } else { Place::Write };
                    victim.is_doomed = true;
                    arm(victim.descriptor, place);
                }
            }
            _ => {
                for _ in 0..10 {
                    let reads = self.random.usize(..self.readers.len());
                    let reader = &mut self.readers[reads];
                    let most = if reader.is_lazy { 2000 } else { usize::MAX };
                    reader.read(most);
                }
            }
        }
    }
}

fn run(seed: u64, change: impl FnOnce(&mut crate::config::Settings)) {
    let sizes = Sizes {
        log_events: 100_000,
        window_events: 64,
    };
    let (rig, shard) = Rig::by_hand_with(&sizes, change);
    let mut random = fastrand::Rng::with_seed(seed);
    let readers = (0..CROWD).map(|_| Reader::join(&rig, &mut random));
    let readers = readers.collect();
    let mut run = Run {
        rig,
        shard,
        readers,
        published: 0,
        random,
    };
    for _ in 0..STEPS {
        run.step();
    }
    run.turn();
    run.rig.clock.advance(HELD);
    let begin = Instant::now();
    while !run.readers.iter().all(Reader::is_done) {
        assert!(begin.elapsed() < PATIENCE, "seed {seed}: some lack events");
        run.turn();
        for reader in &mut run.readers {
            reader.read(usize::MAX);
        }
    }
}

#[test]
fn streams_that_are_written_to_together_get_what_each_would_get_alone() {
    let seed = gush_testkit::seed();
    run(seed, |_| {});
}

#[test]
fn so_they_do_where_events_are_held_back() {
    let seed = gush_testkit::seed();
    run(seed, |settings| {
        settings.flush_batch = 5;
        settings.flush_interval = HELD;
    });
}
