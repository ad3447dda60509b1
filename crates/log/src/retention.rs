//! What the disk log lets go: whole segments, oldest first, by bytes, age and count.

use std::sync::Arc;

use crate::committer::Committer;
use crate::lock::{read, write};
use crate::segment::Segment;

impl Committer {
    /// What time brings: rolling and trimming by age.
    pub(crate) fn tick(&mut self) {
        let now_ms = self.shared.host.now_ms();
        let is_old = self.active.as_ref().is_some_and(|active| {
            active.inspect(|body| body.records > 0 && self.is_old(body.first_ms, now_ms))
        });
        if is_old {
            self.roll();
        }
        if self.active.is_none() && self.is_newest_expired(now_ms) {
            // An empty segment keeps the place, so that the last one with events can go.
            if let Err(error) = self.begin(now_ms) {
                tracing::warn!(%error, "the newest segment is kept although it is too old");
            }
        }
        self.trim(0, now_ms);
    }

    fn is_newest_expired(&self, now_ms: u64) -> bool {
        let segments = Arc::clone(&read(&self.shared.catalog).segments);
        segments
            .last()
            .is_some_and(|newest| self.is_expired(newest, now_ms))
    }

    fn is_expired(&self, segment: &Segment, now_ms: u64) -> bool {
        let newest_ms = segment.inspect(|body| body.newest_ms);
        self.config
            .retention_age
            .is_some_and(|age| u128::from(now_ms.saturating_sub(newest_ms)) > age.as_millis())
    }

    /// Removes the oldest segments that retention no longer wants, so that `reserve` more bytes
    /// fit. Never the newest one.
    pub(crate) fn trim(&mut self, reserve: u64, now_ms: u64) {
        let (segments, next) = {
            let catalog = read(&self.shared.catalog);
            (Arc::clone(&catalog.segments), catalog.next)
        };
        let disk_bytes = |segment: &Arc<Segment>| segment.disk_bytes();
        let mut bytes: u64 = segments.iter().map(disk_bytes).sum();
        let mut count = 0;
        for pair in segments.windows(2) {
            let is_over_bytes = self
                .config
                .retention_bytes
                .is_some_and(|most| bytes + reserve > most);
            let kept_events = next.since(pair[1].header.base);
            let is_over_events = self
                .config
                .retention_events
                .is_some_and(|least| kept_events >= least);
            if !(is_over_bytes || is_over_events || self.is_expired(&pair[0], now_ms)) {
                break;
            }
            bytes -= disk_bytes(&pair[0]);
            count += 1;
        }
        if count == 0 {
            return;
        }
        // An index file that is still being written would come back after its removal.
        self.join_sealer_before(segments[count].header.base);
        write(&self.shared.catalog).trim(count);
        for segment in &segments[..count] {
            self.remove(segment);
        }
        if let Err(error) = self.shared.host.sync_names() {
            tracing::warn!(%error, "trimmed segments may come back after a crash");
        }
    }

    fn remove(&self, segment: &Segment) {
        segment.set_trimmed();
        let name = segment.header.file_name();
        if let Err(error) = self.shared.host.remove(&name) {
            tracing::warn!(%error, name, "trimmed segment not removed");
        }
        // There may be none.
        let _ = self.shared.host.remove(&segment.header.index_name());
        segment.forget_if_trimmed();
    }
}
