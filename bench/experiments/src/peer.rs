//! The process that holds the other ends of the sockets: it connects when told to, reads all that
//! comes, counts it, and closes with resets when told to (no TIME-WAIT is left behind).

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Outcome;

/// Opens connections and accepts them here; the peer has the other ends. They block, as accepted.
///
/// # Errors
///
/// The peer cannot connect, or no descriptor is free.
pub fn connected(listener: &TcpListener, peer: &mut Peer, count: usize) -> Outcome<Vec<OwnedFd>> {
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        // Not more than the backlog holds.
        let part = (count - sockets.len()).min(100);
        peer.order(&format!("open {part}"))?;
        for _ in 0..part {
            sockets.push(OwnedFd::from(listener.accept()?.0));
        }
        peer.answer()?;
    }
    Ok(sockets)
}

/// A running peer.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a peer has read since it was asked last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    /// Bytes of all sockets together.
    pub bytes: u64,
    /// Successful calls of recv.
    pub calls: u64,
}

impl Peer {
    /// Starts one that connects to `address` and, when a core is given, stays on it.
    ///
    /// # Errors
    ///
    /// The program `peer` is not beside this one.
    pub fn start(address: SocketAddr, core: Option<usize>) -> Outcome<Self> {
        let program = std::env::current_exe()?.with_file_name("peer");
        let core = core.map_or_else(|| "any".to_owned(), |core| core.to_string());
        let mut child = Command::new(program)
            .args([address.to_string(), core])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("no stdin")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        Ok(Self {
            child,
            orders,
            answers,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends an order without waiting for the answer.
    ///
    /// # Errors
    ///
    /// The peer has ended.
    pub fn order(&mut self, order: &str) -> Outcome {
        writeln!(self.orders, "{order}")?;
        self.orders.flush()?;
        Ok(())
    }

    /// Waits for the answer to the last order.
    ///
    /// # Errors
    ///
    /// The peer has ended, or says what went wrong.
    pub fn answer(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.trim().strip_prefix("ok") {
            Some(rest) => Ok(rest.trim().to_owned()),
            None => Err(format!("the peer said {line:?}").into()),
        }
    }

    /// Opens that many connections; they sit in the listener's backlog until accepted.
    ///
    /// # Errors
    ///
    /// A connect failed.
    pub fn open(&mut self, count: usize) -> Outcome {
        self.order(&format!("open {count}"))?;
        self.answer().map(drop)
    }

    /// Closes all its connections with a reset.
    ///
    /// # Errors
    ///
    /// The peer has ended.
    pub fn close(&mut self) -> Outcome {
        self.order("close")?;
        self.answer().map(drop)
    }

    /// What it read since it was asked last.
    ///
    /// # Errors
    ///
    /// The peer has ended.
    pub fn read(&mut self) -> Outcome<Read> {
        self.order("read")?;
        let answer = self.answer()?;
        let mut words = answer
            .split(' ')
            .map(|word| word.parse().unwrap_or_default());
        Ok(Read {
            bytes: words.next().unwrap_or_default(),
            calls: words.next().unwrap_or_default(),
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.order("end");
        let _ = self.child.wait();
    }
}
