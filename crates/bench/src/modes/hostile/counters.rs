//! What a hub itself says of its streams, from the metrics of its admin listener.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::engine::head::{self, Parsed};
use crate::error::BenchError;

/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest page that is read.
const PAGE_BYTES_MAX: u64 = 4 << 20;
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// The hub's own counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) opened: u64,
    pub(super) open: u64,
    /// Streams closed, by reason.
    pub(super) closed: BTreeMap<String, u64>,
}

impl Counters {
    /// Reads them.
    ///
    /// # Errors
    /// [`BenchError::Server`] when the listener does not answer with metrics.
    pub(super) fn read(admin: SocketAddr) -> Result<Self, BenchError> {
        let refuse = |why: &str| BenchError::Server(format!("http://{admin}/metrics: {why}"));
        let page = page_of(admin).map_err(|error| refuse(&error.to_string()))?;
        let page = String::from_utf8_lossy(&page);
        Self::parse(&page).ok_or_else(|| refuse("no gush_streams_opened_total is in the answer"))
    }

    fn parse(page: &str) -> Option<Self> {
        let mut counters = Self::default();
        let mut is_found = false;
        for line in page.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(value) = value.parse::<u64>() else {
                continue;
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            match name {
                "gush_streams_opened_total" => (counters.opened, is_found) = (value, true),
                "gush_subscribers_open" => counters.open += value,
                "gush_streams_closed_total" => {
                    let reason = labels.split('"').nth(1).unwrap_or("unknown");
                    counters.closed.insert(reason.to_owned(), value);
                }
                _ => {}
            }
        }
        is_found.then_some(counters)
    }

    /// Reads until every opened stream is open or closed for a reason, or `patience` is over: the
    /// hub counts while it is asked.
    pub(super) fn settled(admin: SocketAddr, patience: Duration) -> Result<Self, BenchError> {
        let begin = Instant::now();
        loop {
            let counters = Self::read(admin)?;
            let is_settled = counters.open == 0 && counters.unexplained() == 0;
            if is_settled || begin.elapsed() > patience {
                return Ok(counters);
            }
            std::thread::park_timeout(LOOK);
        }
    }

    /// All closed streams.
    pub(super) fn closed_sum(&self) -> u64 {
        self.closed.values().sum()
    }

    /// How far the closed ones are from the opened ones that are not open.
    pub(super) fn unexplained(&self) -> u64 {
        self.opened
            .saturating_sub(self.open)
            .abs_diff(self.closed_sum())
    }
}

fn page_of(admin: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect_timeout(&admin, ANSWER_TIMEOUT)?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    socket.take(PAGE_BYTES_MAX).read_to_end(&mut answer)?;
    match head::parse(&answer) {
        Parsed::Head(head) if head.status == 200 && !head.is_chunked => {
            Ok(answer.split_off(head.length))
        }
        Parsed::Head(head) => Err(std::io::Error::other(format!("status {}", head.status))),
        Parsed::Partial | Parsed::Broken => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_neither_open_nor_closed_for_a_reason_is_found() {
        let page = "# HELP x y\ngush_streams_opened_total 9\ngush_subscribers_open{sink=\"tcp\"} 2\n\
                    gush_subscribers_open{sink=\"h2\"} 1\n\
                    gush_streams_closed_total{reason=\"peer_left\"} 4\n\
                    gush_streams_closed_total{reason=\"drain\"} 1\n";
        let counters = Counters::parse(page).expect("metrics");
        assert_eq!((counters.opened, counters.open), (9, 3));
        assert_eq!((counters.closed_sum(), counters.unexplained()), (5, 1));
        assert_eq!(Counters::parse("up 1\n"), None);
    }
}
