//! The hub as a child process.

// How one is started.
mod builder;

// What it writes.
mod lines;

use crate::{
    Claims, Connection, Deadline, Failure, Outcome, PATIENCE, Request, Response, SseStream,
    TokenKey, encode_form, eventually, exchange,
};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub use builder::HubBuilder;
use lines::Lines;

/// The hub's one path.
const HUB_PATH: &str = "/.well-known/mercure";
/// The publisher key the builder sets.
const PUBLISHER_KEY: &str =
    "testkit publisher key, long enough for every HMAC size: 0123456789abcdef";
/// The subscriber key the builder sets.
const SUBSCRIBER_KEY: &str =
    "testkit subscriber key, long enough for every HMAC size: fedcba9876543210";

/// A running hub; killed when dropped.
#[derive(Debug)]
pub struct HubProcess {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    public: SocketAddr,
    admin: Option<SocketAddr>,
    made_by: HubBuilder,
    /// New processes of upgrades.
    successors: Vec<u32>,
}

impl Drop for HubProcess {
    fn drop(&mut self) {
        // Errors here mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in &self.successors {
            let _ = send_signal("KILL", *pid);
        }
        if std::thread::panicking() {
            eprintln!("{}", self.output());
        }
    }
}

impl HubProcess {
    /// The builder it was made by.
    pub fn builder(&self) -> &HubBuilder {
        &self.made_by
    }

    /// Where the public listener is.
    pub fn address(&self) -> SocketAddr {
        self.public
    }

    /// Where the admin listener is.
    pub fn admin(&self) -> Outcome<SocketAddr> {
        self.admin
            .ok_or_else(|| Failure::new(format!("no admin listener\n{}", self.output())))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the process wrote, for failure texts.
    pub fn output(&self) -> String {
        let text = |lines: &Lines| lines.all().join("\n");
        format!(
            "--- stdout ---\n{}\n--- stderr ---\n{}",
            text(&self.stdout),
            text(&self.stderr)
        )
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.all().join("\n")
    }

    /// Standard output to its end, for a process that ends: what it wrote last may come here after
    /// its exit code.
    pub fn stdout_to_end(&self) -> String {
        self.stdout.finished()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.all().join("\n")
    }

    /// Waits until a line of standard error contains all of `needles` (in any case) and returns it.
    pub fn wait_stderr(&self, needles: &[&str]) -> Outcome<String> {
        let fits = |line: &str| {
            let line = line.to_lowercase();
            needles
                .iter()
                .all(|needle| line.contains(&needle.to_lowercase()))
        };
        if self.stderr.wait_for(fits, PATIENCE) {
            return Ok(self
                .stderr
                .all()
                .into_iter()
                .rfind(|line| fits(line))
                .unwrap_or_default());
        }
        Failure::mismatch(
            "standard error",
            format!("a line with {needles:?}"),
            self.output(),
        )
    }

    /// Upgrades the hub as `gush upgrade` does: the new process's id. It is killed when this is
    /// dropped, and answers at the same addresses.
    pub fn upgrade(&mut self) -> Outcome<u32> {
        let mut connection = Connection::open(self.admin()?)?;
        connection.send_request(&Request::new("POST", "/upgrade").header("Content-Length", "0"))?;
        let response = connection.read_response_within(4 * PATIENCE)?;
        let text = response.text();
        if response.status() != 200 {
            return Failure::mismatch("upgrade", "200", format!("{text}\n{}", self.output()));
        }
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        let pid = digits
            .parse()
            .map_err(|_| Failure::new(format!("no process id in {text}")))?;
        self.follow(pid);
        Ok(pid)
    }

    /// A process that took this hub's place: it is killed when this is dropped.
    pub fn follow(&mut self, pid: u32) {
        self.successors.push(pid);
    }

    /// The process that serves now.
    pub fn serving_pid(&self) -> u32 {
        self.successors.last().copied().unwrap_or(self.child.id())
    }

    /// Sends a signal by name, such as `TERM`. By the `kill` program, because sending a signal
    /// from here would need unsafe code.
    pub fn signal(&self, name: &str) -> Outcome<()> {
        send_signal(name, self.child.id()).map_err(|failure| failure.within(self.output()))
    }

    /// SIGTERM.
    pub fn sigterm(&self) -> Outcome<()> {
        self.signal("TERM")
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn sigkill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self, wait: Duration) -> Outcome<ExitStatus> {
        let deadline = Deadline::after(wait);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if deadline.left().is_none() {
                let text = format!(
                    "still running after {} ms\n{}",
                    wait.as_millis(),
                    self.output()
                );
                return Err(Failure::new(text));
            }
            crate::wait::poll_pause();
        }
    }

