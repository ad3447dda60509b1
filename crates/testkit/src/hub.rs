//! The hub as a child process.

use crate::{
    Claims, Connection, Deadline, Failure, Outcome, PATIENCE, Request, Response, SseStream,
    TokenKey, encode_form, eventually, exchange,
};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The hub's one path.
const HUB_PATH: &str = "/.well-known/mercure";
/// Output lines kept per stream; the oldest go first.
const LINES_KEPT: usize = 2000;
/// Handed on from the test's own environment, so that the whole suite can be run either way.
const HANDED_ON: &str = "GUSH_DESCRIPTOR_TABLES";
/// The publisher key the builder sets.
const PUBLISHER_KEY: &str =
    "testkit publisher key, long enough for every HMAC size: 0123456789abcdef";
/// The subscriber key the builder sets.
const SUBSCRIBER_KEY: &str =
    "testkit subscriber key, long enough for every HMAC size: fedcba9876543210";

/// How a hub is started. Cloning it starts the same hub again, on the same log.
#[derive(Clone, Debug)]
pub struct HubBuilder {
    program: PathBuf,
    directory: Arc<tempfile::TempDir>,
    log: String,
    publisher_key: Option<String>,
    subscriber_key: Option<String>,
    arguments: Vec<OsString>,
    environment: Vec<(String, String)>,
    default_listeners: bool,
    wrapper: Vec<OsString>,
}

impl HubBuilder {
    /// A hub of this program (tests of the cli crate pass `env!("CARGO_BIN_EXE_gush")`) with a
    /// memory log, HMAC keys of its own, two listeners on free loopback ports, and an empty
    /// temporary working directory.
    pub fn new(program: impl Into<PathBuf>) -> Outcome<Self> {
        Ok(Self {
            program: program.into(),
            directory: Arc::new(tempfile::tempdir()?),
            log: "memory".into(),
            publisher_key: Some(PUBLISHER_KEY.into()),
            subscriber_key: Some(SUBSCRIBER_KEY.into()),
            arguments: Vec::new(),
            environment: Vec::new(),
            default_listeners: true,
            wrapper: Vec::new(),
        })
    }

    /// The working directory of the process, removed when the last clone is dropped.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where [`HubBuilder::disk`] puts the log.
    pub fn log_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A disk log in the working directory.
    #[must_use]
    pub fn disk(self) -> Self {
        let path = self.log_directory();
        self.log(&format!("disk:{}", path.display()))
    }

    /// Any `--log` value.
    #[must_use]
    pub fn log(mut self, value: &str) -> Self {
        value.clone_into(&mut self.log);
        self
    }

    /// `--publisher-key`; `None`: not given.
    #[must_use]
    pub fn publisher_key(mut self, value: Option<&str>) -> Self {
        self.publisher_key = value.map(str::to_owned);
        self
    }

    /// `--subscriber-key`; `None`: not given.
    #[must_use]
    pub fn subscriber_key(mut self, value: Option<&str>) -> Self {
        self.subscriber_key = value.map(str::to_owned);
        self
    }

    /// `--anonymous`.
    #[must_use]
    pub fn anonymous(self) -> Self {
        self.flag("--anonymous")
    }

    /// `--subscriptions`.
    #[must_use]
    pub fn subscriptions(self) -> Self {
        self.flag("--subscriptions")
    }

    /// An option without a value.
    #[must_use]
    pub fn flag(mut self, name: &str) -> Self {
        self.arguments.push(name.into());
        self
    }

