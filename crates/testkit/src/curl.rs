//! curl as a subscriber: TLS and HTTP/2 by somebody else's code.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::{Failure, Outcome, PATIENCE, SseItem, SseParser};

/// Most items that wait to be looked at; then curl's output waits.
const ITEMS_MAX: usize = 1000;

/// curl subscribing; killed when dropped.
#[derive(Debug)]
pub struct Curl {
    child: Child,
    items: Receiver<SseItem>,
}

impl Drop for Curl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Curl {
    /// Subscribes at `url` with further options for curl, and waits for the comment line that
    /// opens every stream: from then on nothing is lost.
    pub fn subscribe(url: &str, token: &str, options: &[&str]) -> Outcome<Self> {
        let token = format!("Authorization: Bearer {token}");
        let mut child = Command::new("curl")
            .args(["--silent", "--show-error", "--no-buffer"])
            .args(["--header", &token])
            .args(options)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Failure::from(e).within("starting curl"))?;
        let mut output = child.stdout.take().ok_or("curl was started with a pipe")?;
        let (sender, items) = sync_channel(ITEMS_MAX);
        std::thread::spawn(move || {
            let mut parser = SseParser::default();
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                let mut parsed = Vec::new();
                parser.feed(&buffer[..count], &mut parsed);
                if parsed.into_iter().any(|item| sender.send(item).is_err()) {
                    return;
                }
            }
        });
        let curl = Self { child, items };
        match curl.next_item()? {
            SseItem::Comment(_) => Ok(curl),
            other => Failure::mismatch("first item", "a comment", format!("{other:?}")),
        }
    }

    /// What curl prints next.
    pub fn next_item(&self) -> Outcome<SseItem> {
        self.items
            .recv_timeout(PATIENCE)
            .map_err(|_| Failure::new("curl printed nothing more"))
    }

    /// The next event has this data.
    pub fn expect_data(&self, data: &str) -> Outcome<()> {
        loop {
            match self.next_item()? {
                SseItem::Event(event) if event.data == data => return Ok(()),
                SseItem::Event(event) => {
                    return Failure::mismatch("data", data, format!("{event:?}"));
                }
                _ => {}
            }
        }
    }

    /// Waits until curl has ended; its exit code.
    pub fn wait(&mut self) -> Outcome<Option<i32>> {
        Ok(self.child.wait()?.code())
    }

    /// curl's process, for signals.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}
