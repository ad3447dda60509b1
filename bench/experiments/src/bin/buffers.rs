//! What do `SO_SNDBUF` and `TCP_NOTSENT_LOWAT` change: what the kernel holds for a subscriber that
//! never reads, how fast a replay runs to one that does, and how often the sender is woken?
//!
//! `buffers` prints two tables: a deaf peer, and a peer that reads all. A replay is 64 MiB in
//! writes of 64 frames of 208 bytes; when the kernel takes no more, the sender waits in epoll.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Instant;

use gush_experiments::peer::{Peer, connected};
use gush_experiments::{Outcome, cpu, option, raw, rounds::Rounds};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::net::{SendFlags, send, sockopt};

const KIB: usize = 1024;
/// 0 leaves the kernel's.
const SIZES: [usize; 8] = [
    0,
    4 * KIB,
    16 * KIB,
    32 * KIB,
    64 * KIB,
    128 * KIB,
    256 * KIB,
    1024 * KIB,
];
const LOW_WATERS: [usize; 4] = [4 * KIB, 16 * KIB, 64 * KIB, 128 * KIB];
const DEAF: usize = 50;
const WRITE: usize = 64 * 208;
const REPLAY: usize = 64 << 20;

fn main() -> Outcome {
    let rounds: usize = option("--rounds", 5)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut deaf = Rounds::default();
    let mut replay = Rounds::default();
    for _ in 0..rounds {
        for size in SIZES {
            never_read(&mut deaf, &listener, size, 0)?;
            read_all(&mut replay, &listener, size, 0)?;
        }
        for low_water in LOW_WATERS {
            for size in [0, 64 * KIB] {
                never_read(&mut deaf, &listener, size, low_water)?;
                read_all(&mut replay, &listener, size, low_water)?;
            }
        }
    }
    println!(
        "{}",
        deaf.table(&format!("a peer that never reads ({DEAF} of them)"))
    );
    println!("{}", replay.table("a peer that reads all"));
    println!("{}{}", deaf.raw(), replay.raw());
    Ok(())
}

fn name_of(size: usize, low_water: usize) -> String {
    let words = |bytes: usize| match bytes {
        0 => "the kernel's".to_owned(),
        bytes => format!("{} KiB", bytes / KIB),
    };
    let mut name = format!("SO_SNDBUF {}", words(size));
    if low_water > 0 {
        name.push_str(&format!(", TCP_NOTSENT_LOWAT {}", words(low_water)));
    }
    name
}

fn prepare(socket: &OwnedFd, size: usize, low_water: usize) -> Outcome {
    rustix::io::ioctl_fionbio(socket, true)?;
    sockopt::set_tcp_nodelay(socket, true)?;
    if size > 0 {
        sockopt::set_socket_send_buffer_size(socket, size)?;
    }
    if low_water > 0 {
        let value = i32::try_from(low_water)?;
        raw::set_int(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, value)?;
    }
    Ok(())
}

/// Writes until the kernel takes no more for 20 ms, so that it has moved what it can.
fn never_read(figures: &mut Rounds, listener: &TcpListener, size: usize, low: usize) -> Outcome {
    let mut peer = Peer::start(listener.local_addr()?, Some(1))?;
    peer.order("deaf")?;
    peer.answer()?;
    let before = cpu::tcp_memory();
    let sockets = connected(listener, &mut peer, DEAF)?;
    let frames = [b'd'; WRITE];
    let (mut taken, mut queued) = (0, 0);
    for socket in &sockets {
        prepare(socket, size, low)?;
    }
    let mut quiet = 0;
    while quiet < 3 {
        let had = taken;
        for socket in &sockets {
            while let Ok(count) = send(socket, &frames, SendFlags::NOSIGNAL) {
                taken += count;
                // With a low-water mark the kernel still takes a send when it is asked; epoll is
                // what says no. A shard asks epoll only after a short write, so this is its view.
                if count < frames.len() {
                    break;
                }
            }
        }
        quiet = if taken == had { quiet + 1 } else { 0 };
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for socket in &sockets {
        queued += raw::send_queue_memory(socket)?;
    }
    let name = name_of(size, low);
    let each = |bytes: u64| bytes as f64 / DEAF as f64 / KIB as f64;
    figures.add(&name, "KiB taken", each(taken as u64));
    figures.add(&name, "KiB of send queue", each(queued));
    let both = cpu::tcp_memory().saturating_sub(before);
    figures.add(&name, "KiB of TCP memory, both ends", each(both));
    Ok(())
}

fn read_all(figures: &mut Rounds, listener: &TcpListener, size: usize, low: usize) -> Outcome {
    let mut peer = Peer::start(listener.local_addr()?, Some(1))?;
    let sockets = connected(listener, &mut peer, 1)?;
    let socket = &sockets[0];
    prepare(socket, size, low)?;
    cpu::pin(0);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let wanted = epoll::EventFlags::OUT | epoll::EventFlags::ET;
    epoll::add(&poll, socket, epoll::EventData::new_u64(0), wanted)?;
    let frames = [b'd'; WRITE];
    let mut events = Vec::with_capacity(8);
    let (mut sent, mut waits, mut calls) = (0, 0_usize, 0_usize);
    let (wall, time) = (Instant::now(), cpu::thread_time());
    while sent < REPLAY {
        calls += 1;
        match send(socket, &frames, SendFlags::NOSIGNAL) {
            Ok(count) => sent += count,
            Err(rustix::io::Errno::AGAIN) => {
                waits += 1;
                events.clear();
                epoll::wait(&poll, spare_capacity(&mut events), None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mib = sent as f64 / (1 << 20) as f64;
    let name = name_of(size, low);
    figures.add(&name, "MiB/s", mib / wall.elapsed().as_secs_f64());
    figures.add(
        &name,
        "CPU µs per MiB",
        (cpu::thread_time() - time).as_secs_f64() * 1e6 / mib,
    );
    figures.add(&name, "waits per MiB", waits as f64 / mib);
    figures.add(
        &name,
        "KiB per send",
        sent as f64 / calls as f64 / KIB as f64,
    );
    Ok(())
}
