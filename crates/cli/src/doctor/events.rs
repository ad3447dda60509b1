//! Test events: each has to be here before the next is published.

use std::time::Duration;

use gush_sse::Item;
use tokio::time::Instant;

use super::fixes::Trouble;
use super::report::Report;
use super::watched::{End, Seen, Watched};
use super::{Doctor, shown};
use crate::client::{self, Offer, headers, refusal};
use crate::failure::Failure;

/// How much longer than `--every` a late event is waited for, at the end.
const PATIENCE: Duration = Duration::from_secs(3);

/// An event that comes so much later than the answer to its publish was kept on the way. Below the
/// 200 ms for which Linux holds a small packet back when a program says that more is coming.
const KEPT: Duration = Duration::from_millis(150);

/// Where each event stands: when it was sent, and how long it took.
struct Trip {
    data: String,
    sent: Instant,
    /// How long the answer to the publish took.
    answered: Duration,
    took: Option<Duration>,
}

/// Publishes the test events and watches them come; their ids.
pub(super) async fn look(
    doctor: &Doctor,
    publisher: &str,
    stream: &mut Watched,
    report: &mut Report,
) -> Result<Vec<String>, Failure> {
    let hub = doctor.site.client(Offer::Http1);
    let mut ids = vec![];
    let mut trips: Vec<Trip> = vec![];
    for number in 1..=doctor.events {
        let data = format!("gush doctor {} {number}", doctor.nonce);
        let sent = Instant::now();
        let form = [("topic", doctor.topic.as_str()), ("data", &data)];
        let answer = hub.post(&form, headers(Some(publisher))?).await;
        let response = answer.map_err(Failure::Failed)?;
        let status = response.status();
        let text = client::text(response).await.map_err(Failure::Failed)?;
        if !status.is_success() {
            let refused = refusal(status, &text);
            let refused = refused.replace("--token and --key", "--token and --publisher-key");
            return Err(Failure::Failed(format!("publishing: {refused}")));
        }
        ids.push(text);
        trips.push(Trip {
            data,
            sent,
            answered: sent.elapsed(),
            took: None,
        });
        let end = watch(stream, &mut trips, sent + doctor.every, false).await;
        if let Some(end) = end {
            cut(stream, &end, report);
            return Ok(ids);
        }
    }
    let until = Instant::now() + PATIENCE;
    if let Some(end) = watch(stream, &mut trips, until, true).await {
        cut(stream, &end, report);
        return Ok(ids);
    }
    let took: Vec<Option<Duration>> = trips.iter().map(|trip| trip.took).collect();
    match verdict(&took, doctor.every) {
        Ok(seen) => {
            report.good("events", seen);
            delay(&trips, report);
        }
        Err(seen) => report.finding("buffering", seen, Trouble::Buffering),
    }
    Ok(ids)
}

/// Reads until `until`, or only until all are here; the stream's end, if it comes.
async fn watch(
    stream: &mut Watched,
    trips: &mut [Trip],
    until: Instant,
    only_missing: bool,
) -> Option<End> {
    loop {
        if only_missing && trips.iter().all(|trip| trip.took.is_some()) {
            return None;
        }
        match stream.next(until).await {
            Seen::Item(Item::Event(event)) => {
                let trip = trips.iter_mut().find(|trip| trip.data == event.data);
                if let Some(trip) = trip {
                    trip.took.get_or_insert(trip.sent.elapsed());
                }
            }
            Seen::Item(_) => {}
            Seen::Silence => return None,
            Seen::End(end) => return Some(end),
        }
    }
}

fn cut(stream: &Watched, end: &End, report: &mut Report) {
    let how = match end {
        End::Regular => "ended".to_owned(),
        End::Broken(why) => format!("broke ({why})"),
    };
    let seen = format!(
        "the stream {how} after {} while events came",
        shown(stream.age())
    );
    report.finding("life", seen, Trouble::LifeCut);
}

/// Whether the events come later than the answers to their publishes: by the median, because one
/// slow event has many reasons.
fn delay(trips: &[Trip], report: &mut Report) {
    let took = trips
        .iter()
        .filter_map(|trip| Some((trip.took?, trip.answered)));
    let mut later: Vec<Duration> = took
        .map(|(took, answered)| took.saturating_sub(answered))
        .collect();
    later.sort_unstable();
    let median = later.get(later.len() / 2).copied().unwrap_or_default();
    if median >= KEPT {
        let seen = format!(
            "events come {} after the answers to their publishes",
            shown(median)
        );
        report.finding("delay", seen, Trouble::Delay);
    }
}

/// What the times say: fine, or not.
fn verdict(took: &[Option<Duration>], every: Duration) -> Result<String, String> {
    let all = took.len();
    let came: Vec<Duration> = took.iter().flatten().copied().collect();
    let in_time = came.iter().filter(|took| **took < every).count();
    let slowest = came.iter().max().copied().unwrap_or_default();
    if in_time == all {
        return Ok(format!(
            "{all} of {all} at once, the slowest after {}",
            shown(slowest)
        ));
    }
    if came.is_empty() {
        return Err(format!(
            "none of {all} events came while the stream was open"
        ));
    }
    if came.len() < all {
        return Err(format!(
            "{} of {all} events came while the stream was open, the slowest after {}",
            came.len(),
            shown(slowest)
        ));
    }
    Err(format!(
        "{in_time} of {all} events came before the next was published, the slowest after {}",
        shown(slowest)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_not_here_before_the_next_is_late() {
        let times = |millis: &[Option<u64>]| -> Vec<Option<Duration>> {
            let times = millis.iter();
            times.map(|time| time.map(Duration::from_millis)).collect()
        };
        let every = Duration::from_secs(1);
        let says = |millis: &[Option<u64>]| verdict(&times(millis), every);
        assert_eq!(
            says(&[Some(2), Some(9)]),
            Ok("2 of 2 at once, the slowest after 9 ms".into())
        );
        assert!(says(&[None, None]).is_err_and(|text| text.starts_with("none of 2")));
        assert!(
            says(&[Some(2000), Some(1000), Some(9)]).is_err_and(|text| text.starts_with("1 of 3"))
        );
        assert!(
            says(&[Some(5), None]).is_err_and(|text| text.contains("1 of 2 events came while"))
        );
    }
}
