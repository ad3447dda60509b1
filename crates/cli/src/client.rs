//! HTTP to a hub: one connection at a time, plain or TLS.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::{Arg, ArgMatches};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::credentials::variable;
use crate::failure::Failure;

const HUB_DEFAULT: &str = "http://127.0.0.1:3000/.well-known/mercure";
const HUB_PATH: &str = "/.well-known/mercure";

/// Longest wait for a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the head of an answer; a hub under load answers a publish late, not never.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes read of an answer that is not a stream.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// `--hub` and `--ca`.
pub(crate) fn arguments() -> [Arg; 2] {
    let hub = Arg::new("hub")
        .long("hub")
        .value_name("URL")
        .help(format!(
            "The hub; without a path {HUB_PATH} is added [env: GUSH_HUB] [default: {HUB_DEFAULT}]"
        ))
        .help_heading("Hub");
    [hub, ca_argument()]
}

/// `--ca`.
pub(crate) fn ca_argument() -> Arg {
    Arg::new("ca")
        .long("ca")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Trust the certificates in this PEM file instead of the system's")
        .help_heading("Hub")
}

/// A request's body: whole, or read as it is sent.
type Sent = BoxBody<Bytes, Infallible>;

/// The versions of HTTP that are offered over TLS; without TLS it is HTTP/1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// HTTP/1.1 alone: one connection, one request.
    Http1,
    /// HTTP/2 first, as browsers do.
    Browser,
}

/// Where a hub is and how it is trusted.
pub(crate) struct Site {
    hub: String,
    tls: ClientConfig,
}

impl Site {
    /// What the argument `hub` names, else `GUSH_HUB`, else the address `gush serve` listens on by
    /// default. `flag` is how the command writes that argument, for its errors.
    pub(crate) fn find(matches: &ArgMatches, flag: &str) -> Result<Self, Failure> {
        let given = matches.get_one::<String>("hub").cloned();
        let url = given
            .or_else(|| variable("GUSH_HUB"))
            .unwrap_or_else(|| HUB_DEFAULT.into());
        let hub =
            hub_url(&url).map_err(|reason| Failure::usage(format!("{flag} {url}: {reason}")))?;
        let ca = matches.get_one::<PathBuf>("ca");
        let tls = tls_config(hub.starts_with("https:"), ca.map(PathBuf::as_path))?;
        Ok(Self { hub, tls })
    }

    /// The hub's URL.
    pub(crate) fn url(&self) -> &str {
        &self.hub
    }

    /// A client with connections of its own.
    pub(crate) fn client(&self, offer: Offer) -> HubClient {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls.clone())
            .https_or_http();
        let connector = match offer {
            Offer::Http1 => builder.enable_http1().wrap_connector(tcp),
            Offer::Browser => builder.enable_all_versions().wrap_connector(tcp),
        };
        HubClient {
            client: Client::builder(TokioExecutor::new()).build(connector),
            hub: self.hub.clone(),
        }
    }
}

/// A hub by its URL.
pub(crate) struct HubClient {
    client: Client<HttpsConnector<HttpConnector>, Sent>,
    hub: String,
}

impl HubClient {
    /// A client of the hub that [`Site::find`] finds.
    pub(crate) fn find(matches: &ArgMatches) -> Result<Self, Failure> {
        Ok(Site::find(matches, "--hub")?.client(Offer::Http1))
    }

    /// The hub's URL.
    pub(crate) fn url(&self) -> &str {
        &self.hub
    }

