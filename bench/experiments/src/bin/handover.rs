//! What does it cost to hand a connection over to another thread: by a queue (one descriptor
//! table for both), or with `SCM_RIGHTS` (a table for each)?
//!
//! Thread A owns connected TCP sockets and gives them away in batches; thread B takes them. Each
//! is on a core of its own. The queue is a mutex, a vector and an eventfd, like a shard's inbox.
//! With `--pace-us N` thread A rests that long after each batch, so that thread B sleeps and is
//! woken.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gush_experiments::{
    Outcome, cpu, option,
    peer::{Peer, connected},
    raw,
    rounds::Rounds,
};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{IoSliceMut, read, write};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// `SCM_MAX_FD`: the kernel takes no more descriptors in one message.
const BATCH_MAX: usize = 253;
/// Rest after each batch, in microseconds; set once, before the first round.
static PACE_US: AtomicU64 = AtomicU64::new(0);
const BATCHES: [usize; 5] = [1, 4, 16, 64, BATCH_MAX];

#[derive(Debug)]
struct Spent {
    giving: Duration,
    taking: Duration,
    wall: Duration,
}

fn main() -> Outcome {
    let count: usize = option("--sockets", 6_000)?;
    let rounds: usize = option("--rounds", 7)?;
    PACE_US.store(option("--pace-us", 0)?, Ordering::Relaxed);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut peer = Peer::start(listener.local_addr()?, Some(1))?;
    let mut figures = Rounds::default();
    for round in 0..=rounds {
        for batch in BATCHES {
            for by_queue in [true, false] {
                let sockets = connected(&listener, &mut peer, count)?;
                let spent = if by_queue {
                    queue(sockets, batch)?
                } else {
                    rights(sockets, batch)?
                };
                peer.close()?;
                if round == 0 {
                    continue;
                }
                let how = if by_queue {
                    "queue, one table"
                } else {
                    "SCM_RIGHTS, own table"
                };
                let row = format!("{how}, batches of {batch}");
                figures.add(&row, "giver CPU µs", cpu::per(spent.giving, count));
                figures.add(&row, "taker CPU µs", cpu::per(spent.taking, count));
                let both = spent.giving + spent.taking;
                figures.add(&row, "both CPU µs", cpu::per(both, count));
                figures.add(&row, "per second", count as f64 / spent.wall.as_secs_f64());
            }
        }
    }
    println!("{}", figures.table("per connection handed over"));
    println!("{}", figures.raw());
    Ok(())
}

/// Rests if asked to; returns the processor time that resting took, which is not the giver's.
fn rest() -> Duration {
    let pace_us = PACE_US.load(Ordering::Relaxed);
    if pace_us == 0 {
        return Duration::ZERO;
    }
    let time = cpu::thread_time();
    std::thread::sleep(Duration::from_micros(pace_us));
    cpu::thread_time() - time
}

fn queue(sockets: Vec<OwnedFd>, batch: usize) -> Outcome<Spent> {
    let count = sockets.len();
    let inbox: Arc<Mutex<Vec<OwnedFd>>> = Arc::default();
    let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
    let start = Arc::new(Barrier::new(2));
    let taker = {
        let (inbox, bell, start) = (Arc::clone(&inbox), Arc::clone(&bell), Arc::clone(&start));
        std::thread::spawn(move || {
            cpu::pin(1);
            let mut mine = Vec::with_capacity(count);
            start.wait();
            let time = cpu::thread_time();
            while mine.len() < count {
                let _ = read(&*bell, &mut [0_u8; 8]);
                mine.append(&mut inbox.lock().unwrap_or_else(PoisonError::into_inner));
            }
            (cpu::thread_time() - time, Instant::now())
        })
    };
    cpu::pin(0);
    start.wait();
    let (wall, time) = (Instant::now(), cpu::thread_time());
    let mut sockets = sockets.into_iter();
    let mut resting = Duration::ZERO;
    loop {
        let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let before = inbox.len();
        inbox.extend(sockets.by_ref().take(batch));
        if inbox.len() == before {
            break;
        }
        drop(inbox);
        write(&*bell, &1_u64.to_ne_bytes())?;
        resting += rest();
    }
    let giving = cpu::thread_time() - time - resting;
    let (taking, end) = taker.join().map_err(|_| "the taker panicked")?;
    Ok(Spent {
        giving,
        taking,
        wall: end - wall,
    })
}

fn rights(sockets: Vec<OwnedFd>, batch: usize) -> Outcome<Spent> {
    let count = sockets.len();
    let (here, there) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let start = Arc::new(Barrier::new(2));
    let taker = {
        let start = Arc::clone(&start);
        std::thread::spawn(move || {
            cpu::pin(1);
            raw::unshare_descriptors().expect("allowed on Linux");
            let mine = Vec::with_capacity(count);
            start.wait();
            // The copies of the giver's descriptors must not stay: they would keep sockets open.
            // The descriptor that we read from is moved out of the way first.
            let moved = rustix::io::fcntl_dupfd_cloexec(&there, 19_000).expect("it is free");
            std::mem::forget(there);
            raw::close_range(3, 18_999).expect("the range is valid");
            start.wait();
            receive(&moved, mine, count)
        })
    };
    cpu::pin(0);
    start.wait();
    start.wait();
    let (wall, time) = (Instant::now(), cpu::thread_time());
    let mut sockets = sockets.into_iter();
    let mut resting = Duration::ZERO;
    loop {
        let gone: Vec<OwnedFd> = sockets.by_ref().take(batch).collect();
        if gone.is_empty() {
            break;
        }
        let borrowed: Vec<BorrowedFd<'_>> = gone.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&borrowed));
        sendmsg(
            &here,
            &[IoSlice::new(b"s")],
            &mut control,
            SendFlags::empty(),
        )?;
        // Our own copies are closed: part of the cost.
        drop(gone);
        resting += rest();
    }
    let giving = cpu::thread_time() - time - resting;
    let (taking, end) = taker.join().map_err(|_| "the taker panicked")?;
    Ok(Spent {
        giving,
        taking,
        wall: end - wall,
    })
}

fn receive(from: &OwnedFd, mut mine: Vec<OwnedFd>, count: usize) -> (Duration, Instant) {
    let time = cpu::thread_time();
    while mine.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0_u8; 1];
        let mut parts = [IoSliceMut::new(&mut byte)];
        if recvmsg(from, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).is_err() {
            continue;
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                mine.extend(descriptors);
            }
        }
    }
    // `mine` is closed only after this.
    (cpu::thread_time() - time, Instant::now())
}
