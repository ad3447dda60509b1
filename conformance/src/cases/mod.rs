//! The cases, one file per section of the protocol.

mod answer;
mod authorization;
mod cors;
mod gush;
mod gush_batch;
mod gush_fields;
mod history;
mod publish;
mod subscribe;
mod subscriptions;
mod templates;
mod tokens;
mod url;

use crate::{Case, Target};
use gush_testkit::{Failure, Outcome, SseStream};

/// Every case any hub has to pass.
pub fn all() -> Vec<Case> {
    let mut cases = url::cases();
    cases.extend(subscribe::cases());
    cases.extend(templates::cases());
    cases.extend(answer::cases());
    cases.extend(publish::cases());
    cases.extend(tokens::cases());
    cases.extend(authorization::cases());
    cases.extend(history::cases());
    cases.extend(subscriptions::cases());
    cases.extend(cors::cases());
    cases
}

/// What gush promises beyond the protocol, or where the protocol leaves it a choice.
pub fn gush() -> Vec<Case> {
    gush::cases()
}

/// Fails unless the condition holds.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Outcome<()> {
    if holds {
        Ok(())
    } else {
        Err(Failure::new(what()))
    }
}

/// Fails unless both are equal.
pub(crate) fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    got: &T,
    expected: &T,
) -> Outcome<()> {
    if got == expected {
        return Ok(());
    }
    Failure::mismatch(what, format!("{expected:?}"), format!("{got:?}"))
}

/// Publishes `marker` to `topic` and expects it to be the very next event of the stream: whatever
/// was published before and should not come has not come. This replaces waiting for silence.
pub(crate) fn nothing_before(target: &Target, stream: &mut SseStream, topic: &str) -> Outcome<()> {
    let marker = format!("marker {}", target.unique());
    target.say(topic, &marker)?;
    stream
        .expect_data(&marker)
        .map_err(|f| f.within("nothing else was to be delivered"))?;
    Ok(())
}
