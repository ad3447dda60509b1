//! A request's body is counted: 413 from the head where it tells its length, an error of the body
//! when it grows beyond.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::BoxError;
use super::check::{CheckFuture, HeldBody};
use crate::{BodyLimit, Refusal};

/// Requests with at most so many bytes of body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimitLayer {
    bytes_max: u64,
}

impl BodyLimitLayer {
    /// 0 allows no body.
    #[must_use]
    pub const fn new(bytes_max: u64) -> Self {
        Self { bytes_max }
    }
}

impl<S> Layer<S> for BodyLimitLayer {
    type Service = BodyLimitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BodyLimitService {
            inner,
            bytes_max: self.bytes_max,
        }
    }
}

/// A service behind a [`BodyLimitLayer`].
#[derive(Clone, Debug)]
pub struct BodyLimitService<S> {
    inner: S,
    bytes_max: u64,
}

impl<S, B, R> Service<Request<B>> for BodyLimitService<S>
where
    S: Service<Request<LimitedBody<B>>, Response = Response<R>>,
{
    type Response = Response<HeldBody<R, ()>>;
    type Error = S::Error;
    type Future = CheckFuture<S::Future, ()>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = BodyLimit::new(self.bytes_max);
        if limit.check_head(request.headers()).is_err() {
            let text = format!("a body may have {} bytes at most", self.bytes_max);
            let refusal = Refusal::final_with(StatusCode::PAYLOAD_TOO_LARGE, text);
            return CheckFuture::refused(refusal.hard_answer());
        }
        let request = request.map(|body| LimitedBody { body, limit });
        CheckFuture::passed(self.inner.call(request), ())
    }
}

pin_project! {
    /// A request's body that fails when it grows beyond its limit.
    pub struct LimitedBody<B> {
        #[pin]
        body: B,
        limit: BodyLimit,
    }
}

impl<B> Body for LimitedBody<B>
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
        let this = self.project();
        let frame = match std::task::ready!(this.body.poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(frame) => frame.map_err(Into::into)?,
        };
        if let Some(data) = frame.data_ref() {
            this.limit.take(data.len())?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
