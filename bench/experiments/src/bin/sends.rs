//! Is io_uring cheaper than `send` for one small frame to each of many sockets? And is a
//! descriptor table of the thread's own?
//!
//! A thread on core 0 sends a frame of 208 bytes to each of N sockets, sweep after sweep; a process
//! on core 1 reads them. CPU is that of the whole process, so that io_uring's helpers count, and of
//! the kernel's softirq threads, to which the receiving half of the loopback moves when one call
//! sends much at a time.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use gush_experiments::peer::{Peer, connected};
use gush_experiments::{Outcome, cpu, option, raw, rounds::Rounds};
use io_uring::IoUring;
use rustix::io::IoSlice;
use rustix::net::{SendFlags, send, sockopt};

static FRAME: [u8; 208] = [b'd'; 208];

#[derive(Clone, Copy)]
enum Engine {
    Send {
        own_table: bool,
    },
    Writev(usize),
    Uring {
        batch: usize,
        files: bool,
    },
    /// No bytes: the way into the kernel and back, with the descriptor looked up.
    Nothing {
        own_table: bool,
    },
}

const ENGINES: [(&str, Engine); 9] = [
    (
        "nothing (0 bytes), shared table",
        Engine::Nothing { own_table: false },
    ),
    (
        "nothing (0 bytes), own table",
        Engine::Nothing { own_table: true },
    ),
    ("send, shared table", Engine::Send { own_table: false }),
    ("send, own table", Engine::Send { own_table: true }),
    (
        "io_uring, 128 a call",
        Engine::Uring {
            batch: 128,
            files: false,
        },
    ),
    (
        "io_uring, registered files, 128 a call",
        Engine::Uring {
            batch: 128,
            files: true,
        },
    ),
    (
        "io_uring, registered files, 1024 a call",
        Engine::Uring {
            batch: 1024,
            files: true,
        },
    ),
    ("writev, 4 frames", Engine::Writev(4)),
    ("writev, 16 frames", Engine::Writev(16)),
];

fn main() -> Outcome {
    let count: usize = option("--sockets", 1_000)?;
    let rounds: usize = option("--rounds", 7)?;
    let sends: usize = option("--sends", 100_000)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut peer = Peer::start(listener.local_addr()?, Some(1))?;
    let sockets = Arc::new(connected(&listener, &mut peer, count)?);
    for socket in &*sockets {
        rustix::io::ioctl_fionbio(socket, true)?;
        sockopt::set_tcp_nodelay(socket, true)?;
    }
    let mut figures = Rounds::default();
    for round in 0..=rounds {
        // Another order each round, so that none always runs behind the same one.
        for place in 0..ENGINES.len() {
            let (name, engine) = ENGINES[(place * (1 + round % 2 * 6) + round) % ENGINES.len()];
            let sockets = Arc::clone(&sockets);
            // A thread each, so that a table of its own ends with it. While it runs, this thread
            // shares the table of the others.
            let softirq = cpu::softirq_threads_time();
            let thread = std::thread::spawn(move || measure(engine, &sockets, sends));
            let (calls, cpu, wall) = thread.join().map_err(|_| "it panicked")?;
            let read = peer.read()?;
            if round == 0 {
                continue;
            }
            let frames = match engine {
                Engine::Writev(frames) => frames,
                _ => 1,
            };
            let softirq = (cpu::softirq_threads_time() - softirq).as_secs_f64();
            figures.add(name, "CPU µs per call", cpu * 1e6 / calls as f64);
            figures.add(name, "softirq threads", softirq * 1e6 / calls as f64);
            let both = (cpu + softirq) * 1e6 / (calls * frames) as f64;
            figures.add(name, "both, µs per frame", both);
            figures.add(name, "frames/s", (calls * frames) as f64 / wall);
            let per_read = (calls * frames) as f64 / read.calls.max(1) as f64;
            figures.add(name, "frames per read", per_read);
        }
    }
    println!("{}", figures.table(&format!("{count} sockets")));
    println!("{}", figures.raw());
    Ok(())
}

/// Calls made, and seconds of processor and of wall clock.
fn measure(engine: Engine, sockets: &[OwnedFd], sends: usize) -> (usize, f64, f64) {
    cpu::pin(0);
    if let Engine::Send { own_table: true } | Engine::Nothing { own_table: true } = engine {
        raw::unshare_descriptors().expect("allowed on Linux");
    }
    let mut ring = match engine {
        Engine::Uring { batch, files } => Some(ring(batch, files, sockets).expect("io_uring")),
        _ => None,
    };
    let sweeps = sends.div_ceil(sockets.len());
    let (wall, time) = (Instant::now(), cpu::process_time());
    for _ in 0..sweeps {
        match (engine, &mut ring) {
            (Engine::Uring { batch, files }, Some(ring)) => {
                uring_sweep(ring, sockets, batch, files);
            }
            (Engine::Writev(frames), _) => {
                let parts = [IoSlice::new(&FRAME); 16];
                for socket in sockets {
                    let _ = rustix::io::writev(socket, &parts[..frames]);
                }
            }
            (Engine::Nothing { .. }, _) => {
                for socket in sockets {
                    let _ = send(socket, &[], SendFlags::NOSIGNAL);
                }
            }
            _ => {
                for socket in sockets {
                    let _ = send(socket, &FRAME, SendFlags::NOSIGNAL);
                }
            }
        }
    }
    let cpu = cpu::process_time() - time;
    (
        sweeps * sockets.len(),
        cpu.as_secs_f64(),
        wall.elapsed().as_secs_f64(),
    )
}

fn ring(batch: usize, files: bool, sockets: &[OwnedFd]) -> std::io::Result<IoUring> {
    let entries = u32::try_from(batch).expect("it is small");
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries)?;
    if files {
        let numbers: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        ring.submitter().register_files(&numbers)?;
    }
    Ok(ring)
}

fn uring_sweep(ring: &mut IoUring, sockets: &[OwnedFd], batch: usize, files: bool) {
    for first in (0..sockets.len()).step_by(batch) {
        let part = &sockets[first..sockets.len().min(first + batch)];
        for (place, socket) in part.iter().enumerate() {
            let target = if files {
                raw::Target::Registered(u32::try_from(first + place).expect("it is small"))
            } else {
                raw::Target::Number(socket.as_raw_fd())
            };
            raw::queue_send(ring, target, &FRAME);
        }
        ring.submit_and_wait(part.len()).expect("the ring is ours");
        ring.completion().for_each(drop);
    }
}
