//! One keep-alive connection that publishes and reads the answers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::head::{self, Head, Parsed};

/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A connection to publish on; made again when the server closes it.
#[derive(Debug)]
pub struct Publisher {
    address: SocketAddr,
    socket: Option<TcpStream>,
    answer: Vec<u8>,
}

impl Publisher {
    /// To `address`; connects at the first request.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            socket: None,
            answer: Vec::with_capacity(4096),
        }
    }

    /// Connects now, unless it is connected.
    pub fn connect(&mut self) -> io::Result<&mut TcpStream> {
        let socket = if let Some(socket) = self.socket.take() {
            socket
        } else {
            let socket = TcpStream::connect_timeout(&self.address, ANSWER_TIMEOUT)?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            socket.set_write_timeout(Some(ANSWER_TIMEOUT))?;
            socket
        };
        Ok(self.socket.insert(socket))
    }

    /// Sends a whole request and reads the whole answer. Gives its status.
    ///
    /// # Errors
    /// What the connection said; whether the server took the request is not known then.
    pub fn request(&mut self, request: &[u8]) -> io::Result<u16> {
        let answered = self.try_request(request);
        if !matches!(answered, Ok((_, true))) {
            self.socket = None;
        }
        answered.map(|(status, _)| status)
    }

    /// The status, and whether the connection can be used again.
    fn try_request(&mut self, request: &[u8]) -> io::Result<(u16, bool)> {
        self.connect()?.write_all(request)?;
        self.answer.clear();
        let head = loop {
            match head::parse(&self.answer) {
                Parsed::Head(head) if head.status >= 200 => break head,
                Parsed::Head(head) => drop(self.answer.drain(..head.length)),
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
