//! The record of a stream's begin and of its end: what is in them, and where they go.
//!
//! They are written by a thread of their own, behind a bounded queue (`gush-middleware`). A sink
//! that is stuck costs records, which are counted, and delays no stream.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gush_middleware::{Closed, Described, LogFormat, Opened, StreamLog};

use crate::close::CloseReason;
use crate::config::{self, Settings, StreamLogSpec};
use crate::error::ServeError;
use crate::peer::Client;
use crate::topic::Matcher;

/// Records that may wait for the sink. Ours: more than a thousand streams a second leave in any
/// pause of a healthy disk, at a few hundred bytes each.
const RECORDS_MAX: usize = 8192;

/// How long the end waits for a sink that is stuck.
const FINISH_MAX: Duration = Duration::from_secs(1);

/// Whom a stream is for: what the record of its end needs besides its selection, and what limits
/// need in the new process of an upgrade. Kept for as long as the stream lives, so it is small.
#[derive(Clone, Debug)]
pub struct StreamName {
    /// An IPv4 address as IPv6 has it.
    address: Ipv6Addr,
    extra: Option<Arc<Extra>>,
}

impl StreamName {
    /// Whom it was made of.
    pub(crate) fn client(&self) -> Client {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let extra = self.extra.as_deref();
        Client {
            address: self.address.to_canonical(),
            subject: extra.and_then(|extra| text(&extra.subject)),
            trace_id: extra.and_then(|extra| text(&extra.trace_id)),
        }
    }
}

/// What many streams do without.
#[derive(Debug)]
struct Extra {
    subject: Box<str>,
    trace_id: Box<str>,
}

impl StreamName {
    fn of(client: &Client) -> Self {
        let address = match client.address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let has_extra = client.subject.is_some() || client.trace_id.is_some();
        let extra = has_extra.then(|| {
            Arc::new(Extra {
                subject: client.subject.as_deref().unwrap_or_default().into(),
                trace_id: client.trace_id.as_deref().unwrap_or_default().into(),
            })
        });
        Self { address, extra }
    }
}

/// A stream as its records name it: the topics are those of its selection, which streams alike
/// share.
#[derive(Debug)]
struct Stream {
    name: StreamName,
    matchers: Arc<[Matcher]>,
}

impl Described for Stream {
    fn describe(&self) -> Opened {
        let extra = self.name.extra.as_deref();
        Opened {
            peer: self.name.address.to_canonical().to_string(),
            subject: extra.map_or_else(String::new, |extra| extra.subject.to_string()),
            topics: self
                .matchers
                .iter()
                .map(|matcher| matcher.text().to_owned())
                .collect(),
            trace_id: extra.map_or_else(String::new, |extra| extra.trace_id.to_string()),
        }
    }
}

/// What a stream has sent by its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    pub(crate) duration: Duration,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) greatest_lag: u64,
}

/// Takes the records of all streams. By default there is none.
#[derive(Debug, Default)]
pub(crate) struct StreamRecords(Option<Running>);

#[derive(Debug)]
struct Running {
    log: StreamLog,
    /// The file is to be opened anew.
    is_stale: Arc<AtomicBool>,
}

impl StreamRecords {
    /// As the settings have it.
    pub(crate) fn start(settings: &Settings) -> Result<Self, ServeError> {
        let is_stale = Arc::new(AtomicBool::new(false));
        let failed = |error| ServeError::new(format!("--stream-log: {error}"));
        let sink: Box<dyn Write + Send> = match &settings.stream_log {
            StreamLogSpec::Off => return Ok(Self(None)),
            StreamLogSpec::Stdout => Box::new(duplicate(io::stdout()).map_err(failed)?),
            StreamLogSpec::Stderr => Box::new(duplicate(io::stderr()).map_err(failed)?),
            StreamLogSpec::File(path) => {
                let file = LogFile::new(path, &is_stale).map_err(|error| {
                    ServeError::new(format!("--stream-log {}: {error}", path.display()))
                })?;
                Box::new(file)
            }
        };
        let format = match settings.stream_log_format {
            config::LogFormat::Json => LogFormat::Json,
            config::LogFormat::Text => LogFormat::Text,
        };
        let log = StreamLog::start(sink, format, RECORDS_MAX).map_err(failed)?;
        Ok(Self(Some(Running { log, is_stale })))
    }

    /// A stream begins; whom it is for, as its end is told and as an upgrade hands it over. That is
    /// kept also where no records are written: limits count it in the new process.
    pub(crate) fn opened(&self, client: &Client, matchers: &Arc<[Matcher]>) -> StreamName {
        let name = StreamName::of(client);
        if let Some(running) = &self.0 {
            running.log.opened(Arc::new(Stream {
                name: name.clone(),
                matchers: Arc::clone(matchers),
            }));
        }
        name
    }

    /// A stream has ended.
    pub(crate) fn closed(
        &self,
        name: StreamName,
        matchers: &Arc<[Matcher]>,
        sums: &Sums,
        reason: CloseReason,
    ) {
        let Some(running) = &self.0 else { return };
        let matchers = Arc::clone(matchers);
        running.log.closed(Closed {
            opened: Arc::new(Stream { name, matchers }),
            duration: sums.duration,
            events: sums.events,
            bytes: sums.bytes,
            greatest_lag: Some(sums.greatest_lag),
            reason: reason.name(),
        });
    }

    /// Records that were not written.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |running| running.log.dropped())
    }

    /// Begins the file anew: whoever rotates logs has moved the old one away.
    pub(crate) fn reopen(&self) {
        if let Some(running) = &self.0 {
            running.is_stale.store(true, Ordering::Relaxed);
            running.log.nudge();
        }
    }

    /// Writes what waits, unless the sink is stuck. Blocks.
    pub(crate) fn finish(&self) {
        if let Some(running) = &self.0 {
            running.log.finish(FINISH_MAX);
        }
    }
}

/// Another descriptor of the same stream, without the lock of the standard library's: whoever
/// else writes there does not wait for us.
fn duplicate(stream: impl AsFd) -> io::Result<File> {
    Ok(stream.as_fd().try_clone_to_owned()?.into())
}

/// A file that is opened anew when told to.
struct LogFile {
    path: PathBuf,
    /// `None`: not opened yet. Opening a pipe may wait for its reader, so that is left to the
    /// thread that writes.
    file: Option<File>,
    is_stale: Arc<AtomicBool>,
}

impl LogFile {
    fn new(path: &Path, is_stale: &Arc<AtomicBool>) -> io::Result<Self> {
        let is_pipe = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
        Ok(Self {
            path: path.to_owned(),
            file: if is_pipe { None } else { Some(open(path)?) },
            is_stale: Arc::clone(is_stale),
        })
    }

    fn current(&mut self) -> io::Result<&mut File> {
        if self.is_stale.swap(false, Ordering::Relaxed) {
            match open(&self.path) {
                Ok(file) => self.file = Some(file),
                // Records are not lost for it: the old file goes on.
                Err(error) => {
                    let path = self.path.display();
                    tracing::error!(%path, %error, "the stream log could not be opened anew");
                }
            }
        }
        match &mut self.file {
            Some(file) => Ok(file),
            none => Ok(none.insert(open(&self.path)?)),
        }
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.current()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.current()?.flush()
    }
}

/// Readable by the group, as logs are: it holds addresses and subjects.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o640).open(path)
}
