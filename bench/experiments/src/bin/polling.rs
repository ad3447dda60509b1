//! What does busy polling win for latency, and what does it cost? A client sends 32 bytes at a
//! steady pace, the server sends 208 back. The server waits in epoll, spins over epoll with a
//! timeout of zero, does both in turn, or asks the kernel to poll its driver (`SO_BUSY_POLL`, which
//! the loopback has no use for).

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gush_experiments::rounds::{Rounds, quantile};
use gush_experiments::{Outcome, cpu, option, raw};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

#[derive(Clone, Copy, PartialEq)]
enum Wait {
    Block,
    Spin,
    /// Spins for this long after the last event, then blocks.
    SpinThenBlock(Duration),
    BusyPoll,
}

const WAITS: [(&str, Wait); 4] = [
    ("epoll_wait", Wait::Block),
    ("epoll_wait, SO_BUSY_POLL 50 µs", Wait::BusyPoll),
    (
        "spinning for 50 µs, then epoll_wait",
        Wait::SpinThenBlock(Duration::from_micros(50)),
    ),
    ("spinning", Wait::Spin),
];

const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

fn main() -> Outcome {
    let count: usize = option("--requests", 2_000)?;
    let rounds: usize = option("--rounds", 5)?;
    let mut figures = Rounds::default();
    for _ in 0..rounds {
        for (pace_us, pace) in [(1_000, "1,000/s"), (50, "20,000/s")] {
            for (name, wait) in WAITS {
                run(
                    &mut figures,
                    &format!("{name}, {pace}"),
                    wait,
                    (count, pace_us),
                )?;
            }
        }
    }
    println!(
        "{}",
        figures.table("round trips on one connection, server and client on a core each")
    );
    println!("{}", figures.raw());
    Ok(())
}

fn run(figures: &mut Rounds, name: &str, wait: Wait, load: (usize, u64)) -> Outcome {
    let (count, pace_us) = load;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.set_nodelay(true)?;
    let (socket, _) = listener.accept()?;
    let stop = Arc::new(AtomicBool::new(false));
    let server = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || serve(&socket, wait, &stop))
    };
    cpu::pin(1);
    let mut delays = Vec::with_capacity(count);
    let mut answer = [0_u8; 208];
    let wall = Instant::now();
    for number in 0..count {
        // The client spins to its next moment, so that its own waking up is not in the figure.
        let due = Duration::from_micros(pace_us * number as u64);
        while wall.elapsed() < due {
            std::hint::spin_loop();
        }
        let sent = Instant::now();
        client.write_all(&[b'q'; 32])?;
        client.read_exact(&mut answer)?;
        delays.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    let wall = wall.elapsed();
    stop.store(true, Ordering::Relaxed);
    drop(client);
    let spent = server.join().map_err(|_| "the server panicked")?;
    figures.add(name, "p50 µs", quantile(&delays, 0.5));
    figures.add(name, "p99 µs", quantile(&delays, 0.99));
    figures.add(
        name,
        "server's core busy %",
        100.0 * spent.as_secs_f64() / wall.as_secs_f64(),
    );
    Ok(())
}

fn serve(mut socket: &TcpStream, wait: Wait, stop: &AtomicBool) -> Duration {
    cpu::pin(0);
    if wait == Wait::BusyPoll {
        let _ = raw::set_int(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, 50);
    }
    let (_, _) = (socket.set_nodelay(true), socket.set_nonblocking(true));
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a descriptor is free");
    let wanted = epoll::EventFlags::IN | epoll::EventFlags::ET;
    let _ = epoll::add(&poll, socket, epoll::EventData::new_u64(0), wanted);
    let mut events = Vec::with_capacity(8);
    let time = cpu::thread_time();
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let spins = match wait {
            Wait::Block | Wait::BusyPoll => false,
            Wait::Spin => true,
            Wait::SpinThenBlock(span) => last.elapsed() < span,
        };
        events.clear();
        let timeout = if spins { Some(&NOW) } else { None };
        if epoll::wait(&poll, spare_capacity(&mut events), timeout).is_err() || events.is_empty() {
            continue;
        }
        last = Instant::now();
        let mut request = [0_u8; 256];
        while let Ok(count @ 1..) = socket.read(&mut request) {
            for _ in 0..count / 32 {
                let _ = socket.write(&[b'a'; 208]);
            }
        }
    }
    cpu::thread_time() - time
}
