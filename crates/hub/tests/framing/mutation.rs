//! Conversations of some requests, and what can be wrong with them.

use gush_hub::dialect::HUB_PATH;
use gush_testkit::seed;

/// A plain publish.
pub(crate) fn publish(token: &str, data: &str) -> Vec<u8> {
    let data = data
        .replace('\r', "%0D")
        .replace('\n', "%0A")
        .replace(' ', "+");
    with_body(token, &format!("topic=t&data={data}"))
}

fn with_body(token: &str, body: &str) -> Vec<u8> {
    format!(
        "{}Content-Length: {}\r\n\r\n{body}",
        head(token),
        body.len()
    )
    .into_bytes()
}

fn head(token: &str) -> String {
    format!(
        "POST {HUB_PATH} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n"
    )
}

/// A request that hyper serves, the last one perhaps.
pub(crate) fn healthz(is_last: bool) -> Vec<u8> {
    let close = if is_last { "Connection: close\r\n" } else { "" };
    format!("GET /healthz HTTP/1.1\r\nHost: h\r\n{close}\r\n").into_bytes()
}

/// The request with a bare LF at those line ends of its head whose bit is set.
pub(crate) fn bare_line_feeds(request: &[u8], mask: u32) -> Vec<u8> {
    let end = memchr::memmem::find(request, b"\r\n\r\n").expect("a head") + 4;
    let mut bytes = Vec::new();
    let mut line = 0;
    for (at, byte) in request.iter().enumerate() {
        let is_end = *byte == b'\r' && at < end;
        if is_end {
            line += 1;
        }
        if !(is_end && mask.wrapping_shr(line - 1) & 1 == 1) {
            bytes.push(*byte);
        }
    }
    bytes
}

/// Header lines that say, or seem to say, how long a body is.
const FRAMINGS: [&str; 22] = [
    "Content-Length: 7\r\n",
    "Content-Length: 0\r\n",
    "content-length:7\r\n",
    "Content-Length: +7\r\n",
    "Content-Length: 07\r\n",
    "Content-Length: 7 \t\r\n",
    "Content-Length: 7, 7\r\n",
    "Content-Length: 0x7\r\n",
    "Content-Length: -1\r\n",
    "Content-Length:\r\n",
    "Content-Length : 7\r\n",
    " Content-Length: 7\r\n",
    "Content-Length: 99999\r\n",
    "Content-Length: 18446744073709551623\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "transfer-encoding: Chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity\r\n",
    "X: y\r\n folded\r\n",
    "Connection: keep-alive\r\n",
];

/// What stands instead of a line end.
const LINE_ENDS: [&str; 6] = ["\n", "\r", "\r\r\n", "\n\r\n", "\r\n\r\n", "\r\n \r\n"];

/// Bytes that readers of heads and chunks have stumbled over.
const SPECIAL: &[u8] = b"\r\n\t \0:;,+-%&=0f\x0b\x7f\x80\xff";

#[derive(Debug)]
pub(crate) struct Mutator {
    random: fastrand::Rng,
    token: String,
    count: usize,
}