    /// The key that signs publisher tokens, when it is a secret the builder was given.
    pub fn publisher_key(&self) -> TokenKey {
        TokenKey::hmac(
            "HS256",
            self.made_by
                .publisher_key
                .as_deref()
                .unwrap_or(PUBLISHER_KEY),
        )
    }

    /// The key that signs subscriber tokens.
    pub fn subscriber_key(&self) -> TokenKey {
        TokenKey::hmac(
            "HS256",
            self.made_by
                .subscriber_key
                .as_deref()
                .unwrap_or(SUBSCRIBER_KEY),
        )
    }

    /// A token that may publish everything.
    pub fn publisher_token(&self) -> Outcome<String> {
        self.publisher_key().sign(&Claims::new().publish(&["*"]))
    }

    /// A token that may receive everything.
    pub fn subscriber_token(&self) -> Outcome<String> {
        self.subscriber_key().sign(&Claims::new().subscribe(&["*"]))
    }

    /// A publish request with a token for everything, to be sent by the caller.
    pub fn publish_request(&self, fields: &[(&str, &str)]) -> Outcome<Request> {
        Ok(Request::form(HUB_PATH, fields).bearer(&self.publisher_token()?))
    }

    /// Publishes on a connection of its own; the id the hub answered.
    pub fn publish(&self, fields: &[(&str, &str)]) -> Outcome<String> {
        let response = exchange(self.public, &self.publish_request(fields)?)?;
        response
            .expect_status(&[200])
            .map_err(|f| f.within("publish"))?;
        Ok(response.text())
    }

    /// Publishes on the admin listener, which speaks plain HTTP where the public one has TLS.
    pub fn publish_on_admin(&self, fields: &[(&str, &str)]) -> Outcome<String> {
        let response = exchange(self.admin()?, &self.publish_request(fields)?)?;
        response
            .expect_status(&[200])
            .map_err(|f| f.within("publish"))?;
        Ok(response.text())
    }

    /// A subscribe request with these query parameters and a token for everything.
    pub fn subscribe_request(&self, query: &[(&str, &str)]) -> Outcome<Request> {
        let target = format!("{HUB_PATH}?{}", encode_form(query));
        Ok(Request::get(&target).bearer(&self.subscriber_token()?))
    }

    /// Subscribes with a token for everything.
    pub fn subscribe(&self, query: &[(&str, &str)]) -> Outcome<SseStream> {
        SseStream::open(self.public, &self.subscribe_request(query)?)
    }

    /// Subscribes as above with a `Last-Event-ID` header.
    pub fn resume(&self, query: &[(&str, &str)], last_event_id: &str) -> Outcome<SseStream> {
        let request = self
            .subscribe_request(query)?
            .header("Last-Event-ID", last_event_id);
        SseStream::open(self.public, &request)
    }

    /// A connection to the public listener.
    pub fn connect(&self) -> Outcome<Connection> {
        Connection::open(self.public)
    }

    /// GET on the public listener.
    pub fn get(&self, target: &str) -> Outcome<Response> {
        exchange(self.public, &Request::get(target))
    }

    /// GET on the admin listener.
    pub fn get_admin(&self, target: &str) -> Outcome<Response> {
        exchange(self.admin()?, &Request::get(target))
    }

    /// One whole-numbered sample of `/metrics`, by its name with its labels as printed; `None`: not
    /// there.
    pub fn metric(&self, series: &str) -> Outcome<Option<u64>> {
        let response = self.get_admin("/metrics")?;
        response.expect_status(&[200])?;
        let text = response.text();
        let sample = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(sample.and_then(|value| value.trim().parse().ok()))
    }

    /// The sum of all samples of a metric, whatever their labels.
    pub fn metric_sum(&self, name: &str) -> Outcome<u64> {
        let response = self.get_admin("/metrics")?;
        response.expect_status(&[200])?;
        let text = response.text();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<u64>().ok())?
        });
        Ok(values.sum())
    }

    /// Waits until a sample of `/metrics` satisfies `holds`; an absent one counts as 0.
    pub fn wait_metric(&self, series: &str, holds: impl Fn(u64) -> bool) -> Outcome<u64> {
        let mut last = 0;
        eventually(series, PATIENCE, || {
            last = self.metric(series)?.unwrap_or(0);
            Ok(holds(last).then_some(last))
        })
        .map_err(|f| f.within(format!("metric (last value {last})\n{}", self.output())))
    }
}

/// Sends a signal, such as `TERM`, to whatever process has that number.
pub fn send_signal(name: &str, pid: u32) -> Outcome<()> {
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status()
        .map_err(|e| Failure::from(e).within("running kill"))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("kill -{name} {pid} failed: {status}")))
}
