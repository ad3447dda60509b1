//! Log lines on stderr.

use std::io::IsTerminal;

use gush_hub::config::{LogFormat, LogLevel, Settings};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, reload};

use crate::failure::Failure;

/// Changes the level while the hub runs.
pub(super) type SetLevel = Box<dyn Fn(LogLevel) + Send + Sync>;

/// Starts logging in the form and from the level of `settings`.
pub(super) fn start(settings: &Settings) -> Result<SetLevel, Failure> {
    let (filter_layer, handle) = reload::Layer::new(filter(settings.log_level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.log_format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines)
        .with(filter_layer)
        .try_init()
        .map_err(Failure::failed)?;
    // The only error is that the subscriber is gone, which is the end of the process.
    Ok(Box::new(move |level| drop(handle.reload(filter(level)))))
}

/// The level for our own code; libraries speak only when something is off, or they drown the rest.
fn filter(level: LogLevel) -> EnvFilter {
    let level = level.name();
    let libraries = if level == "error" { "error" } else { "warn" };
    EnvFilter::new(format!(
        "{libraries},gush={level},gush_hub={level},gush_log={level}"
    ))
}
