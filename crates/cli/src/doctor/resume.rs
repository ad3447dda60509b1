//! A second connect with `Last-Event-ID`: does the hub get it?

use std::time::Duration;

use gush_sse::Item;
use tokio::time::Instant;

use super::Doctor;
use super::fixes::Trouble;
use super::report::Report;
use super::watched::{Answer, Seen, Watched};
use crate::failure::Failure;

/// Longest wait for the events behind the cursor.
const REPLAY_WAIT: Duration = Duration::from_secs(5);

/// Resumes behind the first of the published events, or behind an id that nobody has.
pub(super) async fn look(
    doctor: &Doctor,
    token: Option<&str>,
    ids: &[String],
    report: &mut Report,
) -> Result<(), Failure> {
    let cursor = match ids {
        [first, _, ..] => first.clone(),
        _ => format!("gush-doctor-{}", doctor.nonce),
    };
    let answer = Watched::open(doctor, token, Some(&cursor), "identity").await?;
    let Answer::Stream(mut stream) = answer else {
        let advice = "the second stream got no 200";
        report.note("resume", "not looked at".into(), advice);
        return Ok(());
    };
    // A hub answers a cursor with the id it starts behind, known or not.
    let is_answered = stream.headers().contains_key("last-event-id");
    let missed = ids.len().saturating_sub(1);
    let mut again = 0;
    let until = Instant::now() + REPLAY_WAIT;
    while again < missed {
        match stream.next(until).await {
            Seen::Item(Item::Event(event)) => again += usize::from(ids.contains(&event.id)),
            Seen::Item(_) => {}
            Seen::Silence | Seen::End(_) => break,
        }
    }
    if missed > 0 && again == missed {
        report.good(
            "resume",
            format!("Last-Event-ID brought {again} of {missed} events again"),
        );
    } else if is_answered {
        // The header got there; bytes that did not come are the business of another check.
        report.good("resume", "the hub answered to Last-Event-ID".into());
    } else {
        let seen = "no answer to Last-Event-ID, and no event again".to_owned();
        report.finding("resume", seen, Trouble::NoCursor);
    }
    Ok(())
}
