//! The frames of an HTTP/2 connection that ask for no stream's work, counted as their bytes pass:
//! h2 ends floods of requests, resets and empty data by itself, and answers these without end.

use std::time::{Duration, Instant};

use gush_middleware::{Bucket, Rate};

/// How many frames that carry nothing for a stream (PING, SETTINGS, PRIORITY, GOAWAY, unknown ones)
/// may come: far more than clients send that measure the way (a PING a round trip while they do).
const CONTROL_RATE: Rate = Rate::new(200.0, 10_000);

/// How many window updates may come without anything that they are for.
const UPDATES_FREE: u64 = 10_000;

/// One more for so many bytes that were sent: a client may send two for each DATA frame, and the
/// smallest events are longer than twice this.
const BYTES_PER_UPDATE: u64 = 8;

/// Most that are saved up so.
const UPDATES_MAX: u64 = 1_000_000;

/// What every connection begins with, before its first frame.
const PREFACE_BYTES: usize = 24;

const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Too many of them came: the connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flood;

/// What a connection's peer has sent, and may send yet.
#[derive(Debug)]
pub(crate) struct FrameMeter {
    began_at: Instant,
    control: Bucket,
    updates_left: u64,
    /// Sent bytes that are not worth a whole update yet.
    bytes_left_over: u64,
    /// Of the preface, or of the payload that is passing.
    bytes_to_pass: usize,
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
}

impl FrameMeter {
    /// For a connection of which nothing was read yet.
    pub(crate) fn new() -> Self {
        Self {
            began_at: Instant::now(),
            control: Bucket::default(),
            updates_left: UPDATES_FREE,
            bytes_left_over: 0,
            bytes_to_pass: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            head_bytes: 0,
        }
    }

    /// Bytes went out.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.bytes_left_over += bytes as u64;
        let earned = self.bytes_left_over / BYTES_PER_UPDATE;
        self.bytes_left_over %= BYTES_PER_UPDATE;
        self.updates_left = UPDATES_MAX.min(self.updates_left + earned);
    }

    /// Bytes came. Linear in the number of frames in them.
    pub(crate) fn came(&mut self, bytes: &[u8]) -> Result<(), Flood> {
        // One look at the clock for all frames that came together.
        self.came_at(bytes, self.began_at.elapsed())
    }

    fn came_at(&mut self, mut bytes: &[u8], now: Duration) -> Result<(), Flood> {
        loop {
            let passing = self.bytes_to_pass.min(bytes.len());
            self.bytes_to_pass -= passing;
            bytes = &bytes[passing..];
            let taken = bytes.len().min(HEAD_BYTES - self.head_bytes);
            self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.head_bytes += taken;
            bytes = &bytes[taken..];
            if self.head_bytes < HEAD_BYTES {
                return Ok(());
            }
            self.head_bytes = 0;
            let [high, middle, low, kind, ..] = self.head;
            self.bytes_to_pass = u32::from_be_bytes([0, high, middle, low]) as usize;
            self.count(kind, now)?;
        }
    }

    fn count(&mut self, kind: u8, now: Duration) -> Result<(), Flood> {
        match kind {
            DATA | HEADERS | RST_STREAM | CONTINUATION => Ok(()),
            WINDOW_UPDATE => {
                self.updates_left = self.updates_left.checked_sub(1).ok_or(Flood)?;
                Ok(())
            }
            _ => self.control.take(now, CONTROL_RATE).map_err(|_| Flood),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 0]);
        frame.extend(payload);
        frame
    }

    /// A meter behind the preface.
    fn meter() -> FrameMeter {
        let mut meter = FrameMeter::new();
        let begun = meter.came_at(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Duration::ZERO);
        assert_eq!(begun, Ok(()));
        meter
    }

    #[test]
    fn pings_in_any_pieces_are_a_flood_past_the_burst() {
        let ping = frame(6, b"pingpong");
        for piece_bytes in [1, 5, 9, 17, 1000] {
            let mut meter = meter();
            let most = ping.repeat(10_000);
            for piece in most.chunks(piece_bytes) {
                assert_eq!(meter.came_at(piece, Duration::ZERO), Ok(()));
            }
            assert_eq!(meter.came_at(&ping, Duration::ZERO), Err(Flood));
        }
    }

    #[test]
    fn pings_at_a_steady_pace_are_none() {
        let ping = frame(6, b"pingpong");
        let mut meter = meter();
        for number in 0..100_000 {
            let now = Duration::from_millis(number * 6);
            assert_eq!(meter.came_at(&ping, now), Ok(()), "{number}");
        }
    }

    #[test]
    fn requests_and_their_data_do_not_count_and_look_like_nothing_else() {
        let mut meter = meter();
        let inside = frame(6, b"pingpong").repeat(100);
        for _ in 0..1000 {
            for kind in [0, 1, 3, 9] {
                assert_eq!(meter.came_at(&frame(kind, &inside), Duration::ZERO), Ok(()));
            }
        }
    }

    #[test]
    fn updates_are_a_flood_unless_something_was_sent() {
        let update = frame(8, &[0, 0, 0, 1]);
        let mut meter = meter();
        assert_eq!(
            meter.came_at(&update.repeat(10_000), Duration::ZERO),
            Ok(())
        );
        // Two for each of the smallest frames that the hub sends.
        for _ in 0..100_000 {
            meter.sent(9 + 7);
            assert_eq!(meter.came_at(&update.repeat(2), Duration::ZERO), Ok(()));
        }
        assert_eq!(meter.came_at(&update, Duration::ZERO), Err(Flood));
    }
}
