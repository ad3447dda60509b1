//! Running `gush` as a person would.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use gush_testkit::{Failure, Outcome, PATIENCE};

/// How long a whole run of the command may take: a measurement has a dozen seconds of its own, and
/// on a loaded machine twice that.
const RUN_PATIENCE: Duration = PATIENCE.saturating_mul(3);

/// What a finished `gush` left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A `gush` command without the test's own `GUSH_` and `MERCURE_` variables.
pub(crate) fn gush(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gush"));
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("GUSH_") || text.starts_with("MERCURE_") {
            command.env_remove(&name);
        }
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command to its end with this input.
pub(crate) fn finish(mut command: Command, input: &str) -> Outcome<Finished> {
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input has closed it: not what is tested here.
        let _ = stdin.write_all(input.as_bytes());
    }
    end_of(child)
}

/// Waits for a child's end; kills it when that takes too long.
pub(crate) fn end_of(mut child: Child) -> Outcome<Finished> {
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let texts = [collect(stdout), collect(stderr)];
    let (sender, ended) = mpsc::sync_channel(1);
    let id = child.id().to_string();
    let waiter = std::thread::spawn(move || sender.send(child.wait()));
    let Ok(status) = ended.recv_timeout(RUN_PATIENCE) else {
        Command::new("kill").args(["-9", &id]).status()?;
        return Err(Failure::new("gush did not end"));
    };
    waiter
        .join()
        .map_err(|_| Failure::new("the waiting thread panicked"))?
        .map_err(|e| Failure::new(e.to_string()))?;
    let [stdout, stderr] = texts.map(|text| text.join().unwrap_or_default());
    Ok(Finished {
        code: status?.code(),
        stdout,
        stderr,
    })
}

fn collect(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut from) = from {
            let _ = from.read_to_string(&mut text);
        }
        text
    })
}

/// The lines of a running command, one after the other, each with an end to the patience.
pub(crate) struct Lines {
    lines: mpsc::Receiver<String>,
}

impl Lines {
    pub(crate) fn of(stdout: Option<ChildStdout>) -> Outcome<Self> {
        let stdout = stdout.ok_or_else(|| Failure::new("stdout is not piped"))?;
        let (sender, lines) = mpsc::sync_channel(1024);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { lines })
    }

    pub(crate) fn next(&self) -> Outcome<String> {
        self.lines
            .recv_timeout(PATIENCE)
            .map_err(|_| Failure::new("no further line on stdout"))
    }
}

/// Whether `text` holds each of `parts`; the failure shows the text.
pub(crate) fn holds(text: &str, parts: &[&str]) -> Outcome<()> {
    for part in parts {
        if !text.contains(part) {
            return Err(Failure::new(format!("expected {part:?} in:\n{text}")));
        }
    }
    Ok(())
}

/// Top folder of the workspace.
pub(crate) fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own)
}
