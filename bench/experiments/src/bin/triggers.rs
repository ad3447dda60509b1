//! How should a shard ask epoll about its sockets: once for both directions, edge-triggered
//! (`EPOLLET`); one-shot, armed again after every event; or level-triggered, asking for room only
//! while a socket is blocked?
//!
//! N sockets with small send buffers get frames as fast as their reader takes them, so that each
//! is blocked again and again; and, second table, a broadcast that never blocks.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use gush_experiments::peer::{Peer, connected};
use gush_experiments::{Outcome, cpu, option, rounds::Rounds};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{SendFlags, send, sockopt};

static FRAMES: [u8; 16 * 208] = [b'd'; 16 * 208];

#[derive(Clone, Copy, PartialEq)]
enum Trigger {
    Edge,
    OneShot,
    Level,
}

const TRIGGERS: [(&str, Trigger); 3] = [
    ("edge-triggered, registered once", Trigger::Edge),
    ("one-shot, armed again", Trigger::OneShot),
    (
        "level-triggered, room asked for when blocked",
        Trigger::Level,
    ),
];

struct Rig {
    /// Holds the other ends.
    _peer: Peer,
    poll: OwnedFd,
    sockets: Vec<OwnedFd>,
    trigger: Trigger,
    /// Calls of `epoll_ctl` after registering.
    controls: usize,
    waits: usize,
    events: usize,
}

fn main() -> Outcome {
    let count: usize = option("--sockets", 500)?;
    let rounds: usize = option("--rounds", 5)?;
    let (mut blocked, mut open) = (Rounds::default(), Rounds::default());
    for round in 0..=rounds {
        for place in 0..TRIGGERS.len() {
            let (name, trigger) = TRIGGERS[(place + round) % TRIGGERS.len()];
            let (mut figures, mut others) = (Rounds::default(), Rounds::default());
            let warm = round == 0;
            let into = if warm { &mut figures } else { &mut blocked };
            stream(into, name, &mut Rig::new(trigger, count, 4096)?)?;
            let into = if warm { &mut others } else { &mut open };
            broadcast(into, name, &mut Rig::new(trigger, count, 0)?)?;
        }
    }
    println!(
        "{}",
        blocked.table(&format!("{count} sockets that block, 1 s"))
    );
    println!(
        "{}",
        open.table(&format!("{count} sockets that never block, 100 sweeps"))
    );
    println!("{}{}", blocked.raw(), open.raw());
    Ok(())
}

impl Rig {
    fn new(trigger: Trigger, count: usize, send_buffer: usize) -> Outcome<Self> {
        cpu::unpin();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut peer = Peer::start(listener.local_addr()?, Some(1))?;
        let sockets = connected(&listener, &mut peer, count)?;
        cpu::pin(0);
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, socket) in sockets.iter().enumerate() {
            rustix::io::ioctl_fionbio(socket, true)?;
            sockopt::set_tcp_nodelay(socket, true)?;
            if send_buffer > 0 {
                sockopt::set_socket_send_buffer_size(socket, send_buffer)?;
            }
            epoll::add(
                &poll,
                socket,
                EventData::new_u64(number as u64),
                first(trigger),
            )?;
        }
        let rig = Self {
            _peer: peer,
            poll,
            sockets,
            trigger,
            controls: 0,
            waits: 0,
            events: 0,
        };
        Ok(rig)
    }

    /// Waits and returns who has room.
    fn wait(&mut self, into: &mut Vec<epoll::Event>, timeout: Option<&Timespec>) -> Outcome {
        into.clear();
        epoll::wait(&self.poll, spare_capacity(into), timeout)?;
        self.waits += 1;
        self.events += into.len();
        Ok(())
    }

    /// After an event was served and the socket is blocked again (or not).
    fn arm(&mut self, number: usize, is_blocked: bool, was_blocked: bool) -> Outcome {
        let wanted = match self.trigger {
            Trigger::Edge => return Ok(()),
            Trigger::OneShot => first(Trigger::OneShot),
            Trigger::Level if is_blocked == was_blocked => return Ok(()),
            Trigger::Level if is_blocked => EventFlags::IN | EventFlags::OUT,
            Trigger::Level => EventFlags::IN,
        };
        self.controls += 1;
        let data = EventData::new_u64(number as u64);
        epoll::modify(&self.poll, &self.sockets[number], data, wanted)?;
        Ok(())
    }
}

fn first(trigger: Trigger) -> EventFlags {
    match trigger {
        Trigger::Edge => EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        Trigger::OneShot => EventFlags::IN | EventFlags::OUT | EventFlags::ONESHOT,
        Trigger::Level => EventFlags::IN,
    }
}

/// Writes to every socket until it blocks, and goes on as each gets room.
fn stream(figures: &mut Rounds, name: &str, rig: &mut Rig) -> Outcome {
    let count = rig.sockets.len();
    let mut blocked = vec![false; count];
    let mut sent = 0;
    let (wall, time) = (Instant::now(), cpu::thread_time());
    let mut due: Vec<usize> = (0..count).collect();
    let mut events = Vec::with_capacity(1024);
    while wall.elapsed() < Duration::from_secs(1) {
        for number in due.drain(..) {
            let mut full = false;
            while !full {
                match send(&rig.sockets[number], &FRAMES, SendFlags::NOSIGNAL) {
                    Ok(count) => {
                        sent += count;
                        full = count < FRAMES.len();
                    }
                    Err(_) => full = true,
                }
            }
            rig.arm(number, true, blocked[number])?;
            blocked[number] = true;
        }
        rig.wait(&mut events, None)?;
        due.extend(events.iter().map(|event| event.data.u64() as usize));
    }
    let mib = sent as f64 / f64::from(1 << 20);
    let spent = cpu::thread_time() - time;
    figures.add(name, "MiB/s", mib / wall.elapsed().as_secs_f64());
    figures.add(name, "CPU µs per MiB", spent.as_secs_f64() * 1e6 / mib);
    figures.add(name, "epoll_ctl per MiB", rig.controls as f64 / mib);
    figures.add(name, "events per MiB", rig.events as f64 / mib);
    figures.add(
        name,
        "events per wait",
        rig.events as f64 / rig.waits as f64,
    );
    Ok(())
}

/// A frame to each, and a look at the poll, 100 times.
fn broadcast(figures: &mut Rounds, name: &str, rig: &mut Rig) -> Outcome {
    const NOW: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut events = Vec::with_capacity(1024);
    // Registering with OUT reports each socket once.
    rig.wait(&mut events, Some(&NOW))?;
    rig.events = 0;
    let time = cpu::thread_time();
    for _ in 0..100 {
        for socket in &rig.sockets {
            let _ = send(socket, &FRAMES[..208], SendFlags::NOSIGNAL);
        }
        rig.wait(&mut events, Some(&NOW))?;
        for event in &events {
            rig.arm(event.data.u64() as usize, false, false)?;
        }
    }
    let spent = cpu::thread_time() - time;
    let sends = 100 * rig.sockets.len();
    figures.add(name, "CPU µs per send", cpu::per(spent, sends));
    figures.add(name, "events per send", rig.events as f64 / sends as f64);
    figures.add(
        name,
        "epoll_ctl per send",
        rig.controls as f64 / sends as f64,
    );
    Ok(())
}
