//! How fast are connections accepted: one acceptor or one in each shard, listeners apart
//! (`SO_REUSEPORT`) or shared, one descriptor table or one for each thread?
//!
//! The peer first fills the backlog; then the threads empty it while the peer is silent, so that
//! only the accepting side is measured. Each accepted socket gets `TCP_NODELAY` and is registered
//! with the thread's own epoll, as in the hub. `ready` rounds also close, which takes the table's
//! lock too.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gush_experiments::{Outcome, cpu, option, peer::Peer, raw, rounds::Rounds};
use rustix::event::epoll;
use rustix::net::{SocketFlags, accept_with, sockopt};
use socket2::{Domain, Socket, Type};

const BACKLOG: i32 = 32_768;

#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    threads: usize,
    /// Each thread has its listener; else all share one.
    reuse_port: bool,
    /// Each thread has its descriptor table.
    own_tables: bool,
}

const SHAPES: [Shape; 6] = [
    Shape {
        name: "1 thread, shared table",
        threads: 1,
        reuse_port: false,
        own_tables: false,
    },
    Shape {
        name: "1 thread, own table",
        threads: 1,
        reuse_port: false,
        own_tables: true,
    },
    Shape {
        name: "2 threads, one listener, shared table",
        threads: 2,
        reuse_port: false,
        own_tables: false,
    },
    Shape {
        name: "2 threads, one listener, own tables",
        threads: 2,
        reuse_port: false,
        own_tables: true,
    },
    Shape {
        name: "2 threads, SO_REUSEPORT, shared table",
        threads: 2,
        reuse_port: true,
        own_tables: false,
    },
    Shape {
        name: "2 threads, SO_REUSEPORT, own tables",
        threads: 2,
        reuse_port: true,
        own_tables: true,
    },
];

struct Taken {
    count: usize,
    wall: Duration,
    accepting: Duration,
    closing: Duration,
    closing_wall: Duration,
}

fn main() -> Outcome {
    let count: usize = option("--sockets", 8_000)?;
    let rounds: usize = option("--rounds", 7)?;
    let mut figures = Rounds::default();
    for round in 0..=rounds {
        for shape in SHAPES {
            let taken = run(shape, count)?;
            // The first round warms the kernel's caches.
            if round > 0 {
                note(&mut figures, shape.name, &taken);
            }
        }
    }
    println!("{}", figures.table(&format!("{count} waiting connections")));
    println!("{}", figures.raw());
    Ok(())
}

fn note(figures: &mut Rounds, name: &str, taken: &[Taken]) {
    let count: usize = taken.iter().map(|taken| taken.count).sum();
    let most = taken
        .iter()
        .map(|taken| taken.count)
        .max()
        .unwrap_or_default();
    let wall = taken
        .iter()
        .map(|taken| taken.wall)
        .max()
        .unwrap_or_default();
    let accepting: Duration = taken.iter().map(|taken| taken.accepting).sum();
    let closing: Duration = taken.iter().map(|taken| taken.closing).sum();
    let closing_wall = taken
        .iter()
        .map(|taken| taken.closing_wall)
        .max()
        .unwrap_or_default();
    figures.add(name, "accepts/s", count as f64 / wall.as_secs_f64());
    figures.add(name, "CPU µs per accept", cpu::per(accepting, count));
    figures.add(name, "closes/s", count as f64 / closing_wall.as_secs_f64());
    figures.add(name, "CPU µs per close", cpu::per(closing, count));
    figures.add(name, "largest share", most as f64 / count as f64);
}

fn listener(address: SocketAddr, reuse_port: bool) -> Outcome<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn run(shape: Shape, count: usize) -> Outcome<Vec<Taken>> {
    let first = listener((Ipv4Addr::LOCALHOST, 0).into(), shape.reuse_port)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..shape.threads {
        listeners.push(if shape.reuse_port {
            listener(address, true)?
        } else {
            listeners[0].try_clone()?
        });
    }
    let mut peer = Peer::start(address, Some(1))?;
    let start = Arc::new(Barrier::new(shape.threads + 1));
    let threads: Vec<JoinHandle<Taken>> = listeners
        .into_iter()
        .enumerate()
        .map(|(core, listener)| {
            let start = Arc::clone(&start);
            std::thread::spawn(move || {
                cpu::pin(core);
                if shape.own_tables {
                    raw::unshare_descriptors().expect("allowed on Linux");
                }
                start.wait();
                take(&listener, &start)
            })
        })
        .collect();
    peer.open(count)?;
    // The threads have made their tables before the backlog is emptied.
    start.wait();
    start.wait();
    peer.close()?;
    start.wait();
    let taken = threads
        .into_iter()
        .map(|thread| thread.join().expect("it does not panic"));
    Ok(taken.collect())
}

/// Accepts until the backlog is empty, waits for the peer's resets, then closes.
fn take(listener: &TcpListener, start: &Barrier) -> Taken {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a descriptor is free");
    let mut sockets: Vec<OwnedFd> = Vec::with_capacity(20_000);
    let (wall, time) = (Instant::now(), cpu::thread_time());
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    while let Ok(socket) = accept_with(listener, flags) {
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        let data = epoll::EventData::new_u64(sockets.len() as u64);
        let wanted = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        let _ = epoll::add(&poll, &socket, data, wanted);
        sockets.push(socket);
    }
    let (wall, accepting) = (wall.elapsed(), cpu::thread_time() - time);
    start.wait();
    start.wait();
    let count = sockets.len();
    let (closing_wall, time) = (Instant::now(), cpu::thread_time());
    drop(sockets);
    let closing = cpu::thread_time() - time;
    Taken {
        count,
        wall,
        accepting,
        closing,
        closing_wall: closing_wall.elapsed(),
    }
}
