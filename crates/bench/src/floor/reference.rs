//! A thread of a reference server: one epoll instance, plain subscribes and publishes. How an event
//! reaches the sockets is the [`Fanout`]'s business; everything else is the same for both.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::crew::Mailboxes;
use super::frame::{Frame, Frames, data_of_form};
use super::slots::Slots;
use crate::engine::head::HEAD_BYTES_MAX;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// Events taken from the kernel at once.
const BATCH: usize = 512;
/// Most bytes of a request with its body.
const REQUEST_BYTES_MAX: usize = HEAD_BYTES_MAX + (1 << 20);
/// What epoll says of the listening socket.
const LISTENER: u64 = u64::MAX;
/// What epoll says when another thread has an event for this one's sockets.
const MAILBOX: u64 = u64::MAX - 1;
/// Set in what epoll says of a socket that has subscribed.
const SUBSCRIBED: u64 = 1 << 62;

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n";

/// How frames get to subscribed sockets.
pub(super) trait Fanout {
    /// Takes a subscribed socket. The number it gives stands for it from now on.
    fn add(&mut self, socket: OwnedFd) -> usize;
    /// The socket of that number.
    fn socket(&self, id: usize) -> Option<&OwnedFd>;
    /// Closes it.
    fn remove(&mut self, id: usize);
    /// Takes an event for everybody.
    fn publish(&mut self, frame: Frame, poll: &Poll);
    /// Does a bounded part of the work that is left. Whether there is more.
    fn work(&mut self, poll: &Poll) -> bool;
    /// A socket that was full has room again.
    fn writable(&mut self, id: usize, poll: &Poll);
}

/// The epoll instance.
pub(super) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    /// Waits for the peer to leave, and for room where the socket is full.
    pub(super) fn watch_subscribed(&self, id: usize, socket: &OwnedFd, is_full: bool) {
        let mut flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        if is_full {
            flags |= epoll::EventFlags::OUT;
        }
        let data = epoll::EventData::new_u64(id as u64 | SUBSCRIBED);
        // Fails only for a socket that is not there any more.
        let _ = epoll::modify(&self.epoll, socket, data, flags);
    }
}

/// A connection that has not subscribed.
struct Peer {
    socket: OwnedFd,
    input: Vec<u8>,
}

struct Server<'a, F> {
    poll: Poll,
    listener: TcpListener,
    peers: Slots<Peer>,
    frames: Frames,
    mailboxes: &'a Mailboxes,
    index: usize,
    fanout: F,
}

/// What became of a request.
enum Next {
    Keep,
    Close,
    Subscribe,
}

