//! The disk log as its users see it, on a real directory.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::contract::{Backend, check};

struct Disk {
    config: DiskConfig,
    dirs: Mutex<Vec<TempDir>>,
}

impl Disk {
    fn open(&self, config: DiskConfig) -> Arc<dyn Log> {
        let dir = tempfile::tempdir().expect("a directory");
        let (log, recovery) = DiskLog::open(dir.path(), config).expect("opens");
        assert!(recovery.is_new, "{recovery}");
        lock(&self.dirs).push(dir);
        Arc::new(log)
    }
}

impl Backend for Disk {
    fn fresh(&self) -> Arc<dyn Log> {
        self.open(self.config)
    }

    fn keeping_few(&self) -> Arc<dyn Log> {
        self.open(DiskConfig {
            segment_events: 100,
            retention_events: Some(500),
            ..self.config
        })
    }
}

fn contract_holds_with(config: DiskConfig) {
    check(&Disk {
        config,
        dirs: Mutex::default(),
    });
}

#[test]
fn the_contract_holds() {
    contract_holds_with(DiskConfig::default());
}

#[test]
fn the_contract_holds_over_many_small_segments() {
    contract_holds_with(DiskConfig {
        segment_events: 7,
        retention_bytes: None,
        ..DiskConfig::default()
    });
}

#[test]
fn the_contract_holds_without_syncs() {
    contract_holds_with(DiskConfig {
        sync: Sync::Off,
        ..DiskConfig::default()
    });
    let sync = Sync::Interval(Duration::from_millis(1));
    contract_holds_with(DiskConfig {
        sync,
        ..DiskConfig::default()
    });
}
