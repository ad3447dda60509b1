//! A record when an event stream begins and one when it ends. Other answers pass untouched.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Closed, Opened, StreamLog};

/// Says of a request's head who it is.
pub type Describe = Arc<dyn Fn(&Parts) -> Opened + Send + Sync>;

/// Logs event streams.
#[derive(Clone)]
pub struct StreamLogLayer {
    log: Arc<StreamLog>,
    describe: Describe,
}

impl fmt::Debug for StreamLogLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamLogLayer").finish_non_exhaustive()
    }
}

impl StreamLogLayer {
    /// Records go to `log`; `describe` says what stands in them of a request.
    #[must_use]
    pub const fn new(log: Arc<StreamLog>, describe: Describe) -> Self {
        Self { log, describe }
    }
}

impl<S> Layer<S> for StreamLogLayer {
    type Service = StreamLogService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        StreamLogService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service whose event streams are logged.
#[derive(Clone, Debug)]
pub struct StreamLogService<S> {
    inner: S,
    layer: StreamLogLayer,
}

impl<S, B, R> Service<Request<B>> for StreamLogService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<LoggedBody<R>>;
    type Error = S::Error;
    type Future = LoggedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, body) = request.into_parts();
        let opened = Arc::new((self.layer.describe)(&head));
        LoggedFuture {
            future: self.inner.call(Request::from_parts(head, body)),
            opened,
            log: Arc::clone(&self.layer.log),
        }
    }
}

pin_project! {
    /// The answer to come.
    pub struct LoggedFuture<F> {
        #[pin]
        future: F,
        opened: Arc<Opened>,
        log: Arc<StreamLog>,
    }
}

impl<F, R, E> Future for LoggedFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<LoggedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = std::task::ready!(this.future.poll(context))?;
        let is_stream = answer.status().is_success()
            && answer
                .headers()
                .get(CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let record = is_stream.then(|| {
            this.log.opened(Arc::<Opened>::clone(this.opened));
            OpenRecord {
                opened: Arc::clone(this.opened),
                log: Arc::clone(this.log),
                begun: Instant::now(),
                events: 0,
                bytes: 0,
                ends_line: false,
                reason: "client_left",
            }
        });
        Poll::Ready(Ok(answer.map(|body| LoggedBody { body, record })))
    }
}

/// Counts of a stream; becomes a record when it is dropped.
struct OpenRecord {
    opened: Arc<Opened>,
    log: Arc<StreamLog>,
    begun: Instant,
    events: u64,
    bytes: u64,
    /// Whether the last byte ended a line.
    ends_line: bool,
    reason: &'static str,
}

impl OpenRecord {
    /// An empty line ends an event, also one that is split over frames.
    fn count(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        for &byte in data {
            if byte == b'\n' && self.ends_line {
                self.events += 1;
            }
            self.ends_line = byte == b'\n';
        }
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        self.log.closed(Closed {
            opened: Arc::<Opened>::clone(&self.opened),
            duration: self.begun.elapsed(),
            events: self.events,
            bytes: self.bytes,
            greatest_lag: None,
            reason: self.reason,
        });
    }
}

pin_project! {
    /// A body that is counted.
    pub struct LoggedBody<B> {
        #[pin]
        body: B,
        record: Option<OpenRecord>,
    }
}

impl<B: Body<Data = Bytes>> Body for LoggedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = std::task::ready!(this.body.poll_frame(context));
        if let Some(record) = this.record.as_mut() {
            match &frame {
                Some(Ok(frame)) => record.count(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(_)) => record.reason = "failed",
                None => record.reason = "ended",
            }
        }
        if !matches!(frame, Some(Ok(_))) {
            *this.record = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
