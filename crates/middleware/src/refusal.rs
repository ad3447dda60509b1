//! What a request gets that is not served now: softly for an event source, else with a status.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};

/// Most seconds that a `Retry-After` is longer than it has to be: each has its own number of
/// them. Ours: it counts whole seconds, so what a pacer draws within one would be the same for all.
const SPREAD_SECONDS: u64 = 2;

/// How long until another try would be admitted, if nobody else comes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait(pub Duration);

/// Why a request is not served, and when to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status where it is told by status: 429 when the peer asked too much, 503 when the server
    /// has too much to do, 401 and others as they are.
    pub status: StatusCode,
    /// One sentence for the peer: why, and what would help. Nothing secret.
    pub text: String,
    /// When a retry helps; `None`: it does not.
    pub retry: Option<Duration>,
    /// Whether an event source may get status 200 with `retry:` instead. Only for refusals that
    /// time heals: a bad token stays an error.
    pub may_be_soft: bool,
}

impl Refusal {
    /// Too many requests of this peer; it may come back after `wait`.
    #[must_use]
    pub fn too_many(text: impl Into<String>, Wait(wait): Wait) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            text: text.into(),
            retry: Some(wait),
            may_be_soft: true,
        }
    }

    /// The server cannot take it now, whoever asks.
    #[must_use]
    pub fn overloaded(text: impl Into<String>, retry: Duration) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            text: text.into(),
            retry: Some(retry),
            may_be_soft: true,
        }
    }

    /// The server cannot take it now; a retry before `retry` is over does not help.
    #[must_use]
    pub fn unavailable(text: impl Into<String>, retry: Duration) -> Self {
        Self::overloaded(text, retry)
    }

    /// The request itself is wrong; time does not heal it.
    #[must_use]
    pub fn final_with(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
            retry: None,
            may_be_soft: false,
        }
    }

    /// 400: the request itself is wrong.
    #[must_use]
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::final_with(StatusCode::BAD_REQUEST, text)
    }

    /// 401: no token that can be used.
    #[must_use]
    pub fn unauthorized(text: impl Into<String>) -> Self {
        Self::final_with(StatusCode::UNAUTHORIZED, text)
    }

    /// 403: a good token that does not open this.
    #[must_use]
    pub fn forbidden(text: impl Into<String>) -> Self {
        Self::final_with(StatusCode::FORBIDDEN, text)
    }

    /// 404: nothing of that name.
    #[must_use]
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::final_with(StatusCode::NOT_FOUND, text)
    }

    /// 415: a body in a form that is not read; another form works.
    #[must_use]
    pub fn unsupported(text: impl Into<String>) -> Self {
        Self::final_with(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    }

    /// 204: there will never be anything. The HTML standard has an event source stop at it, and
    /// unlike at an error nobody is told that something is broken.
    #[must_use]
    pub fn stop(text: impl Into<String>) -> Self {
        Self::final_with(StatusCode::NO_CONTENT, text)
    }

    /// Whether a request with these headers is answered softly, if `soft` is wanted at all.
    #[must_use]
    pub fn is_soft(&self, headers: &HeaderMap, soft: bool) -> bool {
        soft && self.may_be_soft && self.retry.is_some() && accepts_event_stream(headers)
    }

    /// The answer for a request with these headers: soft for an event source, if `soft` is wanted
    /// at all (proxies that count on status codes want it hard).
    #[must_use]
    pub fn answer(&self, headers: &HeaderMap, soft: bool) -> Response<Bytes> {
        match self.retry {
            Some(retry) if self.is_soft(headers, soft) => soft_answer(retry),
            _ => self.hard_answer(),
        }
    }

    /// Status, `Retry-After` and a problem document; a 204 has none. The delay is rounded up to
    /// whole seconds, and none to two more are drawn for each answer.
    #[must_use]
    pub fn hard_answer(&self) -> Response<Bytes> {
        if self.status == StatusCode::NO_CONTENT {
            let mut answer = Response::new(Bytes::new());
            *answer.status_mut() = self.status;
            return answer;
        }
        let problem = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Refused"),
            "status": self.status.as_u16(),
            "detail": self.text,
        });
        let mut answer = Response::new(Bytes::from(problem.to_string()));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, json);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(retry) = self.retry {
            let spread = fastrand::u64(0..=SPREAD_SECONDS);
            let seconds = whole_seconds(retry).saturating_add(spread);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}

