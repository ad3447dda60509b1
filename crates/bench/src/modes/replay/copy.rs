//! What a replay is compared with: a file of as many bytes, copied to a socket by a thread that
//! does nothing else, and read by the same reader. In turns with the replays: a machine that is
//! slow for a minute is so for both.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use super::super::common::per_second;
use super::super::readers::{Outcomes, Plan, Readers};
use crate::report::{Report, Unit};
use crate::stamp::Stamp;
use crate::{BenchError, BenchOptions, Progress};

/// Bytes copied at once: what `cp` and most servers use.
const COPY_BYTES: usize = 128 << 10;
/// Most bytes of the file: more says nothing more, and the disk may be small.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// The file, and how fast it was copied in each round.
pub(super) struct Reference {
    file: File,
    events: u64,
    rounds: Vec<Round>,
}

/// Bytes per second; `replay` is that of one stream, and 0 where there were more.
struct Round {
    replay: f64,
    copy: f64,
    sendfile: f64,
}

impl Reference {
    /// Makes a file of what the streams of a replay were sent, as far as a copy cares: as many
    /// bytes, in the same framing, so that the reader has the same work.
    pub(super) fn new(replayed: &Outcomes, options: &BenchOptions) -> Result<Self, BenchError> {
        let failed = |error| BenchError::io("copy a file to a socket", error);
        let streams = replayed.streams.len().max(1) as u64;
        let bytes = replayed.sum(|stream| stream.bytes) / streams;
        let is_chunked = replayed.streams.iter().any(|stream| stream.is_chunked);
        let bytes = bytes.min(FILE_BYTES_MAX);
        let (file, events) = file(bytes, options.size, is_chunked).map_err(failed)?;
        Ok(Self {
            file,
            events,
            rounds: Vec::new(),
        })
    }

    /// Copies the file beside a replay that has just ended.
    pub(super) fn measure(
        &mut self,
        replayed: &Outcomes,
        options: &BenchOptions,
    ) -> Result<(), BenchError> {
        let replay = match &replayed.streams[..] {
            [stream] => {
                let nanos = stream.last_event_ns.saturating_sub(stream.asked_ns);
                per_second(stream.bytes, Duration::from_nanos(nanos))
            }
            _ => 0.0,
        };
        self.rounds.push(Round {
            replay,
            copy: speed(&self.file, self.events, options, copy)?,
            sendfile: speed(&self.file, self.events, options, send)?,
        });
        Ok(())
    }

    /// Adds the medians, and those of the ratios of each round.
    pub(super) fn report(&self, report: &mut Report) {
        let median = |of: &dyn Fn(&Round) -> f64| median(self.rounds.iter().map(of).collect());
        let copied = median(&|round| round.copy);
        let sent = median(&|round| round.sendfile);
        report.result("copy_bytes_per_second", copied, Unit::BytesPerSecond);
        report.result("sendfile_bytes_per_second", sent, Unit::BytesPerSecond);
        if self.rounds.iter().all(|round| round.replay > 0.0) {
            let to_copy = median(&|round| round.replay / round.copy);
            let to_sendfile = median(&|round| round.replay / round.sendfile);
            report.result("replay_to_copy_ratio", to_copy, Unit::Ratio);
            report.result("replay_to_sendfile_ratio", to_sendfile, Unit::Ratio);
        }
    }
}

/// The one in the middle; of an even number the smaller of the two. NaN of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}

/// A file of about so many bytes, in frames like those of a replay, and how many frames. It has no
/// name any more: it goes with its last descriptor.
fn file(bytes: u64, size: usize, is_chunked: bool) -> io::Result<(File, u64)> {
    let path = name();
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    let mut writer = BufWriter::with_capacity(COPY_BYTES, &file);
    let coding = if is_chunked {
        "Transfer-Encoding: chunked\r\n"
    } else {
        ""
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{coding}\r\n");
    writer.write_all(head.as_bytes())?;
    let mut frame = String::new();
    let (mut written, mut sequence) = (0, 0);
    while written < bytes || sequence == 0 {
        frame.clear();
        frame.push_str("id: urn:uuid:00000000-0000-4000-8000-000000000000\ndata: ");
        Stamp {
            group: 0,
            sequence,
            sent_ns: 0,
        }
        .push_data(size, &mut frame);
        frame.push_str("\n\n");
        if is_chunked {
            frame = format!("{:x}\r\n{frame}\r\n", frame.len());
        }
        writer.write_all(frame.as_bytes())?;
        written += frame.len() as u64;
        sequence += 1;
    }
    writer.flush()?;
    drop(writer);
    Ok((file, u64::from(sequence)))
}

fn name() -> PathBuf {
    let unique = format!(
        "gush-bench-{}-{}",
        std::process::id(),
        crate::clock::now_ns()
    );
    std::env::temp_dir().join(unique)
}

/// Bytes per second from the request to the last event.
fn speed(
    file: &File,
    events: u64,
    options: &BenchOptions,
    copy: fn(&mut File, &mut TcpStream) -> io::Result<u64>,
) -> Result<f64, BenchError> {
    let failed = |error| BenchError::io("copy a file to a socket", error);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let mut file = file.try_clone().map_err(failed)?;
    let server = std::thread::spawn(move || -> io::Result<u64> {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        // The request is one small segment; what it says does not matter.
        let mut request = [0; 4096];
        let _ = socket.read(&mut request)?;
        file.rewind()?;
        copy(&mut file, &mut socket)
    });
    let readers = Readers::start(Plan {
        address,
        request: b"GET / HTTP/1.1\r\nHost: copy\r\n\r\n".to_vec(),
        streams: 1,
        lanes: 1,
        first: 0,
        core: options.pin_generator,
        patience: options.patience,
    })?;
    readers.wait_events(Some(events), &Progress::silent());
    let outcomes = readers.finish();
    let copied = server
        .join()
        .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
    copied.map_err(failed)?;
    let stream = outcomes.streams.first().cloned().unwrap_or_default();
    let nanos = stream.last_event_ns.saturating_sub(stream.asked_ns);
    Ok(per_second(stream.bytes, Duration::from_nanos(nanos)))
}

/// A buffer filled from the file and emptied into the socket.
fn copy(file: &mut File, socket: &mut TcpStream) -> io::Result<u64> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut copied = 0;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(copied);
        }
        socket.write_all(&buffer[..length])?;
        copied += length as u64;
    }
}

/// The same without a buffer: on Linux the standard library asks the kernel (`sendfile`).
fn send(file: &mut File, socket: &mut TcpStream) -> io::Result<u64> {
    io::copy(file, socket)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::median;

    #[test]
    fn a_median_is_the_value_in_the_middle() {
        for (values, middle) in [
            (&[3.0, 1.0, 2.0][..], 2.0),
            (&[4.0, 1.0, 3.0, 2.0], 2.0),
            (&[5.0], 5.0),
        ] {
            assert_eq!(median(values.to_vec()).total_cmp(&middle), Ordering::Equal);
        }
        assert!(median(Vec::new()).is_nan());
    }
}
