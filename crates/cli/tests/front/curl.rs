//! curl as the other side over TLS.

use std::process::Command;

use gush_testkit::{Curl, Failure, HubProcess, Outcome};

use crate::proxy::Front;

/// curl subscribing over HTTP/2 through the front.
pub(crate) fn subscribe(front: &Front, hub: &HubProcess, topic: &str) -> Outcome<Curl> {
    let certificate = front.certificate().display().to_string();
    let options = [
        "--http2",
        "--cacert",
        &certificate,
        "--header",
        "Accept: text/event-stream",
    ];
    let topic = gush_testkit::encode_component(topic);
    let url = format!("{}?topic={topic}", front.url());
    Curl::subscribe(&url, &hub.subscriber_token()?, &options)
}

/// The version of HTTP and the status of `/healthz`, asked as a browser does.
pub(crate) fn version(front: &Front) -> Outcome<String> {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--http2",
            "--max-time",
            "20",
            "--output",
            "/dev/null",
        ])
        .args(["--write-out", "%{http_version} %{http_code}", "--cacert"])
        .arg(front.certificate())
        .arg(front.url().replace(crate::proxy::HUB, "/healthz"))
        .output()
        .map_err(|e| Failure::from(e).within("starting curl"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
