//! Black-box suite for the Mercure protocol in its 0.x dialect, runnable against any hub.
//!
//! Cases are named `SECTION/WHAT`, sections as in `docs/` and in the protocol notes (1.1 URL and
//! methods to 1.9 CORS and health). Where the draft and the deployed hubs leave two answers open, a
//! case accepts both and says so. What only gush promises is in a second table, `gush/WHAT`, and
//! runs only against a hub that is said to be gush.

#![forbid(unsafe_code)]

// Hostile input has a folder beside `src`, with the catalogue as its README.
#[path = "../abuse/mod.rs"]
mod abuse;

mod cases;
mod report;
mod target;

pub use abuse::abuse;
pub use cases::{all, gush};
pub use report::{Report, Verdict, run};
pub use target::{Need, Target};

use gush_testkit::Outcome;

/// Fails with what was expected and what came.
pub type Check = Box<dyn Fn(&Target) -> Outcome<()>>;

/// One rule and how it is checked.
pub struct Case {
    /// `SECTION/WHAT`.
    pub name: String,
    /// The rule in words, with what is accepted where two answers are open.
    pub rule: &'static str,
    /// What the hub under test must have for the case to make sense.
    pub needs: &'static [Need],
    /// The probe.
    pub check: Check,
}

/// A case whose name is known when compiling.
pub(crate) fn case(
    name: &str,
    needs: &'static [Need],
    rule: &'static str,
    check: impl Fn(&Target) -> Outcome<()> + 'static,
) -> Case {
    Case {
        name: name.to_owned(),
        rule,
        needs,
        check: Box::new(check),
    }
}
