//! How a hub is started.

use super::lines::Lines;
use super::{HubProcess, PUBLISHER_KEY, SUBSCRIBER_KEY};
use crate::{Failure, Outcome, PATIENCE};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Handed on from the test's own environment, so that the whole suite can be run either way.
const HANDED_ON: &str = "GUSH_DESCRIPTOR_TABLES";

/// How a hub is started. Cloning it starts the same hub again, on the same log.
#[derive(Clone, Debug)]
pub struct HubBuilder {
    program: PathBuf,
    directory: Arc<tempfile::TempDir>,
    log: String,
    pub(super) publisher_key: Option<String>,
    pub(super) subscriber_key: Option<String>,
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

    /// Takes the privileges away with which a user may have more descriptors on their way between
    /// processes than its limit says; without effect where the test has none itself. To be called
    /// after [`Self::with_descriptors`].
    #[must_use]
    pub fn without_privileges(mut self) -> Self {
        let bound = "--bounding-set=-sys_admin,-sys_resource";
        let is_taken = Command::new("setpriv").args([bound, "true"]).status();
        if is_taken.is_ok_and(|status| status.success()) {
            self.wrapper.splice(0..0, ["setpriv".into(), bound.into()]);
        }
        self
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

/// `listening on http://ADDRESS (NAME)`
fn listener(line: &str) -> Option<(SocketAddr, &str)> {
    let rest = line.strip_prefix("listening on ")?;
    let (url, name) = rest.split_once(" (")?;
    let address = url.split_once("://")?.1.parse().ok()?;
    Some((address, name.trim_end_matches(')')))
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
