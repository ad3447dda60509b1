//! Mode `floor`: what a fan-out costs at least on this machine, measured with two references that
//! do nothing else, and how far a hub is from it. Everything in one run, in turns, because
//! absolute times drift and ratios do not.

mod bare_loop;
mod compare;
mod crew;
mod frame;
mod process;
mod reference;
mod slots;
mod sweep;

pub use compare::run;
pub use process::serve;

#[cfg(test)]
mod tests;