    /// An option with a value.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.arguments.push(name.into());
        self.arguments.push(value.into());
        self
    }

    /// An environment variable. Variables named `GUSH_*` and `MERCURE_*` of the test's own
    /// environment are not handed on, but for `GUSH_DESCRIPTOR_TABLES`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Leaves out `--listen` and `--admin-listen`.
    #[must_use]
    pub fn without_listeners(mut self) -> Self {
        self.default_listeners = false;
        self
    }

    /// Lowers the number of files the hub may have open, with the `prlimit` program; `None` where
    /// there is none.
    #[must_use]
    pub fn with_descriptors(mut self, count: u32) -> Option<Self> {
        let there = Command::new("prlimit")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        self.wrapper = vec!["prlimit".into(), format!("--nofile={count}:{count}").into()];
        there.is_ok_and(|status| status.success()).then_some(self)
    }

    fn command(&self) -> Command {
        let mut command = match self.wrapper.split_first() {
            Some((wrapper, arguments)) => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.arg("serve").current_dir(self.directory.path());
        if self.default_listeners {
            command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        }
        command.args(["--log", &self.log]);
        if let Some(key) = &self.publisher_key {
            command.args(["--publisher-key", key]);
        }
        if let Some(key) = &self.subscriber_key {
            command.args(["--subscriber-key", key]);
        }
        command.args(&self.arguments);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let is_ours = text.starts_with("GUSH_") || text.starts_with("MERCURE_");
            if is_ours && text != HANDED_ON {
                command.env_remove(&name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn spawn(&self) -> Outcome<HubProcess> {
        let mut child = self
            .command()
            .spawn()
            .map_err(|e| Failure::from(e).within(format!("starting {}", self.program.display())))?;
        let stdout = Lines::read_from(child.stdout.take());
        let stderr = Lines::read_from(child.stderr.take());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Ok(HubProcess {
            child,
            stdout,
            stderr,
            public: nowhere,
            admin: None,
            made_by: self.clone(),
            successors: Vec::new(),
        })
    }

    /// Starts the hub and waits until it says `ready`.
    pub fn start(&self) -> Outcome<HubProcess> {
        let mut hub = self.spawn()?;
        if !hub.stdout.wait_for(|line| line == "ready", PATIENCE) {
            let state = match hub.child.try_wait()? {
                Some(status) => format!("it ended with {status}"),
                None => "it still runs".to_owned(),
            };
            return Err(Failure::new(format!(
                "the hub did not say ready; {state}\n{}",
                hub.output()
            )));
        }
        for line in hub.stdout.all() {
            if let Some((address, name)) = listener(&line) {
                match name {
                    "public" => hub.public = address,
                    _ => hub.admin = Some(address),
                }
            }
        }
        if hub.public.port() == 0 {
            return Err(Failure::new(format!(
                "no public listener named\n{}",
                hub.output()
            )));
        }
        Ok(hub)
    }

    /// Starts the hub and kills it with SIGKILL after this time, whatever it is doing then.
    pub fn start_and_kill(&self, after: Duration) -> Outcome<()> {
        let mut hub = self.spawn()?;
        // Not waiting for a condition: the moment is meant to be arbitrary.
        hub.stdout.wait_for(|_| false, after);
        hub.sigkill()
    }

    /// Starts a hub that is expected to end by itself: its exit code, stdout and stderr.
    pub fn start_to_exit(&self) -> Outcome<(Option<i32>, String, String)> {
        let mut hub = self.spawn()?;
        let status = hub.wait_exit(PATIENCE)?;
        Ok((status.code(), hub.stdout.finished(), hub.stderr.finished()))
    }
}

fn send_signal(name: &str, pid: u32) -> Outcome<()> {
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

/// `listening on http://ADDRESS (NAME)`
fn listener(line: &str) -> Option<(SocketAddr, &str)> {
    let rest = line.strip_prefix("listening on ")?;
    let (url, name) = rest.split_once(" (")?;
    let address = url.split_once("://")?.1.parse().ok()?;
    Some((address, name.trim_end_matches(')')))
}

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

/// Lines a child process wrote, collected by a thread.
#[derive(Clone, Debug)]
struct Lines(Arc<(Mutex<Collected>, Condvar)>);

#[derive(Debug, Default)]
struct Collected {
    lines: VecDeque<String>,
    closed: bool,
}

impl Lines {
    fn read_from(pipe: Option<impl Read + Send + 'static>) -> Self {
        let lines = Self(Arc::default());
        let writer = lines.clone();
        let pipe = pipe.expect("the command was built with pipes");
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let mut collected = writer.lock();
                if collected.lines.len() == LINES_KEPT {
                    collected.lines.pop_front();
                }
                collected
                    .lines
                    .push_back(String::from_utf8_lossy(&line).into_owned());
                writer.0.1.notify_all();
            }
            writer.lock().closed = true;
            writer.0.1.notify_all();
        });
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    /// Waits for a line; false when it did not come in time or the process closed the pipe.
    fn wait_for(&self, fits: impl Fn(&str) -> bool, wait: Duration) -> bool {
        let deadline = Deadline::after(wait);
        let mut collected = self.lock();
        loop {
            if collected.lines.iter().any(|line| fits(line)) {
                return true;
            }
            let Some(left) = deadline.left().filter(|_| !collected.closed) else {
                return false;
            };
            let waited = self.0.1.wait_timeout(collected, left);
            collected = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All lines, once the pipe is closed.
    fn finished(&self) -> String {
        self.wait_for(|_| false, PATIENCE);
        self.all().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::listener;

    #[test]
    fn a_listener_line_names_address_and_role() {
        let (address, name) = listener("listening on https://127.0.0.1:81 (admin)").expect("fits");
        assert_eq!((address.port(), name), (81, "admin"));
        assert!(listener("ready").is_none());
    }
}
