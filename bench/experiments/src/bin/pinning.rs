//! What does pinning threads to cores change? A sender sweeps over N sockets at a steady pace, as a
//! broadcast does; a process reads. Sender and reader are pinned to a core each, left to the
//! scheduler, or share a core.

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use gush_experiments::peer::{Peer, connected};
use gush_experiments::rounds::{Rounds, quantile};
use gush_experiments::{Outcome, cpu, option};
use rustix::net::{SendFlags, send, sockopt};

static FRAME: [u8; 208] = [b'd'; 208];

/// Name, the sender's core, the reader's.
type Shape = (&'static str, Option<usize>, Option<usize>);

const SHAPES: [Shape; 5] = [
    ("neither pinned", None, None),
    ("sender on 0, reader on 1", Some(0), Some(1)),
    ("sender on 0, reader free", Some(0), None),
    ("sender free, reader on 1", None, Some(1)),
    ("both on 0", Some(0), Some(0)),
];

fn main() -> Outcome {
    let count: usize = option("--sockets", 1_000)?;
    let rounds: usize = option("--rounds", 5)?;
    let mut figures = Rounds::default();
    for round in 0..=rounds {
        for place in 0..SHAPES.len() {
            let shape = SHAPES[(place + round) % SHAPES.len()];
            let (name, cpu, sweeps) = run(shape, count)?;
            if round == 0 {
                continue;
            }
            figures.add(name, "CPU µs per send", cpu);
            figures.add(name, "sweep p50 ms", quantile(&sweeps, 0.5));
            figures.add(name, "sweep p99 ms", quantile(&sweeps, 0.99));
        }
    }
    println!(
        "{}",
        figures.table(&format!("a sweep over {count} sockets every 20 ms"))
    );
    println!("{}", figures.raw());
    Ok(())
}

fn run(shape: Shape, count: usize) -> Outcome<(&'static str, f64, Vec<f64>)> {
    let (name, sender, reader) = shape;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    cpu::unpin();
    let mut peer = Peer::start(listener.local_addr()?, reader)?;
    let sockets = connected(&listener, &mut peer, count)?;
    for socket in &sockets {
        rustix::io::ioctl_fionbio(socket, true)?;
        sockopt::set_tcp_nodelay(socket, true)?;
    }
    if let Some(core) = sender {
        cpu::pin(core);
    }
    let mut spent = Duration::ZERO;
    let mut sweeps = Vec::new();
    let began = Instant::now();
    for number in 0..100_u32 {
        let due = Duration::from_millis(20) * number;
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let (wall, time) = (Instant::now(), cpu::thread_time());
        for socket in &sockets {
            let _ = send(socket, &FRAME, SendFlags::NOSIGNAL);
        }
        spent += cpu::thread_time() - time;
        sweeps.push(wall.elapsed().as_secs_f64() * 1e3);
    }
    Ok((name, cpu::per(spent, count * sweeps.len()), sweeps))
}
