//! How a refusal is told, the same at every door.
//!
//! An event source that is refused *now* gets an empty stream with a delay of its own and the end:
//! a browser's gives up for ever on an error status. Everybody else gets the status, `Retry-After`
//! and a problem document. The delays are drawn from a window that widens with the number of those
//! who were sent away, so that they come back no faster than they can be taken in.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gush_middleware::{Pacer, PacerSettings, accepts_event_stream};
use http::header::{HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use tokio::sync::Semaphore;

use crate::admit::Rejection;
use crate::answer::{self, Answer, AnswerBody};
use crate::config::{Refusals, Settings};
use crate::hub::Hub;
use crate::subscribe::STREAM_HEADERS;

/// No delay told is shorter.
const DELAY_MIN: Duration = Duration::from_secs(1);

/// How long a 204 is held back. It tells a client to stop, and some do not: those come back in a
/// loop, with a delay of their own of next to nothing.
const STOP_HELD: Duration = Duration::from_secs(3);

/// Most answers that are held back at a time; the next ones go out at once.
const STOPS_HELD_MAX: usize = 1024;

/// Who is on the way back, and who is kept waiting.
#[derive(Debug)]
pub(crate) struct Refuser {
    /// Apart, so that a flood of one kind does not send the other away for a minute.
    streams: Mutex<Pacer>,
    requests: Mutex<Pacer>,
    stops: Semaphore,
}

impl Refuser {
    pub(crate) fn new(settings: &Settings) -> Self {
        let pacer = || Mutex::new(Pacer::new(pacing(settings)));
        Self {
            streams: pacer(),
            requests: pacer(),
            stops: Semaphore::new(STOPS_HELD_MAX),
        }
    }

    /// A delay of its own for one who is sent away until `least` is over, or longer.
    fn delay(&self, is_stream: bool, least: Duration, hub: &Hub) -> Duration {
        let mut pacer = lock(if is_stream {
            &self.streams
        } else {
            &self.requests
        });
        pacer.set(pacing(&hub.policy.load().settings));
        pacer.delay_after(least, Duration::from_millis(hub.clock.now_ms()))
    }
}

fn lock(pacer: &Mutex<Pacer>) -> MutexGuard<'_, Pacer> {
    pacer.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pacing(settings: &Settings) -> PacerSettings {
    PacerSettings {
        per_second: f64::from(settings.overload.retry_rate),
        delay_min: DELAY_MIN,
        delay_max: settings.overload.retry_max,
    }
}

/// What was asked for. Only a stream can be refused softly: on a publish, 200 would be a lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A stream.
    Stream,
    /// Anything else.
    Other,
}

/// The answer to a refused request.
#[must_use]
pub fn refused(hub: &Hub, headers: &HeaderMap, rejection: &Rejection, asked: Asked) -> Answer {
    let may_be_soft =
        asked == Asked::Stream && hub.policy.load().settings.overload.refusals == Refusals::Soft;
    let is_soft = rejection.is_soft(headers, may_be_soft);
    let retry = rejection.retry.map(|least| {
        let is_event_source = asked == Asked::Stream && accepts_event_stream(headers);
        hub.refuser.delay(is_event_source, least, hub)
    });
    let paced = Rejection {
        retry,
        ..rejection.clone()
    };
    hub.metrics.refused(paced.status, is_soft);
    let mut answer = whole(paced.answer(headers, may_be_soft));
    let out = answer.headers_mut();
    if is_soft {
        // What is on the way treats it as it treats a stream.
        for (name, value) in STREAM_HEADERS {
            out.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
    }
    if paced.status == StatusCode::UNAUTHORIZED {
        out.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer::finished(hub, headers, answer)
}

/// The answer to what cannot be, whatever the hub's state.
#[must_use]
pub fn problem(status: StatusCode, text: &str) -> Answer {
    whole(Rejection::final_with(status, text).hard_answer())
}

fn whole(answer: Response<bytes::Bytes>) -> Answer {
    answer.map(AnswerBody::whole)
}

/// Keeps one who has to stop waiting for a while, if not too many wait already.
pub(crate) async fn hold_back(hub: &Hub) {
    if let Ok(_place) = hub.refuser.stops.try_acquire() {
        tokio::time::sleep(STOP_HELD).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_of_programs_does_not_send_browsers_away_for_long() {
        let refuser = Refuser::new(&Settings::default());
        let now = Duration::ZERO;
        let most = (0..100_000).map(|_| lock(&refuser.requests).delay_after(now, now));
        assert!(most.max() > Some(Duration::from_secs(50)));
        let browser = lock(&refuser.streams).delay_after(now, now);
        assert!(browser <= Duration::from_secs(2), "{browser:?}");
    }
}
