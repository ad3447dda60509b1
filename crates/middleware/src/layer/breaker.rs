//! A service that fails (an error, or a status of 500 and above) is left alone for a while. For
//! services that stand for something remote; a stream that began has succeeded.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::check::{CheckFuture, HeldBody};
use crate::{Attempt, Breaker, Refusal};

/// Puts a [`Breaker`] before a service.
#[derive(Clone, Debug)]
pub struct BreakerLayer {
    breaker: Arc<Breaker>,
    start: Instant,
}

impl BreakerLayer {
    /// The breaker's time must be this layer's alone: it counts from now.
    #[must_use]
    pub fn new(breaker: Arc<Breaker>) -> Self {
        Self {
            breaker,
            start: Instant::now(),
        }
    }
}

impl<S> Layer<S> for BreakerLayer {
    type Service = BreakerService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BreakerService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service behind a [`BreakerLayer`].
#[derive(Clone, Debug)]
pub struct BreakerService<S> {
    inner: S,
    layer: BreakerLayer,
}

impl<S, B, R> Service<Request<B>> for BreakerService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<HeldBody<R, ()>>;
    type Error = S::Error;
    type Future = CheckFuture<TriedFuture<S::Future>, ()>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.layer.breaker.admit(self.layer.start.elapsed()) {
            Ok(attempt) => {
                let tried = TriedFuture {
                    future: self.inner.call(request),
                    attempt: Some(attempt),
                    start: self.layer.start,
                };
                CheckFuture::passed(tried, ())
            }
            Err(wait) => {
                let text = "a part of this service does not answer and is left alone for a while";
                let refusal = Refusal::overloaded(text, wait.0);
                CheckFuture::refused(refusal.answer(request.headers(), true))
            }
        }
    }
}

pin_project! {
    /// An answer whose success is told to the breaker.
    pub struct TriedFuture<F> {
        #[pin]
        future: F,
        attempt: Option<Attempt>,
        start: Instant,
    }
}

impl<F, R, E> Future for TriedFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = std::task::ready!(this.future.poll(context));
        let is_good = answer
            .as_ref()
            .is_ok_and(|answer| !answer.status().is_server_error());
        if let Some(attempt) = this.attempt.take() {
            if is_good {
                attempt.succeeded();
            } else {
                attempt.failed(this.start.elapsed());
            }
        }
        Poll::Ready(answer)
    }
}
