//! Raw HTTP/1.1 over a blocking socket: what was sent is what the caller wrote, what came is kept
//! byte for byte.

use crate::failure::clip;
use crate::{Deadline, Failure, Outcome, PATIENCE, encode_form};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// A request to be written as HTTP/1.1 bytes.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request with this method and target (path and query, already encoded).
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// A GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST of form fields, with its `Content-Type`.
    pub fn form(target: &str, fields: &[(&str, &str)]) -> Self {
        Self::new("POST", target)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(encode_form(fields))
    }

    /// Adds a header; the same name may be added again.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds `Authorization: Bearer TOKEN`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Sets the body; its `Content-Length` is added when the request is written.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Whether an answer to it has no body whatever its head says.
    fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The bytes on the wire; `Host` is added unless the request has one.
    pub fn to_bytes(&self, host: &str) -> Vec<u8> {
        let mut lines = vec![format!("{} {} HTTP/1.1", self.method, self.target)];
        if !self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            lines.push(format!("Host: {host}"));
        }
        for (name, value) in &self.headers {
            lines.push(format!("{name}: {value}"));
        }
        if let Some(body) = &self.body {
            lines.push(format!("Content-Length: {}", body.len()));
        }
        let mut bytes = (lines.join("\r\n") + "\r\n\r\n").into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// The fields in the order they came, names as written.
    pub headers: Vec<(String, String)>,
    /// The whole head as it came, for failure texts.
    pub raw: String,
}

impl Head {
    fn parse(raw: &[u8]) -> Outcome<Self> {
        let raw = String::from_utf8_lossy(raw).into_owned();
        let mut lines = raw.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| Failure::new(format!("not an HTTP/1 status line: {first:?}")))?;
        let mut headers = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| Failure::new(format!("not a header line: {line:?} in\n{raw}")))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Self {
            status,
            headers,
            raw,
        })
    }

    /// The first field of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// All fields of this name joined by `, `, as HTTP allows a reader to do.
    pub fn joined(&self, name: &str) -> Option<String> {
        let all: Vec<&str> = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// Fails with the whole head unless the status is one of `wanted`.
    pub fn expect_status(&self, wanted: &[u16]) -> Outcome<()> {
        if wanted.contains(&self.status) {
            return Ok(());
        }
        Failure::mismatch("status", format!("{wanted:?}"), self.raw.trim_end())
    }

    /// Fails with the whole head unless this field has exactly this value.
    pub fn expect_header(&self, name: &str, wanted: &str) -> Outcome<()> {
        match self.header(name) {
            Some(value) if value == wanted => Ok(()),
            other => Failure::mismatch(
                format!("header {name}"),
                format!("{wanted:?}"),
                format!("{other:?} in\n{}", self.raw.trim_end()),
            ),
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its head.
    pub head: Head,
    /// Its body with the framing taken off.
    pub body: Vec<u8>,
}

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first field of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text; bytes that are not UTF-8 become replacement characters.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The sentence for people in a problem document (RFC 9457) about this answer's status; fails
    /// unless the body is one.
    pub fn problem(&self) -> Outcome<String> {
        let kind = "application/problem+json";
        self.head.expect_header("Content-Type", kind)?;
        let problem: serde_json::Value = serde_json::from_slice(&self.body)
            .map_err(|error| Failure::new(format!("{error} in {:?}", self.text())))?;
        let has_title = problem["title"].is_string() && problem["type"] == "about:blank";
        match problem["detail"].as_str() {
            Some(detail) if has_title && problem["status"] == self.status() => Ok(detail.into()),
            _ => Failure::mismatch("problem", "title, status and detail", self.text()),
        }
    }

    /// Fails with head and body unless the status is one of `wanted`.
    pub fn expect_status(&self, wanted: &[u16]) -> Outcome<()> {
        if wanted.contains(&self.status()) {
            return Ok(());
        }
        let got = format!("{}\n{}", self.head.raw.trim_end(), self.text());
        Failure::mismatch("status", format!("{wanted:?}"), got)
    }
}

/// How the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

/// Where the reading of a body stands.
#[derive(Debug)]
pub(crate) struct BodyState {
    framing: Framing,
    done: bool,
}

impl BodyState {
    pub(crate) fn of(head: &Head, answers_head: bool) -> Self {
        let chunked = head
            .joined("transfer-encoding")
            .is_some_and(|v| v.to_lowercase().contains("chunked"));
        let length = head.header("content-length").and_then(|v| v.parse().ok());
        let framing = match (chunked, length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Close,
        };
        let bodiless = answers_head || matches!(head.status, 100..=199 | 204 | 304);
        Self {
            framing,
            done: bodiless || framing == Framing::Length(0),
        }
    }
}

/// One connection to a hub. Reads end in a failure when their deadline passes.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
    answers_head: bool,
}

impl Connection {
    /// Connects within [`PATIENCE`].
    pub fn open(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .map_err(|e| Failure::from(e).within(format!("connecting to {address}")))?;
        Self::over(stream, address)
    }

