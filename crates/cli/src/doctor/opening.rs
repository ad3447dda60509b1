//! The answer to a subscribe: its head, its first bytes, and what its headers tell.

use std::time::Duration;

use gush_sse::Item;
use http::{HeaderMap, Method, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::fixes::Trouble;
use super::report::Report;
use super::watched::{Answer, BROWSER_ENCODINGS, Seen, Watched};
use super::way::{Proxy, Way};
use super::{Doctor, HEAD_WAIT, shown};
use crate::client;
use crate::failure::Failure;

/// Longest wait for the first line of a stream; a hub sends it with the head.
const FIRST_WAIT: Duration = Duration::from_secs(3);

/// A head, or first line, later than this was kept back, unless all answers are as slow: a hub
/// writes both at once.
const LATE: Duration = Duration::from_secs(1);

/// Opens the stream that is watched from here on; `None` when there is none to watch.
pub(super) async fn look(
    doctor: &Doctor,
    report: &mut Report,
) -> Result<Option<Box<Watched>>, Failure> {
    let Some(mut stream) = open(doctor, report).await? else {
        return Ok(None);
    };
    report.set_way(Way::seen_in(stream.headers()));
    answer(doctor, &stream, report).await;
    let kind = stream.headers().get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
        let seen = format!("Content-Type is {kind:?}");
        report.finding("type", seen, Trouble::NoStream);
        return Ok(None);
    }
    version(doctor, stream.version(), report);
    proxies(stream.headers(), report);
    caching(stream.headers(), report);
    if is_compressed(stream.headers(), report) {
        let token = stream.token().cloned();
        let plain = Watched::open(doctor, token.as_deref(), None, "identity").await?;
        stream = match plain {
            Answer::Stream(stream) => stream,
            Answer::Refused(_) | Answer::Nothing => return Ok(None),
        };
        if stream.headers().contains_key(header::CONTENT_ENCODING) {
            let advice = "it is compressed even for those who do not accept that";
            report.note("first byte", "not looked at".into(), advice);
            return Ok(None);
        }
    }
    let goes_on = first_byte(&mut stream, report).await;
    Ok(goes_on.then_some(stream))
}

/// How long the head took. Late, it is compared with that of the same request without a body.
async fn answer(doctor: &Doctor, stream: &Watched, report: &mut Report) {
    let head_after = stream.head_after();
    let seen = format!("200 after {}", shown(head_after));
    if head_after > LATE {
        let asked = Instant::now();
        let token = stream.token().map(String::as_str);
        let answered = ask_head(doctor, token).await.is_some();
        let took = asked.elapsed();
        if answered && took < head_after / 2 {
            let seen = format!("{seen}, and HEAD is answered after {}", shown(took));
            return report.finding("answer", seen, Trouble::Buffering);
        }
    }
    report.good("answer", seen);
}

/// The answer to the same request without a body, if there is one in time.
async fn ask_head(doctor: &Doctor, token: Option<&str>) -> Option<Response<Incoming>> {
    let headers = doctor.stream_headers(token, BROWSER_ENCODINGS).ok()?;
    let client = doctor.client();
    let query = [("topic", doctor.topic.as_str())];
    let asked = client.ask(Method::HEAD, &query, headers);
    tokio::time::timeout(HEAD_WAIT, asked).await.ok()?.ok()
}

/// Subscribes with each token until one is taken.
async fn open(doctor: &Doctor, report: &mut Report) -> Result<Option<Box<Watched>>, Failure> {
    let mut refused = None;
    for token in &doctor.subscribers {
        match Watched::open(doctor, token.as_deref(), None, BROWSER_ENCODINGS).await? {
            Answer::Stream(stream) => return Ok(Some(stream)),
            Answer::Nothing => {
                held_back(doctor, token.as_deref(), report).await?;
                return Ok(None);
            }
            Answer::Refused(response) => refused = Some(response),
        }
    }
    if let Some(response) = refused {
        refusal(*response, report).await?;
    }
    Ok(None)
}

/// The stream's head did not come. When the same request without a body is answered, the hub is
/// there and somebody keeps its answer.
async fn held_back(
    doctor: &Doctor,
    token: Option<&str>,
    report: &mut Report,
) -> Result<(), Failure> {
    let Some(response) = ask_head(doctor, token).await else {
        return Err(Failure::Failed(format!(
            "{}: no answer within {} (is this a hub?)",
            doctor.site.url(),
            shown(HEAD_WAIT)
        )));
    };
    report.set_way(Way::seen_in(response.headers()));
    let seen = format!(
        "HEAD is answered with {}, but of a stream not even the head comes within {}",
        response.status().as_u16(),
        shown(HEAD_WAIT)
    );
    report.finding("buffering", seen, Trouble::Buffering);
    Ok(())
}

