//! curl as the other side over TLS.

use gush_testkit::{Failure, HubProcess, Outcome, PATIENCE, SseItem, SseParser};
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::proxy::Front;

/// curl subscribing; killed when dropped.
pub(crate) struct Curl {
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
    /// Subscribes over HTTP/2 and waits for the comment line that opens every stream.
    pub(crate) fn subscribe(front: &Front, hub: &HubProcess, topic: &str) -> Outcome<Self> {
        let token = format!("Authorization: Bearer {}", hub.subscriber_token()?);
        let topic = gush_testkit::encode_component(topic);
        let mut child = Command::new("curl")
            .args(["--silent", "--show-error", "--no-buffer", "--http2"])
            .arg("--cacert")
            .arg(front.certificate())
            .args(["--header", &token, "--header", "Accept: text/event-stream"])
            .arg(format!("{}?topic={topic}", front.url()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| Failure::from(e).within("starting curl"))?;
        let mut output = child.stdout.take().ok_or("curl was started with a pipe")?;
        let (sender, items) = sync_channel(1000);
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
        match curl.next()? {
            SseItem::Comment(_) => Ok(curl),
            other => Failure::mismatch("first item", "a comment", format!("{other:?}")),
        }
    }

    fn next(&self) -> Outcome<SseItem> {
        self.items
            .recv_timeout(PATIENCE)
            .map_err(|_| Failure::new("curl printed nothing more"))
    }

    pub(crate) fn expect_data(&self, data: &str) -> Outcome<()> {
        loop {
            match self.next()? {
                SseItem::Event(event) if event.data == data => return Ok(()),
                SseItem::Event(event) => {
                    return Failure::mismatch("data", data, format!("{event:?}"));
                }
                _ => {}
            }
        }
    }
}

/// The version of HTTP and the status of `/healthz`, asked as a browser does.
pub(crate) fn version(front: &Front) -> Outcome<String> {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--http2",
            "--max-time",
            "20",
            "--output",
            "/dev/null",
        ])
        .args(["--write-out", "%{http_version} %{http_code}", "--cacert"])
        .arg(front.certificate())
        .arg(front.url().replace(crate::proxy::HUB, "/healthz"))
        .output()
        .map_err(|e| Failure::from(e).within("starting curl"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
