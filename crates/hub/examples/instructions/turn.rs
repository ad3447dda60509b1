//! One event to a thousand subscribers: a whole hub in this process, with real sockets. Counted is
//! what the shard's thread does for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use gush_hub::Started;
use gush_hub::config::{Settings, Sources};

use super::Scenario;

const SUBSCRIBERS: usize = 1000;

const KEY: &str = "a-secret-of-at-least-thirty-two-bytes";

/// Valgrind is slow, and the machine may have other work.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) const FAN_OUT: Scenario = Scenario {
    name: "shard_event_to_1000_subscribers",
    prepare: || {
        let address = hub();
        let mut subscribers: Vec<_> = (0..SUBSCRIBERS).map(|_| subscribe(address)).collect();
        let mut publisher = Publisher::new(address);
        let mut bytes = vec![0; 64 * 1024];
        let length = {
            publisher.publish();
            // All events are of one length, so that the first one tells how much to wait for.
            let first = &mut subscribers[0];
            read_event(first)
        };
        for subscriber in &mut subscribers[1..] {
            read_event(subscriber);
        }
        Box::new(move || {
            publisher.publish();
            for subscriber in &mut subscribers {
                subscriber
                    .read_exact(&mut bytes[..length])
                    .expect("an event");
            }
        })
    },
};

/// A hub in this process until it ends.
fn hub() -> SocketAddr {
    let flag = |key, value: &str| (key, vec![value.to_owned()]);
    let sources = Sources {
        flags: vec![
            flag("listen", "127.0.0.1:0"),
            flag("log", "memory"),
            flag("publisher_key", KEY),
            flag("anonymous", "true"),
            flag("shards", "1"),
            // So that none falls into the counting.
            flag("heartbeat", "off"),
            flag("stream_log", "off"),
        ],
        ..Sources::none()
    };
    let loaded = Settings::load(&sources).expect("settings of this scenario");
    let (tell, told) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let reload = || Settings::load(&Sources::none());
        let ready = Box::new(move |started: &Started| {
            let _ = tell.send(started.public[0]);
        });
        gush_hub::serve(loaded, &reload, ready).expect("a hub that runs");
    });
    told.recv_timeout(PATIENCE).expect("a hub")
}

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let socket = TcpStream::connect(address).expect("a connection");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    BufReader::new(socket)
}

/// Reads up to and with the first line that is this one; the bytes read.
fn read_to(reader: &mut BufReader<TcpStream>, wanted: &str) -> usize {
    let mut line = String::new();
    let mut bytes = 0;
    loop {
        line.clear();
        let count = reader.read_line(&mut line).expect("bytes");
        assert_ne!(count, 0, "the hub closed before {wanted:?}");
        bytes += count;
        if line.trim_end() == wanted {
            return bytes;
        }
    }
}

fn subscribe(address: SocketAddr) -> BufReader<TcpStream> {
    let mut reader = connect(address);
    let request = "GET /.well-known/mercure?topic=a HTTP/1.1\r\nHost: h\r\n\r\n";
    let socket = reader.get_mut();
    socket.write_all(request.as_bytes()).expect("a request");
    // What every stream begins with, in a chunk of its own.
    read_to(&mut reader, "");
    read_to(&mut reader, ":");
    read_to(&mut reader, "");
    reader
}

/// Reads a whole event in its chunk; its bytes.
fn read_event(reader: &mut BufReader<TcpStream>) -> usize {
    let event = read_to(reader, "");
    event + read_to(reader, "")
}

struct Publisher {
    connection: BufReader<TcpStream>,
    request: String,
}

impl Publisher {
    fn new(address: SocketAddr) -> Self {
        let claims = serde_json::json!({ "mercure": { "publish": ["*"] } });
        let token = gush_hub::keys::sign(&claims, KEY, None).expect("a token");
        let body = format!("topic=a&data={}", "0123456789".repeat(20));
        let request = format!(
            "POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            connection: connect(address),
            request,
        }
    }

    fn publish(&mut self) {
        let socket = self.connection.get_mut();
        socket
            .write_all(self.request.as_bytes())
            .expect("a request");
        read_to(&mut self.connection, "HTTP/1.1 200 OK");
        let mut line = String::new();
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            self.connection.read_line(&mut line).expect("a header");
            let header = line.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut id = vec![0; length];
        self.connection.read_exact(&mut id).expect("an id");
    }
}
