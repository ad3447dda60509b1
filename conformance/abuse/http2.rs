//! Row 36: floods in HTTP/2 without TLS. A hub that does not offer it closes, which will do.

use super::Healthy;
use crate::cases::ensure;
use crate::{Case, Target, case};
use gush_testkit::{Connection, Outcome, PATIENCE};
use std::net::Shutdown;

pub(super) fn cases() -> Vec<Case> {
    let flood = |what: &str, frames: fn(&mut Frames), most: usize| {
        case(
            &format!("abuse/36-{what}"),
            &[],
            "floods of HTTP/2 frames: GOAWAY or close, bounded memory, others served",
            move |t| flooded(t, frames, most),
        )
    };
    let endless = |what: &str, frames: fn(&mut Frames)| {
        case(
            &format!("abuse/36-{what}-by-a-reader"),
            &[],
            "frames without end that carry nothing, their answers read: GOAWAY or close",
            move |t| is_ended(t, frames),
        )
    };
    vec![
        endless("settings-flood", Frames::settings),
        endless("ping-flood", Frames::ping),
        endless("ping-answer-flood", Frames::ping_answer),
        endless("priority-flood", Frames::priority),
        endless("unknown-frame-flood", Frames::unknown),
        endless("window-update-flood", Frames::window_update),
        flood("rapid-reset", Frames::rapid_reset, 40_000),
        flood("endless-continuation", Frames::continuation, 40_000),
        flood("settings-flood", Frames::settings, 400_000),
        flood("ping-flood", Frames::ping, 400_000),
        flood("empty-data-flood", Frames::empty_data, 400_000),
        flood("window-update-overflow", Frames::window_overflow, 10_000),
        flood("half-requests", Frames::half_requests, 40_000),
        case(
            "abuse/36-frame-over-the-limit",
            &[],
            "a frame larger than was offered: GOAWAY or close",
            |t| {
                let mut healthy = Healthy::open(t)?;
                let mut frames = Frames::begin();
                frames.frame(0, 0, 1, &vec![0; (1 << 24) - 1]);
                let mut connection = t.connect()?;
                let _ = connection.send(&frames.bytes);
                ended(&mut connection)?;
                healthy.check(t)
            },
        ),
        case(
            "abuse/36-header-bomb",
            &[],
            "a small header block that unpacks to a large one: refused, memory flat",
            |t| {
                let mut healthy = Healthy::open(t)?;
                let before = t.memory_bytes()?;
                let mut connection = t.connect()?;
                let mut frames = Frames::begin();
                // One long entry for the table, then a reference of one octet, again and again.
                let mut block = b"\x82\x86\x84\x41\x01h\x40\x01x\x7f\xd1\x1e".to_vec();
                block.extend([b'a'; 4000]);
                block.extend([0xbe; 12_000]);
                frames.frame(1, 0b101, 1, &block);
                let _ = connection.send(&frames.bytes);
                let _ = connection.finish_sending();
                let _ = connection.read_to_close(PATIENCE)?;
                healthy.check(t)?;
                t.memory_grew_less(before, 32 << 20)
            },
        ),
    ]
}

/// Sends frames until the hub ends the connection or `most` rounds went through, then looks whether
/// it is well.
fn flooded(t: &Target, round: fn(&mut Frames), most: usize) -> Outcome<()> {
    let mut healthy = Healthy::open(t)?;
    healthy.check(t)?;
    let before = t.memory_bytes()?;
    let mut connection = t.connect()?;
    let mut frames = Frames::begin();
    // The hub's answers are not read: they may not pile up in its memory either.
    connection
        .socket()
        .set_write_timeout(Some(std::time::Duration::from_secs(2)))?;
    for sent in 0..most {
        round(&mut frames);
        if frames.bytes.len() > 16 << 10 {
            if connection.send(&frames.bytes).is_err() {
                break;
            }
            frames.bytes.clear();
        }
        if sent % 10_000 == 0 {
            healthy.check(t)?;
        }
    }
    healthy.check(t)?;
    t.memory_grew_less(before, 32 << 20)?;
    drop(connection);
    healthy.check(t)
}