    /// Uses a socket that is already connected to `address`.
    pub fn over(stream: TcpStream, address: SocketAddr) -> Outcome<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            host: address.to_string(),
            buffer: Vec::new(),
            answers_head: false,
        })
    }

    /// The socket, for tests that treat it badly.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.stream
            .write_all(bytes)
            .map_err(|e| Failure::from(e).within("sending"))
    }

    /// Writes a request.
    pub fn send_request(&mut self, request: &Request) -> Outcome<()> {
        self.answers_head = request.is_head();
        let bytes = request.to_bytes(&self.host);
        self.send(&bytes)
    }

    /// Closes the sending half.
    pub fn finish_sending(&self) -> Outcome<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Reads the head of the next answer, skipping 1xx answers.
    pub fn read_head(&mut self, deadline: Deadline) -> Outcome<Head> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let raw: Vec<u8> = self.buffer.drain(..end + 4).collect();
                let head = Head::parse(&raw)?;
                if (100..200).contains(&head.status) {
                    continue;
                }
                return Ok(head);
            }
            if !self.fill(deadline)? {
                let got = String::from_utf8_lossy(&self.buffer).into_owned();
                return Failure::mismatch(
                    "answer head",
                    "a whole head",
                    format!("closed after {got:?}"),
                );
            }
        }
    }

    /// Reads a whole answer to the request sent last.
    pub fn read_response(&mut self) -> Outcome<Response> {
        self.read_response_within(PATIENCE)
    }

    /// The same with an own time limit for the whole of it.
    pub fn read_response_within(&mut self, wait: Duration) -> Outcome<Response> {
        let deadline = Deadline::after(wait);
        let head = self.read_head(deadline)?;
        let mut state = BodyState::of(&head, self.answers_head);
        let mut body = Vec::new();
        while let Some(piece) = self
            .read_body(&mut state, deadline)
            .map_err(|f| f.within(format!("body after\n{}", head.raw.trim_end())))?
        {
            body.extend_from_slice(&piece);
        }
        Ok(Response { head, body })
    }

    /// Sends a request and reads its answer on this connection.
    pub fn exchange(&mut self, request: &Request) -> Outcome<Response> {
        self.send_request(request)?;
        self.read_response()
    }

    /// The next piece of a body; `None` at its end.
    pub(crate) fn read_body(
        &mut self,
        state: &mut BodyState,
        deadline: Deadline,
    ) -> Outcome<Option<Vec<u8>>> {
        if state.done {
            return Ok(None);
        }
        match state.framing {
            Framing::Chunked => self.read_chunk(state, deadline),
            Framing::Length(left) => {
                if self.buffer.is_empty() && !self.fill(deadline)? {
                    return Err(Failure::new(format!(
                        "closed with {left} body bytes missing"
                    )));
                }
                let take = left.min(self.buffer.len());
                state.framing = Framing::Length(left - take);
                state.done = left == take;
                Ok(Some(self.buffer.drain(..take).collect()))
            }
            Framing::Close => {
                if self.buffer.is_empty() && !self.fill(deadline)? {
                    state.done = true;
                    return Ok(None);
                }
                Ok(Some(std::mem::take(&mut self.buffer)))
            }
        }
    }

    fn read_chunk(
        &mut self,
        state: &mut BodyState,
        deadline: Deadline,
    ) -> Outcome<Option<Vec<u8>>> {
        let line_end = self.need(deadline, "chunk size line", |b| find(b, b"\r\n"))?;
        let line = String::from_utf8_lossy(&self.buffer[..line_end]).into_owned();
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16)
            .map_err(|_| Failure::new(format!("not a chunk size: {line:?}")))?;
        let whole = line_end + 2 + size + 2;
        self.need(deadline, "whole chunk", |b| (b.len() >= whole).then_some(0))?;
        if &self.buffer[whole - 2..whole] != b"\r\n" {
            return Err(Failure::new(format!(
                "chunk of {size} bytes does not end in CR LF"
            )));
        }
        let chunk: Vec<u8> = self.buffer.drain(..whole).collect();
        if size == 0 {
            state.done = true;
            return Ok(None);
        }
        Ok(Some(chunk[line_end + 2..whole - 2].to_vec()))
    }

    fn need(
        &mut self,
        deadline: Deadline,
        what: &str,
        found: impl Fn(&[u8]) -> Option<usize>,
    ) -> Outcome<usize> {
        loop {
            if let Some(at) = found(&self.buffer) {
                return Ok(at);
            }
            if !self.fill(deadline)? {
                let got = String::from_utf8_lossy(&self.buffer).into_owned();
                return Failure::mismatch("chunked body", what, format!("closed after {got:?}"));
            }
        }
    }

    /// Reads what is there into the buffer; false when the peer closed.
    fn fill(&mut self, deadline: Deadline) -> Outcome<bool> {
        let mut piece = [0; 16 * 1024];
        loop {
            let left = deadline.left().ok_or_else(|| {
                let got = clip(&String::from_utf8_lossy(&self.buffer));
                Failure::new(format!("nothing came in time; unread so far: {got:?}"))
            })?;
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    self.buffer.extend_from_slice(&piece[..n]);
                    return Ok(true);
                }
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset) => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(Failure::from(e).within("reading")),
            }
        }
    }

    /// Everything until the peer closes, with what was read and not used yet in front.
    pub fn read_to_close(&mut self, wait: Duration) -> Outcome<Vec<u8>> {
        let deadline = Deadline::after(wait);
        while self.fill(deadline)? {}
        Ok(std::mem::take(&mut self.buffer))
    }
}

/// One request on a connection of its own (with `Connection: close`), and its answer.
pub fn exchange(address: SocketAddr, request: &Request) -> Outcome<Response> {
    let mut connection = Connection::open(address)?;
    connection.exchange(&request.clone().header("Connection", "close"))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