impl Mutator {
    pub(crate) fn new(token: String) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed()),
            token,
            count: 0,
        }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Some requests, one or two of them spoilt; behind them such that nothing waits for bytes.
    pub(crate) fn conversation(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..self.random.usize(1..4) {
            let mut request = self.request();
            if self.random.u8(..4) > 0 {
                for _ in 0..self.random.usize(1..3) {
                    self.spoil(&mut request);
                }
            }
            bytes.extend(request);
        }
        for at in 0..3 {
            bytes.extend(healthz(at == 2));
        }
        bytes
    }

    /// The bytes in one to three pieces.
    pub(crate) fn pieces<'b>(&mut self, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let mut cuts = vec![0, bytes.len()];
        for _ in 0..self.random.usize(..3) {
            cuts.push(self.random.usize(..=bytes.len()));
        }
        cuts.sort_unstable();
        cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect()
    }

    fn request(&mut self) -> Vec<u8> {
        self.count += 1;
        // Long enough that a body taken to be shorter or longer shows.
        let data = format!("number {} of this run", self.count);
        match self.random.u8(..10) {
            0 => healthz(false),
            1 if self.random.bool() => {
                format!("GET {HUB_PATH}?topic=x HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
            }
            2 | 3 => self.chunked(&data),
            4 => {
                // What a wrong idea of the body's length would make a request of.
                let inner = publish(&self.token, "never a request");
                let inner = String::from_utf8_lossy(&inner).into_owned();
                with_body(
                    &self.token,
                    &format!("topic=t&data={}&x={inner}", self.count),
                )
            }
            _ => publish(&self.token, &data),
        }
    }

    fn chunked(&mut self, data: &str) -> Vec<u8> {
        let body = format!("topic=t&data={}", data.replace(' ', "+"));
        let mut bytes = format!("{}Transfer-Encoding: chunked\r\n\r\n", head(&self.token));
        let (left, right) = body.split_at(self.random.usize(1..body.len()));
        let end = if self.random.u8(..4) == 0 {
            "X: y\r\n\r\n"
        } else {
            "\r\n"
        };
        for part in [left, right] {
            let size = match self.random.u8(..8) {
                0 => format!("{:X};a=b", part.len()),
                1 => format!("000{:x}", part.len()),
                2 => format!("{:x} ", part.len()),
                3 => format!("0x{:x}", part.len()),
                _ => format!("{:x}", part.len()),
            };
            let line_end = if self.random.u8(..12) == 0 {
                "\n"
            } else {
                "\r\n"
            };
            bytes.extend([size.as_str(), line_end, part, "\r\n"]);
        }
        (bytes + "0\r\n" + end).into_bytes()
    }

    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        let random = &mut self.random;
        let at = random.usize(..bytes.len());
        match random.u8(..14) {
            0 => bytes[at] = SPECIAL[random.usize(..SPECIAL.len())],
            1 => bytes.insert(at, SPECIAL[random.usize(..SPECIAL.len())]),
            2 if bytes.len() > 1 => drop(bytes.remove(at)),
            3 => bytes[at] = random.u8(..),
            4 => *bytes = bare_line_feeds_at(bytes, random.u32(..)),
            5 => {
                let ends = random.u32(..);
                *bytes = bare_line_feeds_at(bytes, ends | 0xff);
            }
            6 => replace_one(
                bytes,
                "\r\n",
                LINE_ENDS[random.usize(..LINE_ENDS.len())],
                random,
            ),
            7 | 8 => {
                let line = FRAMINGS[random.usize(..FRAMINGS.len())];
                replace_one(bytes, "\r\n", &format!("\r\n{line}"), random);
            }
            9 => replace_one(bytes, "Content-Length", "Content-Length ", random),
            10 => {
                let begin = ["\r\n", "\n", "\r\n\r\n", "\r", " "][random.usize(..5)];
                bytes.splice(0..0, begin.bytes());
            }
            11 => replace_one(bytes, " /", " http://h/", random),
            12 => replace_one(
                bytes,
                "HTTP/1.1",
                ["HTTP/1.0", "HTTP/1.2", "http/1.1"][random.usize(..3)],
                random,
            ),
            _ => replace_one(bytes, " ", ["  ", "\t", ""][random.usize(..3)], random),
        }
    }
}

fn bare_line_feeds_at(request: &[u8], mask: u32) -> Vec<u8> {
    if memchr::memmem::find(request, b"\r\n\r\n").is_some() {
        bare_line_feeds(request, mask)
    } else {
        request.to_vec()
    }
}

/// Replaces one of the places where `what` stands.
fn replace_one(bytes: &mut Vec<u8>, what: &str, with: &str, random: &mut fastrand::Rng) {
    let places: Vec<usize> = memchr::memmem::find_iter(bytes, what).collect();
    if !places.is_empty() {
        let at = places[random.usize(..places.len())];
        bytes.splice(at..at + what.len(), with.bytes());
    }
}
