//! A running hub with many idle streams, and a publisher beside them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use socket2::{Domain, SockRef, Socket, Type};

use crate::Outcome;

/// Streams from one source address: well below the kernel's range of ports.
const STREAMS_PER_ADDRESS: usize = 9_000;

/// What publishers sign their tokens with.
pub const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A hub in a process of its own.
#[derive(Debug)]
pub struct Hub {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    token: String,
}

impl Hub {
    /// Starts `gush serve` of that binary with a log in memory, anonymous subscribers, and the
    /// given environment and further options.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start(binary: &str, env: &[(&str, &str)], options: &[&str]) -> Outcome<Self> {
        let token = Command::new(binary)
            .args(["token", "--publish", "*", "--key", KEY])
            .output()?;
        let token = String::from_utf8(token.stdout)?.trim().to_owned();
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"])
            .args(["--log", "memory", "--anonymous", "--publisher-key", KEY])
            .args(options)
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let out = child.stdout.take().ok_or("no stdout")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let address = line
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .ok_or_else(|| format!("the hub said {line:?}"))?
            .parse()?;
        Ok(Self {
            child,
            address,
            token,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection that publishes.
    ///
    /// # Errors
    ///
    /// It cannot connect.
    pub fn publisher(&self) -> Outcome<Publisher> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        Ok(Publisher {
            socket,
            token: self.token.clone(),
        })
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A keep-alive connection that publishes one event after the other.
#[derive(Debug)]
pub struct Publisher {
    socket: TcpStream,
    token: String,
}

impl Publisher {
    /// Publishes and waits for the answer.
    ///
    /// # Errors
    ///
    /// The hub refused or left.
    pub fn publish(&mut self, topic: &str, data: &str) -> Outcome {
        let body = format!("topic={topic}&data={data}");
        let request = format!(
            "POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.socket.write_all(request.as_bytes())?;
        let mut answer = [0_u8; 4096];
        let mut have = 0;
        loop {
            let count = self.socket.read(&mut answer[have..])?;
            have += count;
            let text = String::from_utf8_lossy(&answer[..have]);
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| {
                        line.to_ascii_lowercase()
                            .strip_prefix("content-length: ")?
                            .parse()
                            .ok()
                    })
                    .unwrap_or(0);
                if rest.len() >= length {
                    return if head.starts_with("HTTP/1.1 200") {
                        Ok(())
                    } else {
                        Err(head.into())
                    };
                }
            }
            if count == 0 {
                return Err("the hub closed".into());
            }
        }
    }
}

/// Open streams of one hub, in one poll.
pub struct Streams {
    poll: OwnedFd,
    sockets: Vec<Socket>,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
}

impl Streams {
    /// Opens `count` streams, each of the topic that `topic` names for its number, and waits until
    /// each has its head.
    ///
    /// # Errors
    ///
    /// A connect fails, or not all get their head within 30 s.
    pub fn open(hub: &Hub, count: usize, topic: impl Fn(usize) -> String) -> Outcome<Self> {
        let mut streams = Self {
            poll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            sockets: Vec::with_capacity(count),
            events: Vec::with_capacity(1024),
            buffer: vec![0; 256 << 10],
        };
        let mut heads = 0;
        for number in 0..count {
            let low = u8::try_from(1 + number / STREAMS_PER_ADDRESS)?;
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, low), 0)).into())?;
            socket.connect(&hub.address.into())?;
            SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
            let request = format!(
                "GET /.well-known/mercure?topic={} HTTP/1.1\r\nHost: h\r\n\
                 Accept: text/event-stream\r\n\r\n",
                topic(number)
            );
            (&socket).write_all(request.as_bytes())?;
            socket.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number as u64);
            let wanted = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&streams.poll, socket.as_fd(), data, wanted)?;
            streams.sockets.push(socket);
            // Not far ahead of the hub: 128 not answered yet.
            while number - heads.min(number) >= 128 {
                heads += streams.read_until(b"HTTP/1.1 200", 1, Duration::from_secs(30))?;
            }
        }
        if heads < count {
            streams.read_until(b"HTTP/1.1 200", count - heads, Duration::from_secs(30))?;
        }
        Ok(streams)
    }

    /// Reads until `mark` was seen `count` times on all streams together.
    ///
    /// # Errors
    ///
    /// That takes longer than `patience`, or a stream ended.
    pub fn read_until(&mut self, mark: &[u8], count: usize, patience: Duration) -> Outcome<usize> {
        let until = Instant::now() + patience;
        let mut seen = 0;
        while seen < count {
            if Instant::now() > until {
                return Err(format!("{seen} of {count} after {patience:?}").into());
            }
            self.events.clear();
            let wait = Timespec {
                tv_sec: 0,
                tv_nsec: 100_000_000,
            };
            epoll::wait(&self.poll, spare_capacity(&mut self.events), Some(&wait))?;
            for event in &self.events {
                let socket = &self.sockets[usize::try_from(event.data.u64())?];
                loop {
                    match Read::read(&mut &*socket, &mut self.buffer) {
                        Ok(0) => return Err("a stream ended".into()),
                        Ok(count) => seen += occurrences(&self.buffer[..count], mark),
                        Err(_) => break,
                    }
                }
            }
        }
        Ok(seen)
    }
}

fn occurrences(bytes: &[u8], mark: &[u8]) -> usize {
    let first = mark[0];
    let mut count = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == first && bytes[at..].starts_with(mark) {
            count += 1;
        }
    }
    count
}
