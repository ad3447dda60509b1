//! What the experiments share: processor time, the process at the other end, tables and charts.

// Processor time, memory and pinning.
pub mod cpu;

// The process that holds the other ends of the sockets.
pub mod peer;

// Rounds, medians and spreads.
pub mod rounds;

// Charts as SVG.
pub mod chart;

// A publisher and many idle streams against a running hub.
pub mod hub;

// The few calls that need `unsafe`.
pub mod raw;

/// The outcome of every program here: an experiment that cannot go on ends with the reason.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The value behind `--name` on the command line, or the default.
///
/// # Errors
///
/// The value does not parse.
pub fn option<T: std::str::FromStr>(name: &str, default: T) -> Outcome<T> {
    let mut words = std::env::args();
    while let Some(word) = words.next() {
        if word == name {
            let text = words.next().unwrap_or_default();
            return text
                .parse()
                .map_err(|_| format!("{name} does not take {text:?}").into());
        }
    }
    Ok(default)
}

/// Whether `--name` is on the command line.
pub fn flag(name: &str) -> bool {
    std::env::args().any(|word| word == name)
}
