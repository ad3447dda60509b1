//! One keep-alive connection that publishes and reads the answers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags};

use super::head::{self, Head, Parsed};

/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A connection to publish on; made again when the server closes it.
#[derive(Debug)]
pub struct Publisher {
    address: SocketAddr,
    socket: Option<TcpStream>,
    answer: Vec<u8>,
    /// Longest wait for a connection and for an answer.
    patience: Duration,
}

impl Publisher {
    /// To `address`; connects at the first request. A server that says nothing for `patience`
    /// gives no answer.
    pub fn new(address: SocketAddr, patience: Duration) -> Self {
        Self {
            address,
            socket: None,
            answer: Vec::with_capacity(4096),
            patience,
        }
    }

    /// Connects now, unless it is connected.
    pub fn connect(&mut self) -> io::Result<&mut TcpStream> {
        let socket = if let Some(socket) = self.socket.take() {
            socket
        } else {
            let socket = TcpStream::connect_timeout(&self.address, self.patience)?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(self.patience))?;
            socket.set_write_timeout(Some(self.patience))?;
            socket
        };
        Ok(self.socket.insert(socket))
    }

    /// Sends a whole request and reads the whole answer. Gives its status.
    ///
    /// # Errors
    /// What the connection said; whether the server took the request is not known then.
    pub fn request(&mut self, request: &[u8]) -> io::Result<u16> {
        self.forget_if_closed();
        let answered = self.try_request(request);
        if !matches!(answered, Ok((_, true))) {
            self.socket = None;
        }
        match answered {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let text = format!("none for {} s", self.patience.as_secs_f64());
                Err(io::Error::new(ErrorKind::TimedOut, text))
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(io::Error::new(error.kind(), "the connection was closed"))
            }
            other => other.map(|(status, _)| status),
        }
    }

    /// Lets go of a connection that the server closed while nothing was asked of it, or that has
    /// more to read than the answers.
    fn forget_if_closed(&mut self) {
        let mut byte = [0];
        let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peeked = self
            .socket
            .as_ref()
            .map(|socket| net::recv(socket, &mut byte, peek));
        if !matches!(peeked, Some(Err(Errno::AGAIN))) {
            self.socket = None;
        }
    }

    /// The status, and whether the connection can be used again.
    fn try_request(&mut self, request: &[u8]) -> io::Result<(u16, bool)> {
        self.connect()?.write_all(request)?;
        self.answer.clear();
        let head = loop {
            match head::parse(&self.answer) {
                Parsed::Head(head) => break head,
                Parsed::Partial => self.read_more()?,
                Parsed::Broken => return Err(io::ErrorKind::InvalidData.into()),
            }
        };
        let is_whole = self.read_body(&head)?;
        Ok((head.status, is_whole && !head.is_last))
    }

    /// Whether the body's end was found without the end of the connection.
    fn read_body(&mut self, head: &Head) -> io::Result<bool> {
        if head.status == 204 || head.status == 304 {
            return Ok(true);
        }
        if head.is_chunked {
            while !self.answer[head.length..].ends_with(b"0\r\n\r\n") {
                self.read_more()?;
            }
            return Ok(true);
        }
        let Some(length) = head.content_length else {
            return Ok(false);
        };
        while ((self.answer.len() - head.length) as u64) < length {
            self.read_more()?;
        }
        Ok(true)
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let socket = self.socket.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let length = socket.read(&mut buffer)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.answer.extend_from_slice(&buffer[..length]);
        if self.answer.len() > ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }
}