/// Rounded up, at least one: 0 would mean at once.
fn whole_seconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_add(u64::from(duration.subsec_nanos() > 0))
        .max(1)
}

/// 200, the delay, and the end: the event source comes back by itself.
pub(crate) fn soft_answer(retry: Duration) -> Response<Bytes> {
    // 0 would make some clients come back in a loop. No blank line: it would end an event without
    // data, which some libraries hand to the application.
    let retry_ms = retry.as_millis().clamp(1, u128::from(u32::MAX));
    let mut answer = Response::new(Bytes::from(format!("retry: {retry_ms}\n")));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Whether the request names the media type of event streams, as every event source does. `*/*`
/// is not enough: that is what programs send which read statuses.
#[must_use]
pub fn accepts_event_stream(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|value| {
        value.as_bytes().split(|&byte| byte == b',').any(|range| {
            let mut parts = range.split(|&byte| byte == b';');
            let name = parts.next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn headers(accept: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))])
    }

    #[test]
    fn an_event_source_is_refused_softly() {
        let refusal = Refusal::overloaded("full", Duration::from_millis(2_345));
        for accept in [
            "text/event-stream",
            "a/b, Text/Event-Stream;q=0.5",
            "text/event-stream , */*",
        ] {
            let answer = refusal.answer(&headers(accept), true);
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()[CONTENT_TYPE], "text/event-stream");
            assert_eq!(&answer.body()[..], b"retry: 2345\n");
            assert_eq!(refusal.answer(&headers(accept), false).status(), 503);
        }
    }

    #[test]
    fn everybody_else_gets_status_delay_and_problem() {
        let refusal = Refusal::too_many("slower", Wait(Duration::from_millis(1_001)));
        for accept in ["*/*", "application/json", "text/event-stream-x"] {
            let answer = refusal.answer(&headers(accept), true);
            assert_eq!(answer.status(), 429);
            assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
            let problem: serde_json::Value = serde_json::from_slice(answer.body()).expect("json");
            assert_eq!(problem["status"], 429);
            assert_eq!(problem["detail"], "slower");
        }
    }

    #[test]
    fn a_retry_after_is_never_too_short_and_not_the_same_for_all() {
        for (retry_ms, least) in [(0, 1), (1_000, 1), (1_001, 2), (10_000, 10)] {
            let refusal = Refusal::overloaded("x", Duration::from_millis(retry_ms));
            let told = || {
                let answer = refusal.hard_answer();
                let seconds = answer.headers()[RETRY_AFTER].to_str().expect("ASCII");
                seconds.parse::<u64>().expect("a number")
            };
            let told: BTreeSet<_> = std::iter::repeat_with(told).take(200).collect();
            assert!(told.into_iter().eq(least..=least + SPREAD_SECONDS));
        }
    }

    #[test]
    fn who_has_to_stop_gets_no_content() {
        let answer = Refusal::stop("over").answer(&headers("text/event-stream"), true);
        assert_eq!(answer.status(), 204);
        assert!(answer.body().is_empty() && answer.headers().is_empty());
    }

    #[test]
    fn what_time_does_not_heal_is_never_soft() {
        let refusal = Refusal::final_with(StatusCode::UNAUTHORIZED, "no token");
        let answer = refusal.answer(&headers("text/event-stream"), true);
        assert_eq!(answer.status(), 401);
        assert!(!answer.headers().contains_key(RETRY_AFTER));
    }
}