/// Sends frames, and reads what is answered, until the hub ends the connection: long before all
/// went through, for what is on the way is far less.
fn is_ended(t: &Target, round: fn(&mut Frames)) -> Outcome<()> {
    let mut healthy = Healthy::open(t)?;
    let mut connection = t.connect()?;
    let mut socket = connection.socket().try_clone()?;
    let reader = std::thread::spawn(move || {
        let _ = std::io::copy(&mut socket, &mut std::io::sink());
    });
    let mut frames = Frames::begin();
    let mut is_ended = false;
    for _ in 0..2_000_000 {
        round(&mut frames);
        if frames.bytes.len() > 16 << 10 {
            is_ended = reader.is_finished() || connection.send(&frames.bytes).is_err();
            if is_ended {
                break;
            }
            frames.bytes.clear();
        }
    }
    let _ = connection.socket().shutdown(Shutdown::Both);
    let _ = reader.join();
    ensure(is_ended, || {
        "2,000,000 frames were taken, and the connection stayed open".into()
    })?;
    healthy.check(t)
}

/// The hub said GOAWAY or closed.
fn ended(connection: &mut Connection) -> Outcome<()> {
    let got = connection.read_to_close(PATIENCE)?;
    let goaway = got.windows(4).any(|window| window[3] == 7);
    ensure(got.is_empty() || goaway, || {
        format!("GOAWAY or close was to come, not {got:?}")
    })
}

/// HTTP/2 frames as bytes.
struct Frames {
    bytes: Vec<u8>,
    next_stream: u32,
    begun: bool,
}

/// `GET /` to "h", with the static table of HPACK alone.
const REQUEST: &[u8] = b"\x82\x86\x84\x41\x01h";
/// `POST /` to "h".
const POST: &[u8] = b"\x83\x86\x84\x41\x01h";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

impl Frames {
    fn begin() -> Self {
        let mut frames = Self {
            bytes: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            next_stream: 1,
            begun: false,
        };
        frames.frame(SETTINGS, 0, 0, &[]);
        frames
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("frames of a test are small");
        self.bytes.extend(&length.to_be_bytes()[1..]);
        self.bytes.extend([kind, flags]);
        self.bytes.extend(stream.to_be_bytes());
        self.bytes.extend(payload);
    }

    fn stream(&mut self) -> u32 {
        self.next_stream += 2;
        self.next_stream - 2
    }

    fn rapid_reset(&mut self) {
        let stream = self.stream();
        self.frame(HEADERS, END_STREAM | END_HEADERS, stream, REQUEST);
        self.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }

    fn half_requests(&mut self) {
        let stream = self.stream();
        self.frame(HEADERS, END_HEADERS, stream, POST);
    }

    fn continuation(&mut self) {
        if !self.begun {
            self.begun = true;
            self.frame(HEADERS, END_STREAM, 1, REQUEST);
        }
        // A literal header that is not kept in the table.
        self.frame(CONTINUATION, 0, 1, b"\0\x01x\x08aaaaaaaa");
    }

    fn settings(&mut self) {
        self.frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
    }

    fn ping(&mut self) {
        self.frame(PING, 0, 0, b"pingpong");
    }

    fn ping_answer(&mut self) {
        self.frame(PING, ACK, 0, b"pingpong");
    }

    fn priority(&mut self) {
        let stream = self.stream();
        self.frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 16]);
    }

    fn unknown(&mut self) {
        self.frame(0x77, 0, 0, b"whatever");
    }

    fn window_update(&mut self) {
        self.frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    }

    fn empty_data(&mut self) {
        if !self.begun {
            self.begun = true;
            self.frame(HEADERS, END_HEADERS, 1, POST);
        }
        self.frame(DATA, 0, 1, &[]);
    }

    fn window_overflow(&mut self) {
        self.frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
    }
}
