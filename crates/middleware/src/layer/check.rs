//! A question about a request's head: answered with a refusal, or with something that is held until
//! the body of the answer ends.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::Refusal;

/// Decides over requests by their heads.
pub trait Check: Clone {
    /// Held until the body of the answer ends; dropping it gives back what was taken.
    type Pass: Pass;

    /// May this request be served? `now` counts from when the layer was made. May add to the
    /// request's extensions. Must not wait.
    ///
    /// # Errors
    ///
    /// What the peer gets instead.
    fn check(&self, head: &mut Parts, now: Duration) -> Result<Self::Pass, Refusal>;
}

/// What a request was given to hold.
pub trait Pass: Unpin {
    /// Ready when the stream must end though its body goes on (its token has expired).
    fn poll_over(&mut self, _context: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Pass for () {}

/// Puts a [`Check`] before a service.
#[derive(Clone, Debug)]
pub struct CheckLayer<C> {
    check: C,
    start: Instant,
    is_soft: bool,
}

impl<C> CheckLayer<C> {
    /// Refuses event sources softly (see [`Refusal::answer`]).
    pub fn of(check: C) -> Self {
        Self {
            check,
            start: Instant::now(),
            is_soft: true,
        }
    }

    /// Refuses with statuses only, for a proxy in front that counts on them.
    #[must_use]
    pub fn hard(mut self) -> Self {
        self.is_soft = false;
        self
    }
}

impl<S, C: Clone> Layer<S> for CheckLayer<C> {
    type Service = CheckService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service behind a [`Check`].
#[derive(Clone, Debug)]
pub struct CheckService<S, C> {
    inner: S,
    layer: CheckLayer<C>,
}

impl<S, C, B, R> Service<Request<B>> for CheckService<S, C>
where
    S: Service<Request<B>, Response = Response<R>>,
    C: Check,
{
    type Response = Response<HeldBody<R, C::Pass>>;
    type Error = S::Error;
    type Future = CheckFuture<S::Future, C::Pass>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut head, body) = request.into_parts();
        let now = self.layer.start.elapsed();
        match self.layer.check.check(&mut head, now) {
            Ok(pass) => CheckFuture::passed(self.inner.call(Request::from_parts(head, body)), pass),
            Err(refusal) => CheckFuture::refused(refusal.answer(&head.headers, self.layer.is_soft)),
        }
    }
}

pin_project! {
    /// The answer to come.
    pub struct CheckFuture<F, P> {
        #[pin]
        to_come: ToCome<F, P>,
    }
}

pin_project! {
    #[project = ToComeProject]
    enum ToCome<F, P> {
        /// Of the service.
        Passed {
            #[pin]
            future: F,
            pass: Option<P>,
        },
        /// A refusal.
        Refused {
            answer: Option<Response<Bytes>>,
        },
    }
}

impl<F, P> CheckFuture<F, P> {
    pub(super) fn passed(future: F, pass: P) -> Self {
        let pass = Some(pass);
        Self {
            to_come: ToCome::Passed { future, pass },
        }
    }

    pub(super) fn refused(answer: Response<Bytes>) -> Self {
        let answer = Some(answer);
        Self {
            to_come: ToCome::Refused { answer },
        }
    }
}

impl<F, P, R, E> Future for CheckFuture<F, P>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<HeldBody<R, P>>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(match self.project().to_come.project() {
            ToComeProject::Passed { future, pass } => {
                let answer = std::task::ready!(future.poll(context))?;
                let pass = pass.take();
                answer.map(|body| HeldBody {
                    content: Content::Passed { body, pass },
                })
            }
            ToComeProject::Refused { answer } => answer
                .take()
                .expect("a future is not polled after it was ready")
                .map(|text| HeldBody {
                    content: Content::Refused { text: Some(text) },
                }),
        }))
    }
}

pin_project! {
    /// A body that holds a pass until it ends, or the text of a refusal.
    pub struct HeldBody<B, P> {
        #[pin]
        content: Content<B, P>,
    }
}

pin_project! {
    #[project = ContentProject]
    enum Content<B, P> {
        /// Of the service.
        Passed {
            #[pin]
            body: B,
            pass: Option<P>,
        },
        /// Of a refusal.
        Refused {
            text: Option<Bytes>,
        },
    }
}

impl<B, P> HeldBody<B, P> {
    pub(super) fn passed(body: B, pass: P) -> Self {
        let pass = Some(pass);
        Self {
            content: Content::Passed { body, pass },
        }
    }

    pub(super) fn refused(text: Bytes) -> Self {
        let text = Some(text);
        Self {
            content: Content::Refused { text },
        }
    }
}

impl<B: Body<Data = Bytes>, P: Pass> Body for HeldBody<B, P> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().content.project() {
            ContentProject::Passed { body, pass } => {
                let Some(held) = pass else {
                    return Poll::Ready(None);
                };
                if held.poll_over(context).is_ready() {
                    *pass = None;
                    return Poll::Ready(None);
                }
                let frame = std::task::ready!(body.poll_frame(context));
                if !matches!(frame, Some(Ok(_))) {
                    // Given back now: a server may keep the ended body for a while.
                    *pass = None;
                }
                Poll::Ready(frame)
            }
            ContentProject::Refused { text } => {
                Poll::Ready(text.take().map(|text| Ok(Frame::data(text))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Passed { body, pass } => pass.is_none() || body.is_end_stream(),
            Content::Refused { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Passed { body, pass } if pass.is_some() => body.size_hint(),
            Content::Passed { .. } => SizeHint::with_exact(0),
            Content::Refused { text } => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
        }
    }
}