/// Listens, on a port that other threads may listen on too when `is_shared`.
pub(super) fn listen(address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    net::sockopt::set_socket_reuseaddr(&socket, true)?;
    if is_shared {
        net::sockopt::set_socket_reuseport(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Serves as thread `index` until the process ends.
pub(super) fn serve(
    listener: TcpListener,
    fanout: impl Fanout,
    mailboxes: &Mailboxes,
    index: usize,
) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(LISTENER);
    epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
    let data = epoll::EventData::new_u64(MAILBOX);
    epoll::add(&epoll, mailboxes.bell(index), data, epoll::EventFlags::IN)?;
    let mut server = Server {
        poll: Poll { epoll },
        listener,
        peers: Slots::default(),
        frames: Frames::new(u16::try_from(index).unwrap_or(0)),
        mailboxes,
        index,
        fanout,
    };
    let mut events = Vec::with_capacity(BATCH);
    let mut has_work = false;
    loop {
        events.clear();
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let timeout = has_work.then_some(&at_once);
        match epoll::wait(&server.poll.epoll, spare_capacity(&mut events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let data = event.data;
            server.ready(data.u64(), event.flags);
        }
        has_work = server.fanout.work(&server.poll);
    }
}

impl<F: Fanout> Server<'_, F> {
    fn ready(&mut self, data: u64, flags: epoll::EventFlags) {
        if data == LISTENER {
            return self.accept();
        }
        if data == MAILBOX {
            for frame in self.mailboxes.take(self.index) {
                self.fanout.publish(frame, &self.poll);
            }
            return;
        }
        let Ok(id) = usize::try_from(data & !SUBSCRIBED) else {
            return;
        };
        if data & SUBSCRIBED == 0 {
            return self.read(id);
        }
        if flags.contains(epoll::EventFlags::OUT) {
            self.fanout.writable(id, &self.poll);
        }
        let others = epoll::EventFlags::IN
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::HUP
            | epoll::EventFlags::ERR;
        let is_gone = self.fanout.socket(id).is_some_and(|socket| {
            let mut scrap = [0; 512];
            flags.intersects(others)
                && match net::recv(socket, &mut scrap, RecvFlags::empty()) {
                    Ok((_, length)) => length == 0,
                    Err(error) => error != Errno::AGAIN,
                }
        });
        if is_gone {
            self.fanout.remove(id);
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        for _ in 0..BATCH {
            let Ok(socket) = net::accept_with(&self.listener, flags) else {
                return;
            };
            // The same as a hub's sockets have.
            let _ = net::sockopt::set_tcp_nodelay(&socket, true);
            let input = Vec::new();
            let id = self.peers.add(Peer { socket, input });
            let data = epoll::EventData::new_u64(id as u64);
            let is_watched = self.peers.get(id).is_some_and(|peer| {
                epoll::add(&self.poll.epoll, &peer.socket, data, epoll::EventFlags::IN).is_ok()
            });
            if !is_watched {
                self.peers.remove(id);
            }
        }
    }

    fn read(&mut self, id: usize) {
        let Some(peer) = self.peers.get_mut(id) else {
            return;
        };
        let mut buffer = [0; 16 << 10];
        let next = match net::recv(&peer.socket, &mut buffer, RecvFlags::empty()) {
            Ok((_, 0)) => Next::Close,
            Ok((_, length)) => {
                peer.input.extend_from_slice(&buffer[..length]);
                self.requests(id)
            }
            Err(Errno::AGAIN | Errno::INTR) => Next::Keep,
            Err(_) => Next::Close,
        };
        if matches!(next, Next::Keep) {
            return;
        }
        let peer = self.peers.remove(id);
        if let (Next::Subscribe, Some(peer)) = (next, peer) {
            let id = self.fanout.add(peer.socket);
            if let Some(socket) = self.fanout.socket(id) {
                self.poll.watch_subscribed(id, socket, false);
            }
        }
    }

    /// Answers whole requests of a connection.
    fn requests(&mut self, id: usize) -> Next {
        loop {
            let Some(peer) = self.peers.get_mut(id) else {
                return Next::Keep;
            };
            let Some(request) = Request::parse(&peer.input) else {
                let is_over = peer.input.len() > REQUEST_BYTES_MAX;
                return if is_over { Next::Close } else { Next::Keep };
            };
            if request.is_get {
                return if send_all(&peer.socket, STREAM_HEAD) {
                    Next::Subscribe
                } else {
                    Next::Close
                };
            }
            let data = data_of_form(&peer.input[request.head..request.length]);
            peer.input.drain(..request.length);
            let (frame, id) = self.frames.next(&data);
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{id}",
                id.len()
            );
            if !send_all(&peer.socket, answer.as_bytes()) {
                return Next::Close;
            }
            self.mailboxes.post(self.index, &frame);
            self.fanout.publish(frame, &self.poll);
        }
    }
}

/// Where a request ends.
struct Request {
    is_get: bool,
    head: usize,
    length: usize,
}

impl Request {
    /// A whole request at the begin of `input`.
    fn parse(input: &[u8]) -> Option<Self> {
        let head = memchr::memmem::find(input, b"\r\n\r\n")? + 4;
        let length = input[..head]
            .split(|&byte| byte == b'\n')
            .find_map(|line| {
                let (name, value) = line.split_at_checked(15)?;
                name.eq_ignore_ascii_case(b"content-length:")
                    .then(|| std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok())?
            })
            .unwrap_or(0usize);
        let length = head.saturating_add(length);
        (input.len() >= length).then(|| Self {
            is_get: input.starts_with(b"GET "),
            head,
            length,
        })
    }
}

/// Sends to a socket that has nothing in its buffer.
fn send_all(socket: impl AsFd, bytes: &[u8]) -> bool {
    net::send(socket, bytes, SendFlags::NOSIGNAL) == Ok(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_when_its_body_is_there() {
        let text = b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
        assert!(Request::parse(&text[..text.len() - 1]).is_none());
        let request = Request::parse(text).unwrap();
        assert_eq!((request.is_get, request.length), (false, text.len()));
        assert!(Request::parse(b"GET / HTTP/1.1\r\n\r\n").unwrap().is_get);
    }
}
