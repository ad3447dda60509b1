//! What a replay is compared with: a file of as many bytes, copied to a socket by a thread that
//! does nothing else, and read by the same reader.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use super::super::common::per_second;
use super::super::readers::{Plan, Readers};
use crate::report::{Report, Unit};
use crate::stamp::Stamp;
use crate::{BenchError, BenchOptions, Progress};

/// Bytes copied at once: what `cp` and most servers use.
const COPY_BYTES: usize = 128 << 10;
/// Most bytes of the file: more says nothing more, and the disk may be small.
const FILE_BYTES_MAX: u64 = 2 << 30;

/// Copies and adds the figures; the speed is that of one stream, so the ratio is given only then.
pub(super) fn compare(
    report: &mut Report,
    bytes: u64,
    options: &BenchOptions,
) -> Result<(), BenchError> {
    let failed = |error| BenchError::io("copy a file to a socket", error);
    let (file, events) = file(bytes.min(FILE_BYTES_MAX), options.size).map_err(failed)?;
    let copied = speed(&file, events, options, copy)?;
    let sent = speed(&file, events, options, send)?;
    report.result("copy_bytes_per_second", copied, Unit::BytesPerSecond);
    report.result("sendfile_bytes_per_second", sent, Unit::BytesPerSecond);
    let replay = report.value("replay_bytes_per_second").unwrap_or_default();
    if options.subscribers == 1 {
        report.result("replay_to_copy_ratio", replay / copied, Unit::Ratio);
        report.result("replay_to_sendfile_ratio", replay / sent, Unit::Ratio);
    }
    Ok(())
}

/// A file of about so many bytes, in frames like those of a replay, and how many frames. It has no
/// name any more: it goes with its last descriptor.
fn file(bytes: u64, size: usize) -> io::Result<(File, u64)> {
    let path = name();
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    let mut writer = BufWriter::with_capacity(COPY_BYTES, &file);
    writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
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
    readers.wait_events(events, &Progress::silent());
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
