//! CORS: may pages of an origin read the stream?

use http::{HeaderMap, HeaderValue, Method, header};

use super::Doctor;
use super::fixes::Trouble;
use super::report::Report;
use super::watched::{Answer, Watched};
use crate::client::headers;
use crate::failure::Failure;

/// Headers that pages send with `fetch` and the browser asks for first.
const ASKED: &str = "authorization,cache-control,last-event-id";

pub(super) async fn look(
    doctor: &Doctor,
    origin: &HeaderValue,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut asked = headers(None)?;
    asked.insert(header::ORIGIN, origin.clone());
    let get = HeaderValue::from_static("GET");
    asked.insert(header::ACCESS_CONTROL_REQUEST_METHOD, get);
    let fields = HeaderValue::from_static(ASKED);
    asked.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, fields);
    let answer = doctor.client().ask(Method::OPTIONS, &[], asked).await;
    let answer = answer.map_err(Failure::Failed)?;
    let status = answer.status();
    if !status.is_success() {
        report.finding(
            "CORS preflight",
            format!("status {}", status.as_u16()),
            Trouble::Cors,
        );
    } else if judge("CORS preflight", answer.headers(), origin, report) {
        let allowed = answer
            .headers()
            .get_all(header::ACCESS_CONTROL_ALLOW_HEADERS)
            .iter();
        let allowed: Vec<_> = allowed
            .map(|value| value.as_bytes().to_ascii_lowercase())
            .collect();
        let allowed = String::from_utf8_lossy(&allowed.join(&b","[..])).into_owned();
        if allowed.contains("authorization") || allowed.contains('*') {
            report.good("CORS preflight", format!("{} and {allowed}", shown(origin)));
        } else {
            let seen = format!("Access-Control-Allow-Headers: {allowed:?}, no authorization");
            report.finding("CORS preflight", seen, Trouble::Cors);
        }
    }
    let token = doctor.subscribers.iter().flatten().next();
    let opened = Watched::open(doctor, token.map(String::as_str), None, "identity").await?;
    if let Answer::Stream(stream) = opened
        && judge("CORS", stream.headers(), origin, report)
    {
        let with_cookies = stream
            .headers()
            .get(header::ACCESS_CONTROL_ALLOW_CREDENTIALS)
            .is_some_and(|value| value == "true");
        let how = if with_cookies {
            "with cookies"
        } else {
            "without cookies"
        };
        report.good("CORS", format!("{} may read, {how}", shown(origin)));
    }
    Ok(())
}

/// Whether the origin is allowed, once; a finding if not.
fn judge(
    name: &'static str,
    headers: &HeaderMap,
    origin: &HeaderValue,
    report: &mut Report,
) -> bool {
    let values = headers.get_all(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    let values: Vec<&HeaderValue> = values.iter().collect();
    match values.as_slice() {
        [one] if *one == origin || *one == "*" => true,
        [] | [_] => {
            let seen = format!(
                "Access-Control-Allow-Origin: {values:?}, not {}",
                shown(origin)
            );
            report.finding(name, seen, Trouble::Cors);
            false
        }
        _ => {
            let seen = format!("Access-Control-Allow-Origin {} times", values.len());
            report.finding(name, seen, Trouble::CorsTwice);
            false
        }
    }
}

fn shown(origin: &HeaderValue) -> String {
    String::from_utf8_lossy(origin.as_bytes()).into_owned()
}
