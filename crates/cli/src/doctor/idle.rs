//! The stream with nothing published: heartbeats, and who cuts it.

use std::time::Duration;

use gush_sse::Item;
use tokio::time::Instant;

use super::fixes::Trouble;
use super::report::Report;
use super::shown;
use super::watched::{End, Seen, Watched};

/// The hub's default heartbeat with room for delay: a silence of this length should have one.
const HEARTBEAT_WITHIN: Duration = Duration::from_secs(28);
/// A cut this long after the last byte, or longer, was for the silence.
const SILENT: Duration = Duration::from_secs(1);

pub(super) async fn look(idle: Duration, stream: &mut Watched, report: &mut Report) {
    let until = Instant::now() + idle;
    let mut heartbeats = 0_u32;
    let mut longest = Duration::ZERO;
    let mut last = stream.last_byte();
    let end = loop {
        match stream.next(until).await {
            Seen::Item(item) => {
                heartbeats += u32::from(matches!(item, Item::Comment(_)));
                longest = longest.max(stream.last_byte().saturating_duration_since(last));
                last = stream.last_byte();
            }
            Seen::Silence => break None,
            Seen::End(end) => break Some(end),
        }
    };
    if let Some(end) = end {
        return cut(stream, &end, report);
    }
    let silence = longest.max(last.elapsed());
    let seen = format!(
        "open for {}, longest silence {}",
        shown(stream.age()),
        shown(silence)
    );
    report.good("idle", seen);
    if heartbeats > 0 {
        report.good("heartbeat", format!("{heartbeats} in {}", shown(idle)));
    } else if idle >= HEARTBEAT_WITHIN {
        let seen = format!("none in {}", shown(idle));
        report.finding("heartbeat", seen, Trouble::NoHeartbeat);
    } else {
        let advice = "gush sends one every 25 s by default: look longer, with --idle 1m";
        report.note("heartbeat", format!("none in {}", shown(idle)), advice);
    }
}

fn cut(stream: &Watched, end: &End, report: &mut Report) {
    let silence = stream.last_byte().elapsed();
    let how = match end {
        End::Regular => "ended".to_owned(),
        End::Broken(why) => format!("broke ({why})"),
    };
    if silence >= SILENT {
        let seen = format!("the stream {how} after {} of silence", shown(silence));
        report.finding("idle", seen, Trouble::IdleCut);
    } else {
        let seen = format!("the stream {how} when it was {} old", shown(stream.age()));
        report.finding("life", seen, Trouble::LifeCut);
    }
}
