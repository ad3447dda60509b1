//! Panics of handlers and of running bodies: a handler that panics answers 500 (softly to an event
//! source, which would give up at that), a body that panics ends its stream as broken, so that no
//! client takes it for a good end. Others go on.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::BoxError;
use crate::refusal::soft_answer;
use crate::{PanicGuard, Panicked, Refusal, accepts_event_stream};

/// Shortest delay that a peer is told whose handler panicked; the longest is twice that. What
/// panicked may do so for many at a time, who must not come back at the same moment.
const DELAY_MIN: Duration = Duration::from_secs(1);

/// Puts a [`PanicGuard`] around a service.
#[derive(Clone, Debug)]
pub struct PanicGuardLayer {
    guard: Arc<PanicGuard>,
    is_soft: bool,
}

impl PanicGuardLayer {
    /// Panics are counted by `guard`. An event source whose handler panics is refused softly (see
    /// [`Refusal::answer`]).
    #[must_use]
    pub const fn new(guard: Arc<PanicGuard>) -> Self {
        Self {
            guard,
            is_soft: true,
        }
    }

    /// Answers 500 to event sources too, for a proxy in front that counts on statuses.
    #[must_use]
    pub fn hard(mut self) -> Self {
        self.is_soft = false;
        self
    }
}

impl<S> Layer<S> for PanicGuardLayer {
    type Service = PanicGuardService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PanicGuardService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service within a [`PanicGuardLayer`].
#[derive(Clone, Debug)]
pub struct PanicGuardService<S> {
    inner: S,
    layer: PanicGuardLayer,
}

impl<S, B, R> Service<Request<B>> for PanicGuardService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<GuardedBody<R>>;
    type Error = S::Error;
    type Future = GuardedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let PanicGuardLayer { guard, is_soft } = &self.layer;
        let is_soft = *is_soft && accepts_event_stream(request.headers());
        let inner = &mut self.inner;
        let future = guard.run("a service", || inner.call(request));
        GuardedFuture {
            future: future.ok(),
            guard: Arc::clone(guard),
            is_soft,
        }
    }
}

pin_project! {
    /// An answer, or a refusal when it panics.
    pub struct GuardedFuture<F> {
        // `None`: it has panicked.
        #[pin]
        future: Option<F>,
        guard: Arc<PanicGuard>,
        is_soft: bool,
    }
}

/// What a peer gets whose handler panicked.
fn refuse(is_soft: bool) -> Response<Bytes> {
    let mut refusal = Refusal::final_with(StatusCode::INTERNAL_SERVER_ERROR, Panicked.to_string());
    let retry = DELAY_MIN + DELAY_MIN.mul_f64(fastrand::f64());
    refusal.retry = Some(retry);
    if is_soft {
        soft_answer(retry)
    } else {
        refusal.hard_answer()
    }
}

impl<F, R, E> Future for GuardedFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<GuardedBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let guard = this.guard;
        let outcome = match this.future.as_pin_mut() {
            Some(future) => guard.run("a handler", || future.poll(context)),
            None => Err(Panicked),
        };
        match outcome {
            Ok(answer) => answer.map_ok(|answer| {
                answer.map(|body| GuardedBody {
                    content: Content::Running {
                        body,
                        guard: Arc::clone(guard),
                    },
                })
            }),
            Err(Panicked) => Poll::Ready(Ok(refuse(*this.is_soft).map(|text| GuardedBody {
                content: Content::Text { text: Some(text) },
            }))),
        }
    }
}

pin_project! {
    /// A body whose panics end it as broken.
    pub struct GuardedBody<B> {
        #[pin]
        content: Content<B>,
    }
}

pin_project! {
    #[project = ContentProject]
    enum Content<B> {
        /// Of the service.
        Running {
            #[pin]
            body: B,
            guard: Arc<PanicGuard>,
        },
        /// What is told instead of an answer.
        Text {
            text: Option<Bytes>,
        },
    }
}

impl<B> Body for GuardedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().content.project() {
            ContentProject::Running { body, guard } => {
                match guard.run("a running body", || body.poll_frame(context)) {
                    Ok(frame) => frame.map(|frame| frame.map(|frame| frame.map_err(Into::into))),
                    Err(panicked) => Poll::Ready(Some(Err(panicked.into()))),
                }
            }
            ContentProject::Text { text } => {
                Poll::Ready(text.take().map(|text| Ok(Frame::data(text))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Running { body, .. } => body.is_end_stream(),
            Content::Text { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Running { body, .. } => body.size_hint(),
            Content::Text { text } => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
        }
    }
}
