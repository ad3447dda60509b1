//! A panic ends one stream, is counted, and is logged with its backtrace; the rest goes on.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

/// A panic that was caught. It is in the log already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

impl std::fmt::Display for Panicked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server failed; see its log")
    }
}

impl std::error::Error for Panicked {}

thread_local! {
    /// Guards on this thread's stack.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Where the panic that is being caught happened.
    static SCENE: RefCell<Option<Scene>> = const { RefCell::new(None) };
}

struct Scene {
    place: String,
    backtrace: Backtrace,
}

/// Catches panics and counts them.
#[derive(Debug, Default)]
pub struct PanicGuard {
    caught: AtomicU64,
}

impl PanicGuard {
    /// Nothing caught yet. The first guard puts a hook before the process's panic hook: a panic
    /// inside a guard is logged by the guard alone, every other one as before.
    #[must_use]
    pub fn new() -> Self {
        install_hook();
        Self::default()
    }

    /// Panics caught so far.
    #[must_use]
    pub fn caught(&self) -> u64 {
        self.caught.load(Ordering::Relaxed)
    }

    /// Runs `act`; `what` names it in the log. Costs nothing to speak of while nothing panics.
    ///
    /// What `act` was changing when it panicked may be half changed: the caller must throw it away
    /// (the stream) or know that it holds together.
    ///
    /// # Errors
    ///
    /// [`Panicked`].
    pub fn run<T>(&self, what: &'static str, act: impl FnOnce() -> T) -> Result<T, Panicked> {
        DEPTH.set(DEPTH.get() + 1);
        let outcome = catch_unwind(AssertUnwindSafe(act));
        DEPTH.set(DEPTH.get() - 1);
        outcome.map_err(|payload| {
            self.caught.fetch_add(1, Ordering::Relaxed);
            report(what, payload.as_ref());
            // A payload whose drop panics too would pass through the guard.
            std::mem::forget(payload);
            Panicked
        })
    }

    /// The same for a future: each of its polls is run so. One that has panicked is dropped.
    pub fn watch<F: Future>(self: &Arc<Self>, what: &'static str, future: F) -> Watched<F> {
        Watched {
            future: Some(future),
            guard: Arc::clone(self),
            what,
        }
    }
}

pin_project! {
    /// A future whose panic is an error: [`PanicGuard::watch`].
    pub struct Watched<F> {
        // `None`: it has panicked.
        #[pin]
        future: Option<F>,
        guard: Arc<PanicGuard>,
        what: &'static str,
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let outcome = match this.future.as_mut().as_pin_mut() {
            Some(future) => this.guard.run(this.what, || future.poll(context)),
            None => Err(Panicked),
        };
        match outcome {
            Ok(polled) => polled.map(Ok),
            Err(panicked) => {
                // What it held is given back now, not when whoever waits for it lets go of it.
                let _ = this.guard.run(this.what, || this.future.set(None));
                Poll::Ready(Err(panicked))
            }
        }
    }
}

fn report(what: &'static str, payload: &(dyn Any + Send)) {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned());
    let (place, backtrace) = SCENE.take().map_or_else(
        || ("unknown".to_owned(), Backtrace::disabled()),
        |scene| (scene.place, scene.backtrace),
    );
    tracing::error!(what, place, %backtrace, "panic caught: {text}");
}

fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if DEPTH.get() == 0 {
                return before(info);
            }
            let place = info.location().map(ToString::to_string);
            SCENE.set(Some(Scene {
                place: place.unwrap_or_else(|| "unknown".to_owned()),
                backtrace: Backtrace::force_capture(),
            }));
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_counted_and_work_goes_on() {
        let guard = PanicGuard::new();
        assert_eq!(guard.run("a sum", || 1 + 1), Ok(2));
        assert_eq!(
            guard.run("a test", || -> u32 { panic!("on purpose") }),
            Err(Panicked)
        );
        assert_eq!(guard.run("a sum", || 2 + 2), Ok(4));
        assert_eq!(guard.caught(), 1);
    }

    #[test]
    fn a_watched_future_that_panics_is_an_error_and_gives_back_what_it_held() {
        let guard = Arc::new(PanicGuard::new());
        let held = Arc::new(());
        let theirs = Arc::clone(&held);
        let watched = guard.watch("a test", async move {
            std::future::ready(()).await;
            panic!("on purpose, with {theirs:?}");
        });
        let mut watched = std::pin::pin!(watched);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let polled: Poll<Result<(), Panicked>> = watched.as_mut().poll(&mut context);
        assert_eq!(polled, Poll::Ready(Err(Panicked)));
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(guard.caught(), 1);
        let fine = std::pin::pin!(guard.watch("a sum", async { 1 + 1 }));
        assert_eq!(fine.poll(&mut context), Poll::Ready(Ok(2)));
    }

    #[test]
    fn a_guard_in_a_guard_catches_its_own() {
        let (outer, inner) = (PanicGuard::new(), PanicGuard::new());
        let outcome = outer.run("outer", || {
            let caught = inner.run("inner", || -> u32 { panic!("on purpose") });
            assert_eq!(caught, Err(Panicked));
            7
        });
        assert_eq!(outcome, Ok(7));
        assert_eq!((outer.caught(), inner.caught()), (0, 1));
    }
}
