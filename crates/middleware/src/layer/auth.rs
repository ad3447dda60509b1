//! A good token at the door, and the end of the stream when it expires.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use super::check::{HeldBody, Pass};
use crate::Refusal;
use crate::auth::jwks::FETCH_FLOOR_SECONDS;
use crate::auth::{Claims, Grants, KeyRing, TokenError};

/// Finds a request's token.
pub type TokenOf = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

/// Checks tokens. The handler finds an `Arc<Claims<G>>` in the request's extensions.
pub struct AuthLayer<G> {
    keys: Arc<KeyRing<G>>,
    token_of: TokenOf,
    is_anonymous: bool,
}

impl<G: Grants> AuthLayer<G> {
    /// Tokens come as `Authorization: Bearer`. Requests without one are refused.
    #[must_use]
    pub fn new(keys: Arc<KeyRing<G>>) -> Self {
        Self {
            keys,
            token_of: Arc::new(bearer),
            is_anonymous: false,
        }
    }

    /// Looks for tokens elsewhere: a browser's `EventSource` sends no header of its own, but
    /// cookies.
    #[must_use]
    pub fn token_of(mut self, token_of: TokenOf) -> Self {
        self.token_of = token_of;
        self
    }

    /// Lets requests without a token pass, without claims. A bad token is refused as ever.
    #[must_use]
    pub const fn anonymous(mut self) -> Self {
        self.is_anonymous = true;
        self
    }
}

fn bearer(head: &Parts) -> Option<String> {
    let mut fields = head.headers.get_all(AUTHORIZATION).iter();
    let text = fields.next()?.to_str().ok()?.strip_prefix("Bearer ")?;
    // Of two it would not be clear whose grants count.
    fields.next().is_none().then(|| text.to_owned())
}

// Derived ones would ask the same of `G`.
impl<G> Clone for AuthLayer<G> {
    fn clone(&self) -> Self {
        Self {
            keys: Arc::clone(&self.keys),
            token_of: Arc::clone(&self.token_of),
            is_anonymous: self.is_anonymous,
        }
    }
}

impl<G> fmt::Debug for AuthLayer<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLayer")
            .field("is_anonymous", &self.is_anonymous)
            .finish_non_exhaustive()
    }
}

impl<S, G> Layer<S> for AuthLayer<G> {
    type Service = AuthService<S, G>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service behind an [`AuthLayer`].
pub struct AuthService<S, G> {
    inner: S,
    layer: AuthLayer<G>,
}

impl<S: Clone, G> Clone for AuthService<S, G> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
        }
    }
}

impl<S, G> fmt::Debug for AuthService<S, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthService").finish_non_exhaustive()
    }
}

impl<S, G, B, R> Service<Request<B>> for AuthService<S, G>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    G: Grants + Send + Sync + 'static,
    B: Send + 'static,
{
    type Response = Response<HeldBody<R, UntilExpiry>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready is called; its clone waits to be ready for the next request.
        let waiting = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, waiting);
        let layer = self.layer.clone();
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            match layer.admit(&head).await {
                Ok(claims) => {
                    let expires_unix = claims.as_ref().and_then(|claims| claims.expires_unix);
                    if let Some(claims) = claims {
                        head.extensions.insert(claims);
                    }
                    let answer = inner.call(Request::from_parts(head, body)).await?;
                    Ok(answer.map(|body| HeldBody::passed(body, UntilExpiry::new(expires_unix))))
                }
                Err(refusal) => Ok(answer_of(&refusal, &head).map(HeldBody::refused)),
            }
        })
    }
}

impl<G: Grants> AuthLayer<G> {
    async fn admit(&self, head: &Parts) -> Result<Option<Arc<Claims<G>>>, Refusal> {
        let Some(token) = (self.token_of)(head) else {
            if self.is_anonymous && !head.headers.contains_key(AUTHORIZATION) {
                return Ok(None);
            }
            let text = "no token: send it as \"Authorization: Bearer <token>\"";
            return Err(Refusal::final_with(StatusCode::UNAUTHORIZED, text));
        };
        let verdict = self.keys.verify_known(&token, unix_seconds()).await;
        verdict.map(Some).map_err(refused)
    }
}

fn refused(error: TokenError) -> Refusal {
    if error.is_ours() {
        // The token may be good: a 401 would make clients give up for ever.
        let retry = Duration::from_secs(FETCH_FLOOR_SECONDS);
        return Refusal::overloaded(error.to_string(), retry);
    }
    Refusal::final_with(StatusCode::UNAUTHORIZED, error.to_string())
}

fn answer_of(refusal: &Refusal, head: &Parts) -> Response<bytes::Bytes> {
    let mut answer = refusal.answer(&head.headers, true);
    if answer.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    answer
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Ends a stream when its token expires.
#[derive(Debug)]
pub struct UntilExpiry(Option<Pin<Box<Sleep>>>);

/// The longest time that is waited for: a timer has its limits, and nothing streams for a year.
const EXPIRY_SECONDS_MAX: u64 = 365 * 24 * 60 * 60;

impl UntilExpiry {
    fn new(expires_unix: Option<u64>) -> Self {
        let left_seconds = expires_unix.map(|at| at.saturating_sub(unix_seconds()));
        let left_seconds = left_seconds.filter(|seconds| *seconds <= EXPIRY_SECONDS_MAX);
        Self(left_seconds.map(|left| Box::pin(tokio::time::sleep(Duration::from_secs(left)))))
    }
}

impl Pass for UntilExpiry {
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[&'static str]) -> Parts {
        let mut request = Request::new(());
        for field in fields {
            let value = HeaderValue::from_static(field);
            request.headers_mut().append(AUTHORIZATION, value);
        }
        request.into_parts().0
    }

    #[test]
    fn one_bearer_token_and_nothing_else() {
        assert_eq!(bearer(&head(&["Bearer abc"])).as_deref(), Some("abc"));
        for fields in [
            &["Basic abc"][..],
            &["Bearer a", "Bearer b"],
            &[],
            &["bearer a"],
        ] {
            assert_eq!(bearer(&head(fields)), None, "{fields:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_token() {
        let mut pass = UntilExpiry::new(Some(unix_seconds() + 30));
        let over = std::future::poll_fn(|context| pass.poll_over(context));
        let start = tokio::time::Instant::now();
        over.await;
        assert!((29..=31).contains(&start.elapsed().as_secs()));
        let mut endless = UntilExpiry::new(None);
        let over = std::future::poll_fn(|context| endless.poll_over(context));
        let waited = tokio::time::timeout(Duration::from_hours(1), over).await;
        assert!(waited.is_err());
    }
}
