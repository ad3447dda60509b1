//! The server under load: its addresses, and the bytes of a subscribe and of a publish.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::BenchError;
use crate::options::{BenchOptions, BodyFormat};
use crate::token;

/// A URL with `{topic}` in it, taken apart.
#[derive(Clone, Debug)]
struct Place {
    address: SocketAddr,
    authority: String,
    /// Path and query as given, `{topic}` not yet replaced.
    path: String,
}

/// Where to subscribe and to publish, and how the requests look.
#[derive(Clone, Debug)]
pub struct Target {
    name: String,
    subscribe: Place,
    publish: Place,
    body: BodyFormat,
    subscribe_headers: String,
    publish_headers: String,
}

impl Target {
    /// Takes the target out of the options and resolves its names.
    ///
    /// # Errors
    /// [`BenchError::Usage`] for a URL or header that cannot be used, [`BenchError::Io`] for a
    /// name that does not resolve.
    pub fn from_options(options: &BenchOptions) -> Result<Self, BenchError> {
        let joiner = if options.url.contains('?') { '&' } else { '?' };
        let subscribe = options
            .subscribe
            .clone()
            .unwrap_or_else(|| format!("{}{joiner}topic={{topic}}", options.url));
        let publish = options.publish.as_ref().unwrap_or(&options.url);
        let mut subscribe_headers = header_lines(&options.headers)?;
        if let Some(token) = &options.subscriber_token {
            push_authorization(&mut subscribe_headers, token)?;
        }
        let mut publish_headers = header_lines(&options.publish_headers)?;
        let signed = options.publisher_key.as_deref().map(token::publisher);
        if let Some(token) = options.publisher_token.as_ref().or(signed.as_ref()) {
            push_authorization(&mut publish_headers, token)?;
        }
        Ok(Self {
            name: options.subscribe.as_ref().unwrap_or(&options.url).clone(),
            subscribe: Place::parse(&subscribe)?,
            publish: Place::parse(publish)?,
            body: options.publish_body.clone(),
            subscribe_headers,
            publish_headers,
        })
    }

    /// What to call it in a report.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where streams are opened.
    pub fn subscribe_address(&self) -> SocketAddr {
        self.subscribe.address
    }

    /// Where events are published.
    pub fn publish_address(&self) -> SocketAddr {
        self.publish.address
    }

    /// The whole request that opens a stream of `topic`, which may be a URI template.
    pub fn subscribe_request(&self, topic: &str) -> Vec<u8> {
        self.subscribe_request_with(topic, "")
    }

    /// The same with more header lines, each ended by CRLF (`Last-Event-ID: ..`).
    pub fn subscribe_request_with(&self, topic: &str, more: &str) -> Vec<u8> {
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{}{more}\r\n",
            self.subscribe.path_of(topic),
            self.subscribe.authority,
            self.subscribe_headers,
        )
        .into_bytes()
    }

    /// Appends the whole request that publishes `data` to `topic` on a connection that is kept.
    pub fn push_publish_request(&self, topic: &str, data: &str, out: &mut Vec<u8>) {
        let body = self.body_of(topic, data);
        let content_type = match self.body {
            BodyFormat::Form => "application/x-www-form-urlencoded",
            BodyFormat::Raw => "text/plain",
            BodyFormat::Json(_) => "application/json",
        };
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {}\r\n{}\r\n",
            self.publish.path_of(topic),
            self.publish.authority,
            body.len(),
            self.publish_headers,
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body.as_bytes());
    }

    /// Appends the whole request that publishes `lines`, one event as JSON on each (NDJSON).
    pub fn push_batch_request(&self, topic: &str, lines: &[u8], out: &mut Vec<u8>) {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/x-ndjson\r\n\
             Content-Length: {}\r\n{}\r\n",
            self.publish.path_of(topic),
            self.publish.authority,
            lines.len(),
            self.publish_headers,
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(lines);
    }

    fn body_of(&self, topic: &str, data: &str) -> String {
        match &self.body {
            BodyFormat::Form => format!(
                "topic={}&data={}",
                percent_encoded(topic),
                percent_encoded(data)
            ),
            BodyFormat::Raw => data.to_owned(),
            BodyFormat::Json(template) => template
                .replace("{topic}", &json_escaped(topic))
                .replace("{data}", &json_escaped(data)),
        }
    }
}

