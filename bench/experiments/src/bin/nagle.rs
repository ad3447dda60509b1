//! The article's case: what does `TCP_NODELAY` change for small events? Nagle's algorithm holds a
//! small segment back while an earlier one is not acknowledged, and a receiver may delay its
//! acknowledgement by 40 ms, so whatever is written behind a first small write waits for it.
//!
//! Whether it does depends on the reader. A Linux socket that only reads, and reads all there is,
//! acknowledges at once. One that answers what it reads (a request on a kept connection) delays.
//! The reader that is told to delay (`TCP_QUICKACK` off) stands for kernels that always do.
//!
//! Each shape runs with both settings at once, on a connection each; the gap between two rounds
//! is random, 60 to 120 ms. `--chart FILE` writes the chart.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use gush_experiments::chart::{Words, bars};
use gush_experiments::{Outcome, option, raw, rounds::quantile};

const FRAME: usize = 208;

/// What the reader does.
#[derive(Clone, Copy, PartialEq)]
enum Reader {
    /// Reads.
    Silent,
    /// Reads, and tells its kernel to acknowledge late.
    Late,
    /// Sends a request before each round.
    Asks,
}

/// How the events of one round are written.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    reader: Reader,
    /// 2 ms apart.
    events: usize,
    /// Head and data of a frame in a write each.
    in_two: bool,
}

const fn shape(name: &'static str, reader: Reader, events: usize, in_two: bool) -> Shape {
    Shape {
        name,
        reader,
        events,
        in_two,
    }
}

const SHAPES: [Shape; 6] = [
    shape("one write", Reader::Late, 1, false),
    shape("two writes, reads only", Reader::Silent, 1, true),
    shape("two writes, late ACK", Reader::Late, 1, true),
    shape("3 events, reads only", Reader::Silent, 3, false),
    shape("3 events, late ACK", Reader::Late, 3, false),
    shape("answer in two writes", Reader::Asks, 1, true),
];

fn main() -> Outcome {
    let count: usize = option("--rounds", 300)?;
    let chart: String = option("--chart", String::new())?;
    let began = Instant::now();
    let mut runs = Vec::new();
    for shape in SHAPES {
        for no_delay in [false, true] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let reader = TcpStream::connect(listener.local_addr()?)?;
            let (writer, _) = listener.accept()?;
            writer.set_nodelay(no_delay)?;
            std::thread::spawn(move || write(&writer, shape, count, began));
            let events = count * shape.events;
            let reading = std::thread::spawn(move || read(&reader, shape, events, began));
            runs.push((shape, no_delay, reading));
        }
    }
    println!(
        "| writing | TCP_NODELAY | events | p50 ms | p90 ms | p99 ms | most ms | over 30 ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let names = [
        "Nagle, median",
        "Nagle, p99",
        "TCP_NODELAY, median",
        "TCP_NODELAY, p99",
    ];
    let mut series: Vec<(String, Vec<f64>)> = names
        .iter()
        .map(|name| ((*name).to_owned(), vec![]))
        .collect();
    for (shape, no_delay, reading) in runs {
        let delays = reading.join().map_err(|_| "a reader panicked")?;
        let at = |share| quantile(&delays, share);
        let late = delays.iter().filter(|delay| **delay > 30.0).count();
        let share = 100.0 * late as f64 / delays.len() as f64;
        println!(
            "| {} | {} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {share:.0} % |",
            shape.name,
            if no_delay { "on" } else { "off" },
            delays.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
        );
        let first = usize::from(no_delay) * 2;
        series[first].1.push(at(0.5));
        series[first + 1].1.push(at(0.99));
    }
    if !chart.is_empty() {
        let words = Words {
            title: "An event of 208 bytes over loopback, with and without TCP_NODELAY",
            x: "how the events of one moment are written",
            y: "ms from the first write to the whole event",
        };
        let groups: Vec<&str> = SHAPES.iter().map(|shape| shape.name).collect();
        std::fs::write(chart, bars(words, &groups, &series))?;
    }
    Ok(())
}

/// Writes the rounds; an event begins with its time.
fn write(mut socket: &TcpStream, shape: Shape, count: usize, began: Instant) {
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..count {
        if shape.reader == Reader::Asks && socket.read_exact(&mut [0; 32]).is_err() {
            return;
        }
        for event in 0..shape.events {
            if event > 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            let mut frame = [b'd'; FRAME];
            let now = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            frame[..8].copy_from_slice(&now.to_ne_bytes());
            let (head, data) = frame.split_at(20);
            let result = if shape.in_two {
                socket.write_all(head).and_then(|()| socket.write_all(data))
            } else {
                socket.write_all(&frame)
            };
            if result.is_err() {
                return;
            }
        }
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        if shape.reader != Reader::Asks {
            std::thread::sleep(Duration::from_millis(60 + (random >> 33) % 60));
        }
    }
}

/// Milliseconds from the first write of each event to its last byte.
fn read(mut socket: &TcpStream, shape: Shape, events: usize, began: Instant) -> Vec<f64> {
    let mut delays = Vec::with_capacity(events);
    let mut have = Vec::new();
    let mut buffer = [0_u8; 4096];
    let mut asked = 0;
    while delays.len() < events {
        if shape.reader == Reader::Late {
            let _ = raw::set_int(socket, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0);
        }
        if shape.reader == Reader::Asks && asked == delays.len() {
            std::thread::sleep(Duration::from_millis(20));
            let _ = socket.write_all(&[b'q'; 32]);
            asked += 1;
        }
        let Ok(count @ 1..) = socket.read(&mut buffer) else {
            break;
        };
        let now = began.elapsed();
        have.extend_from_slice(&buffer[..count]);
        while have.len() >= FRAME {
            let mut sent_at = [0_u8; 8];
            sent_at.copy_from_slice(&have[..8]);
            let sent_at = Duration::from_nanos(u64::from_ne_bytes(sent_at));
            delays.push(now.saturating_sub(sent_at).as_secs_f64() * 1e3);
            have.drain(..FRAME);
        }
    }
    delays
}