/// An answer with another status: trouble on the way, or the end of the examination.
async fn refusal(response: Response<Incoming>, report: &mut Report) -> Result<(), Failure> {
    let status = response.status();
    let is_full = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    let is_away = [StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT];
    if !is_full.contains(&status) && !is_away.contains(&status) {
        let body = client::text(response).await.unwrap_or_default();
        let refused = client::refusal(status, &body);
        let refused = refused.replace("--token and --key", "--token and --subscriber-key");
        let refused = refused.replace("see --hub", "see URL");
        return Err(Failure::Failed(refused.replace("with --hub", "as URL")));
    }
    report.set_way(Way::seen_in(response.headers()));
    let wait = response.headers().get(header::RETRY_AFTER);
    let wait = wait.map_or("without Retry-After".to_owned(), |wait| {
        format!(
            "with Retry-After {}",
            String::from_utf8_lossy(wait.as_bytes())
        )
    });
    report.finding(
        "answer",
        format!("{} {wait}", status.as_u16()),
        Trouble::Refusal,
    );
    Ok(())
}

fn version(doctor: &Doctor, version: Version, report: &mut Report) {
    let seen = format!("{version:?}");
    if version >= Version::HTTP_2 {
        report.good("version", seen);
    } else if doctor.is_tls() {
        report.finding("version", seen, Trouble::OldHttp);
    } else {
        report.note(
            "version",
            format!("{seen} without TLS"),
            "browsers open six such connections to a host, and each stream takes one; over TLS \
             they can speak HTTP/2",
        );
    }
}

fn proxies(headers: &HeaderMap, report: &mut Report) {
    let evidence = report.way().evidence().join(", ");
    if evidence.is_empty() {
        report.good("proxies", "none that names itself".into());
    } else {
        report.good("proxies", evidence);
    }
    let is_there = headers.contains_key("x-accel-buffering");
    if !is_there && !report.way().holds(Proxy::Nginx) {
        report.note(
            "X-Accel-Buffering",
            "absent".into(),
            "gush sends it and nginx takes it off: an nginx further out would not know that it \
             may not buffer",
        );
    }
}

fn caching(headers: &HeaderMap, report: &mut Report) {
    let text = |name: &str| {
        let value = headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let is_hit = |name: &&str| text(name).is_some_and(|value| value.to_uppercase().contains("HIT"));
    let hit = ["x-cache", "cf-cache-status", "x-proxy-cache"]
        .iter()
        .find(|name| is_hit(name));
    if let Some(name) = hit {
        report.finding("cache", format!("{name} says HIT"), Trouble::Caching);
    } else if let Some(age) = text("age").filter(|age| age != "0") {
        report.finding("cache", format!("Age: {age}"), Trouble::Caching);
    }
}

fn is_compressed(headers: &HeaderMap, report: &mut Report) -> bool {
    let encoding = headers.get(header::CONTENT_ENCODING);
    let Some(encoding) = encoding.filter(|value| value.as_bytes() != b"identity") else {
        report.good("compression", "none".into());
        return false;
    };
    let text = String::from_utf8_lossy(encoding.as_bytes());
    report.finding(
        "compression",
        format!("Content-Encoding: {text}"),
        Trouble::Compression,
    );
    true
}

/// Waits for the stream's first lines; whether it goes on after them.
async fn first_byte(stream: &mut Watched, report: &mut Report) -> bool {
    let until = Instant::now() + FIRST_WAIT;
    let mut retry = None;
    loop {
        match stream.next(until).await {
            Seen::Item(Item::Comment(_) | Item::Event(_)) => {
                let after = stream.age();
                let behind = after.saturating_sub(stream.head_after());
                if behind > LATE {
                    let seen = format!("{} behind the head", shown(behind));
                    report.finding("first byte", seen, Trouble::Buffering);
                } else {
                    report.good("first byte", format!("after {}", shown(after)));
                }
                return true;
            }
            Seen::Item(Item::Retry(millis)) => retry = Some(Duration::from_millis(millis)),
            Seen::Silence => {
                let seen = format!("none within {} of the head", shown(FIRST_WAIT));
                report.finding("first byte", seen, Trouble::Buffering);
                return true;
            }
            Seen::End(_) => {
                let wait = retry.map_or("no time to come back".into(), |retry| {
                    format!("`retry` of {}", shown(retry))
                });
                let seen = format!("the stream ended at once, with {wait}");
                report.finding("first byte", seen, Trouble::SoftRefusal);
                return false;
            }
        }
    }
}