impl Place {
    fn parse(url: &str) -> Result<Self, BenchError> {
        let refuse = |why: &str| BenchError::Usage(format!("the URL {url:?} {why}"));
        let rest = url.strip_prefix("http://").ok_or_else(|| {
            refuse("does not begin with http:// (the generator speaks plain HTTP/1.1)")
        })?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = match path.chars().next() {
            None => "/".to_owned(),
            Some('?') => format!("/{path}"),
            Some(_) => path.to_owned(),
        };
        if url.contains(|c: char| c.is_ascii_control() || c == ' ' || c == '#') {
            return Err(refuse("has a space, a control character or a fragment"));
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
        let with_port = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let mut addresses: Vec<SocketAddr> = with_port
            .to_socket_addrs()
            .map_err(|error| BenchError::io(format!("resolve {authority:?}"), error))?
            .collect();
        // IPv4 first: it is what source addresses can be spread over.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let address = *addresses
            .first()
            .ok_or_else(|| refuse("has a name without an address"))?;
        Ok(Self {
            address,
            authority: authority.to_owned(),
            path,
        })
    }

    fn path_of(&self, topic: &str) -> String {
        self.path.replace("{topic}", &percent_encoded(topic))
    }
}

fn header_lines(headers: &[String]) -> Result<String, BenchError> {
    let mut lines = String::new();
    for header in headers {
        let is_usable = header.split_once(':').is_some_and(|(name, value)| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_graphic())
                && !value.contains(['\r', '\n', '\0'])
        });
        if !is_usable {
            return Err(BenchError::Usage(format!(
                "the header {header:?} is not of the form 'Name: value'"
            )));
        }
        lines.push_str(header);
        lines.push_str("\r\n");
    }
    Ok(lines)
}

fn push_authorization(lines: &mut String, token: &str) -> Result<(), BenchError> {
    lines.push_str(&header_lines(&[format!("Authorization: Bearer {token}")])?);
    Ok(())
}

/// All but RFC 3986's unreserved characters as `%XX`.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    out
}

/// The text as it stands between the quotes of a JSON string.
fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> BenchOptions {
        BenchOptions::default()
    }

    fn publish(options: &BenchOptions, topic: &str, data: &str) -> String {
        let mut out = Vec::new();
        Target::from_options(options)
            .unwrap()
            .push_publish_request(topic, data, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_hub_is_subscribed_by_topic_and_published_to_by_form() {
        let target = Target::from_options(&options()).unwrap();
        let request = String::from_utf8(target.subscribe_request("https://a/{id}")).unwrap();
        assert!(request.starts_with(
            "GET /.well-known/mercure?topic=https%3A%2F%2Fa%2F%7Bid%7D HTTP/1.1\r\n\
             Host: 127.0.0.1:3000\r\n"
        ));
        assert!(request.ends_with("\r\n\r\n"));
        let request = publish(&options(), "t/1", "a b");
        assert!(request.starts_with("POST /.well-known/mercure HTTP/1.1\r\n"));
        assert!(request.ends_with("Content-Length: 22\r\n\r\ntopic=t%2F1&data=a%20b"));
    }

    #[test]
    fn any_other_server_is_described_by_templates() {
        let options = BenchOptions {
            subscribe: Some("http://127.0.0.1:81/s/{topic}".into()),
            publish: Some("http://127.0.0.1?c={topic}".into()),
            publish_body: BodyFormat::Json(r#"{"c":"{topic}","d":"{data}"}"#.into()),
            publish_headers: vec!["X-Key: k".into()],
            publisher_token: Some("abc".into()),
            ..options()
        };
        let target = Target::from_options(&options).unwrap();
        assert_eq!(target.subscribe_address().port(), 81);
        assert_eq!(target.publish_address().port(), 80);
        let request = publish(&options, "a b", "say \"hi\"");
        assert!(request.starts_with("POST /?c=a%20b HTTP/1.1\r\nHost: 127.0.0.1\r\n"));
        assert!(request.contains("\r\nX-Key: k\r\nAuthorization: Bearer abc\r\n"));
        assert!(request.ends_with(r#"{"c":"a b","d":"say \"hi\""}"#));
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for url in ["https://a/", "ftp://a", "http://127.0.0.1:1/a b"] {
            let options = BenchOptions {
                url: url.into(),
                ..options()
            };
            assert!(Target::from_options(&options).is_err(), "{url}");
        }
        for header in ["no colon", ": x", "A: b\r\nC: d"] {
            let options = BenchOptions {
                headers: vec![header.into()],
                ..options()
            };
            assert!(Target::from_options(&options).is_err(), "{header}");
        }
    }
}