    /// Starts a `GET` with these query parameters.
    pub(crate) async fn get(
        &self,
        query: &[(&str, &str)],
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, String> {
        self.ask(Method::GET, query, headers).await
    }

    /// Starts a request without a body.
    pub(crate) async fn ask(
        &self,
        method: Method,
        query: &[(&str, &str)],
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, String> {
        let joint = match (query.is_empty(), self.hub.contains('?')) {
            (true, _) => "",
            (false, true) => "&",
            (false, false) => "?",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{joint}{}", self.hub, encode_form(query)))
            .body(Full::default().boxed())
            .map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        self.send(request).await
    }

    /// Posts a form.
    pub(crate) async fn post(
        &self,
        form: &[(&str, &str)],
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::post(&self.hub)
            .body(Full::from(encode_form(form)).boxed())
            .map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        let form_type = header::HeaderValue::from_static("application/x-www-form-urlencoded");
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, form_type);
        self.send(request).await
    }

    /// Posts lines of JSON, one event each; they are answered while they are sent.
    pub(crate) async fn post_lines(
        &self,
        lines: impl Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::post(&self.hub)
            .body(lines.boxed())
            .map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        let lines_type = header::HeaderValue::from_static("application/x-ndjson");
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, lines_type);
        self.send(request).await
    }

    async fn send(&self, request: Request<Sent>) -> Result<Response<Incoming>, String> {
        match tokio::time::timeout(ANSWER_TIMEOUT, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(format!("{}: {}", self.hub, causes(&error))),
            Err(_) => Err(format!(
                "{}: no answer within {} s",
                self.hub,
                ANSWER_TIMEOUT.as_secs()
            )),
        }
    }
}

/// The headers every request has; fails when the token cannot stand in one.
pub(crate) fn headers(token: Option<&str>) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    let agent = concat!("gush/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, header::HeaderValue::from_static(agent));
    if let Some(token) = token {
        let mut value = header::HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Failure::usage("--token: holds characters that no token has"))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(headers)
}

/// A short answer's text, printable and on one line; of a problem document the sentence for people.
pub(crate) async fn text(response: Response<Incoming>) -> Result<String, String> {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_problem = kind.is_some_and(|kind| kind.as_bytes().starts_with(PROBLEM_TYPE));
    let body = Limited::new(response.into_body(), TEXT_BYTES_MAX).collect();
    match tokio::time::timeout(ANSWER_TIMEOUT, body).await {
        Ok(Ok(body)) => {
            let body = body.to_bytes();
            let detail = is_problem.then(|| problem_detail(&body)).flatten();
            let text = detail.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
            Ok(text
                .trim()
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the answer does not end".into()),
    }
}

/// The media type of RFC 9457.
const PROBLEM_TYPE: &[u8] = b"application/problem+json";

/// What went wrong, of a problem document.
fn problem_detail(body: &[u8]) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_slice(body).ok()?;
    problem.get("detail")?.as_str().map(str::to_owned)
}

/// What a refusal means, with the option to change.
pub(crate) fn refusal(status: StatusCode, body: &str) -> String {
    let reason = if body.is_empty() {
        "no reason given"
    } else {
        body
    };
    let advice = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => " (see --token and --key)",
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => " (is this a hub? see --hub)",
        _ if status.is_redirection() => {
            " (redirects are not followed: give the final URL with --hub)"
        }
        _ => "",
    };
    format!("the hub refused: {} {reason}{advice}", status.as_u16())
}

/// Percent-encodes a form or query.
pub(crate) fn encode_form(fields: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in fields {
        if !out.is_empty() {
            out.push('&');
        }
        encode(name, &mut out);
        out.push('=');
        encode(value, &mut out);
    }
    out
}

fn encode(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// Checks a hub's URL and adds the path when there is none.
fn hub_url(text: &str) -> Result<String, String> {
    let uri: Uri = text.trim().parse().map_err(|_| "is not a URL".to_owned())?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return Err(format!(
            "needs scheme and host; write one such as {HUB_DEFAULT}"
        ));
    }
    let text = text.trim();
    if matches!(uri.path(), "" | "/") && uri.query().is_none() {
        return Ok(format!("{}{HUB_PATH}", text.trim_end_matches('/')));
    }
    Ok(text.to_owned())
}

/// Roots only for https: a machine without certificates can still talk to a plain hub.
fn tls_config(is_https: bool, ca: Option<&Path>) -> Result<ClientConfig, Failure> {
    use hyper_rustls::ConfigBuilderExt as _;
    let builder = ClientConfig::builder();
    if let Some(path) = ca {
        let roots = read_roots(path)
            .map_err(|reason| Failure::Failed(format!("--ca {}: {reason}", path.display())))?;
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    if !is_https {
        return Ok(builder
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth());
    }
    let builder = builder.with_native_roots().map_err(|error| {
        Failure::Failed(format!(
            "no certificates of the system ({error}); name a PEM file with --ca"
        ))
    })?;
    Ok(builder.with_no_client_auth())
}

fn read_roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("holds no certificate".into());
    }
    Ok(roots)
}

/// The error and what is behind it; hyper's own text alone says only "client error (Connect)".
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_address_gets_the_path() {
        assert_eq!(
            hub_url("http://h:1/").as_deref(),
            Ok("http://h:1/.well-known/mercure")
        );
        assert_eq!(
            hub_url("https://h").as_deref(),
            Ok("https://h/.well-known/mercure")
        );
        assert_eq!(hub_url("https://h/x?y").as_deref(), Ok("https://h/x?y"));
        assert!(hub_url("h:3000").is_err() && hub_url("ftp://h/").is_err() && hub_url("").is_err());
    }

    #[test]
    fn a_form_is_percent_encoded() {
        assert_eq!(
            encode_form(&[("topic", "a b/ü"), ("data", "1&2=\n+")]),
            "topic=a%20b%2F%C3%BC&data=1%262%3D%0A%2B"
        );
    }

    #[test]
    fn a_token_with_a_line_end_is_refused() {
        assert!(headers(Some("a\r\nb")).is_err());
        assert_eq!(
            headers(Some("a.b")).unwrap()[header::AUTHORIZATION],
            "Bearer a.b"
        );
    }

    #[test]
    fn a_refusal_names_the_option() {
        let text = refusal(StatusCode::UNAUTHORIZED, "token expired 12 s ago");
        assert!(
            text.starts_with("the hub refused: 401 token expired 12 s ago")
                && text.contains("--token")
        );
        assert!(refusal(StatusCode::NOT_FOUND, "").contains("--hub"));
    }
}
