//! `peer ADDRESS CORE|any`: see [`gush_experiments::peer`]. Orders come on stdin, a line each.

use std::collections::HashMap;
use std::io::BufRead;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gush_experiments::{Outcome, cpu, raw};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use socket2::SockRef;

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicU64,
    calls: AtomicU64,
    /// When set, nothing is read: the peer that never reads.
    deaf: AtomicBool,
}

fn main() -> Outcome {
    let mut words = std::env::args().skip(1);
    let address: SocketAddr = words.next().ok_or("which address?")?.parse()?;
    let core = words.next().and_then(|word| word.parse::<usize>().ok());
    if let Some(core) = core {
        cpu::pin(core);
    }
    let poll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
    let shared = Arc::new(Shared::default());
    let sockets: Arc<Mutex<HashMap<RawFd, TcpStream>>> = Arc::default();
    {
        let (poll, shared) = (Arc::clone(&poll), Arc::clone(&shared));
        std::thread::spawn(move || drain(&poll, &shared));
    }
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (order, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match order {
            "open" => {
                let mut sockets = sockets.lock().unwrap_or_else(PoisonError::into_inner);
                for _ in 0..rest.parse::<usize>()? {
                    let socket = TcpStream::connect(address)?;
                    socket.set_nonblocking(true)?;
                    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
                    let number = socket.as_raw_fd();
                    let data = epoll::EventData::new_u64(number.cast_unsigned().into());
                    let wanted = epoll::EventFlags::IN | epoll::EventFlags::ET;
                    epoll::add(&*poll, &socket, data, wanted)?;
                    sockets.insert(number, socket);
                }
                println!("ok");
            }
            "close" => {
                sockets
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clear();
                println!("ok");
            }
            "deaf" => {
                shared.deaf.store(true, Ordering::Relaxed);
                println!("ok");
            }
            "read" => {
                let bytes = shared.bytes.swap(0, Ordering::Relaxed);
                println!("ok {bytes} {}", shared.calls.swap(0, Ordering::Relaxed));
            }
            _ => break,
        }
    }
    // Exiting closes the sockets, with resets.
    std::process::exit(0);
}

fn drain(poll: &OwnedFd, shared: &Shared) {
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0_u8; 256 << 10];
    loop {
        events.clear();
        if epoll::wait(poll, spare_capacity(&mut events), None).is_err() {
            continue;
        }
        if shared.deaf.load(Ordering::Relaxed) {
            continue;
        }
        for event in &events {
            let number = RawFd::try_from(event.data.u64()).unwrap_or(-1);
            let socket = raw::borrow(number);
            while let Ok((_, count)) =
                rustix::net::recv(socket, &mut buffer[..], rustix::net::RecvFlags::empty())
            {
                shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
                shared.calls.fetch_add(1, Ordering::Relaxed);
                if count < buffer.len() {
                    break;
                }
            }
        }
    }
}
