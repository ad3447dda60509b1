//! Opening the log that the settings name.

use std::sync::Arc;

use gush_log::{DiskConfig, DiskLog, Log, MemoryConfig, MemoryLog, OpenError, Sync};

use crate::config::{LogSpec, Settings, SyncMode};
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
        LogSpec::Disk(directory) => {
            let config = DiskConfig {
                sync: match settings.sync {
                    SyncMode::Batch => Sync::Batch,
                    SyncMode::Interval => Sync::Interval(settings.sync_interval),
                    SyncMode::Off => Sync::Off,
                },
                segment_bytes: settings.segment_bytes,
                retention_bytes: settings.retention_bytes,
                retention_age: settings.retention_age,
                retention_events: settings.retention_events,
                ..DiskConfig::default()
            };
            let (log, recovery) =
                DiskLog::open(directory, config).map_err(|error| refused(&error))?;
            let is_whole = recovery.cut.is_none() && recovery.damaged_count == 0;
            if is_whole {
                tracing::info!("{recovery}");
            } else {
                tracing::warn!("{recovery}");
            }
            Ok(Arc::new(log))
        }
    }
}

fn refused(error: &OpenError) -> ServeError {
    ServeError::setting("--log", error)
}
