//! Many events in one request, over HTTP/1.1 and HTTP/2, plain and under TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use gush_testkit::{
    Claims, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, eventually, write_certificate,
};
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

const TOPIC: &str = "https://batch.example/1";
const HUB: &str = "/.well-known/mercure";

/// How a request comes in.
#[derive(Clone, Copy, Debug)]
struct Way {
    is_tls: bool,
    is_h2: bool,
}

const WAYS: [Way; 4] = [
    way(false, false),
    way(false, true),
    way(true, false),
    way(true, true),
];

const fn way(is_tls: bool, is_h2: bool) -> Way {
    Way { is_tls, is_h2 }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Way {
    fn start(self, options: &[(&str, &str)]) -> Outcome<HubProcess> {
        let mut builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
        for (name, value) in options {
            builder = builder.option(name, value);
        }
        if self.is_tls {
            let files = write_certificate(builder.directory(), "hub.example")?;
            builder = builder
                .option("--tls-cert", &files.certificate.display().to_string())
                .option("--tls-key", &files.key.display().to_string());
        }
        builder.start()
    }

    async fn connect(self, hub: &HubProcess) -> Outcome<Box<dyn Stream>> {
        let tcp = TcpStream::connect(hub.address()).await?;
        tcp.set_nodelay(true)?;
        if !self.is_tls {
            return Ok(Box::new(tcp));
        }
        let path = hub.builder().directory().join("cert.pem");
        let text = |error: &dyn std::error::Error| Failure::new(error.to_string());
        let mut roots = rustls::RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(path).map_err(|e| text(&e))?;
        roots.add(certificate).map_err(|e| text(&e))?;
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let protocol: &[u8] = if self.is_h2 { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from("hub.example").map_err(|e| text(&e))?;
        let connector = TlsConnector::from(Arc::new(config));
        let tls = connector.connect(name, tcp).await?;
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(protocol));
        Ok(Box::new(tls))
    }
}

/// What is sent as the test says; an error resets the stream or the connection.
struct Sent(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = self.0.poll_recv(context);
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// A batch under way.
struct Batch {
    lines: Option<mpsc::Sender<io::Result<Bytes>>>,
    answers: Incoming,
    received: Vec<u8>,
}

impl Batch {
    async fn begin(hub: &HubProcess, way: Way, token: &str) -> Outcome<Self> {
        let text = |error: hyper::Error| Failure::new(format!("{way:?}: {error:?}"));
        let io = TokioIo::new(way.connect(hub).await?);
        let (lines, sent) = mpsc::channel(1);
        let scheme = if way.is_tls { "https" } else { "http" };
        let uri = if way.is_h2 {
            format!("{scheme}://hub.example{HUB}")
        } else {
            HUB.to_owned()
        };
        let mut request = Request::post(uri)
            .header("Authorization", format!("Bearer {token}"))
            .header("Content-Type", "application/x-ndjson");
        if !way.is_h2 {
            request = request.header("Host", "hub.example");
        }
        let request = request
            .body(Sent(sent))
            .map_err(|error| Failure::new(error.to_string()))?;
        let answer = if way.is_h2 {
            let connecting = http2::handshake(TokioExecutor::new(), io);
            let (mut sender, connection) = connecting.await.map_err(text)?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(text)?
        } else {
            let (mut sender, connection) = http1::handshake(io).await.map_err(text)?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(text)?
        };
        assert_eq!(answer.status(), 200);
        Ok(Self {
            lines: Some(lines),
            answers: answer.into_body(),
            received: Vec::new(),
        })
    }

    /// `false` when the hub takes no more.
    async fn send(&mut self, piece: impl Into<Bytes>) -> bool {
        match &self.lines {
            Some(lines) => lines.send(Ok(piece.into())).await.is_ok(),
            None => false,
        }
    }

    /// The next answer line; `None` after the last one.
    async fn answer(&mut self) -> Outcome<Option<String>> {
        loop {
            if let Some(at) = self.received.iter().position(|byte| *byte == b'\n') {
                let line = self.received.drain(..=at).collect();
                return Ok(Some(String::from_utf8(line).map_err(|_| "not a text")?));
            }
            let next = tokio::time::timeout(PATIENCE, self.answers.frame()).await;
            match next.map_err(|_| "no answer in time")? {
                Some(Ok(frame)) => {
                    let data = frame.data_ref().map_or(&[][..], |data| data);
                    self.received.extend_from_slice(data);
                }
                Some(Err(error)) => return Err(Failure::new(format!("{error:?}"))),
                None => return Ok(None),
            }
        }
    }

    async fn expect_id(&mut self) -> Outcome<()> {
        match self.answer().await? {
            Some(line) if line.starts_with("{\"id\":\"urn:") => Ok(()),
            other => Failure::mismatch("answer", "an id", format!("{other:?}")),
        }
    }
}

fn line(data: &str) -> String {
    format!("{{\"topic\":\"{TOPIC}\",\"data\":\"{data}\"}}\n")
}

fn published(hub: &HubProcess) -> Outcome<u64> {
    hub.metric_sum("gush_events_published_total")
}

#[tokio::test]
async fn a_line_is_answered_before_the_next_is_sent() -> Outcome<()> {
    for way in WAYS {
        let hub = way.start(&[])?;
        let mut batch = Batch::begin(&hub, way, &hub.publisher_token()?).await?;
        // Cut at a place of its own each, within the line and within the line's end.
        let whole = line("x").replace('\n', "\r\n");
        for at in 1..whole.len() {
            let (first, second) = whole.split_at(at);
            batch.send(first.to_owned()).await;
            batch.send(second.to_owned()).await;
            batch.expect_id().await?;
        }
        batch.send(&b"\nno JSON\r\n\xe9\n\r\n"[..]).await;
        for number in [whole.len() + 1, whole.len() + 2] {
            let answer = batch.answer().await?.unwrap_or_default();
            let named = format!("\"status\":400,\"line\":{number}}}\n");
            assert!(answer.ends_with(&named), "{way:?}: {answer}");
        }
        drop(batch.lines.take());
        assert_eq!(batch.answer().await?, None, "{way:?}");
        assert_eq!(published(&hub)?, whole.len() as u64 - 1);
    }
    Ok(())
}

#[tokio::test]
async fn many_lines_are_answered_while_they_are_sent() -> Outcome<()> {
    const LINES: usize = 30_000;
    for way in WAYS {
        let hub = way.start(&[])?;
        let mut batch = Batch::begin(&hub, way, &hub.publisher_token()?).await?;
        let body = Bytes::from(line(&"x".repeat(100)).repeat(LINES));
        let lines = batch.lines.take().ok_or("under way")?;
        let sending = tokio::spawn(async move {
            for at in (0..body.len()).step_by(50_021) {
                let piece = body.slice(at..body.len().min(at + 50_021));
                if lines.send(Ok(piece)).await.is_err() {
                    return;
                }
            }
        });
        for _ in 0..LINES {
            batch.expect_id().await?;
        }
        assert_eq!(batch.answer().await?, None);
        sending.await.map_err(|_| "a panic")?;
        assert_eq!(published(&hub)?, LINES as u64);
    }
    Ok(())
}

#[tokio::test]
async fn a_token_that_expires_ends_the_batch() -> Outcome<()> {
    for way in WAYS {
        let hub = way.start(&[])?;
        let claims = Claims::new().publish(&["*"]).expires_in(3);
        let token = hub.publisher_key().sign(&claims)?;
        let mut batch = Batch::begin(&hub, way, &token).await?;
        let mut count = 0;
        let refusal = loop {
            batch.send(line("x")).await;
            let answer = batch.answer().await?.unwrap_or_default();
            if !answer.starts_with("{\"id\"") {
                break answer;
            }
            count += 1;
        };
        assert!(refusal.contains("expired"), "{way:?}: {refusal:?}");
        let named = format!("\"status\":401,\"line\":{}}}\n", count + 1);
        assert!(refusal.ends_with(&named), "{way:?}: {refusal}");
        assert_eq!(batch.answer().await?, None);
        assert_eq!(published(&hub)?, count);
    }
    Ok(())
}

#[tokio::test]
async fn a_line_that_stalls_ends_the_batch() -> Outcome<()> {
    for way in WAYS {
        let hub = way.start(&[("--body-timeout", "1s")])?;
        let mut batch = Batch::begin(&hub, way, &hub.publisher_token()?).await?;
        batch.send(line("whole") + "{\"topic\"").await;
        batch.expect_id().await?;
        let expected = "{\"error\":\"the request body took too long to arrive\",\
                        \"status\":400,\"line\":2}\n";
        assert_eq!(batch.answer().await?.as_deref(), Some(expected), "{way:?}");
        assert_eq!(batch.answer().await?, None);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_batch_that_is_reset_keeps_its_whole_lines() -> Outcome<()> {
    for way in WAYS {
        let hub = way.start(&[])?;
        let mut batch = Batch::begin(&hub, way, &hub.publisher_token()?).await?;
        batch
            .send(line("0") + &line("1") + line("cut").trim_end())
            .await;
        batch.expect_id().await?;
        batch.expect_id().await?;
        // RST_STREAM in HTTP/2, the end of the connection in HTTP/1.1.
        let cut = io::Error::other("as the test says");
        if let Some(lines) = batch.lines.take() {
            let _ = lines.send(Err(cut)).await;
        }
        // No answer to the half line, and no regular end.
        let ended = batch.answer().await;
        assert!(!matches!(ended, Ok(Some(_))), "{way:?}: {ended:?}");
        drop(batch);
        eventually("no connection but that of the page", PATIENCE, || {
            Ok((hub.metric_sum("gush_connections_open")? == 1).then_some(()))
        })?;
        assert_eq!(published(&hub)?, 2, "{way:?}");
    }
    Ok(())
}
