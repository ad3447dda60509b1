//! One hot function after the other, for callgrind to count the instructions of.
//!
//! `instructions SCENARIO CALLS`, run by `cargo xtask instructions`; without arguments it prints
//! the names. Of a function that runs on the main thread callgrind counts what [`measured`] does;
//! what runs on another thread is counted whole, twice, with different numbers of calls.

// The scenarios of one function each.
#[path = "instructions/functions.rs"]
mod functions;

// A whole hub with a thousand subscribers.
#[path = "instructions/turn.rs"]
mod turn;

/// What one scenario does.
struct Scenario {
    /// As in the record.
    name: &'static str,
    /// Gets everything ready; what it returns is one call.
    prepare: fn() -> Box<dyn FnMut()>,
}

/// Calls that do not count: caches of the code under test are filled, vectors have their capacity.
const WARM_UP_CALLS: u32 = 50;

const SCENARIOS: [Scenario; 10] = [
    functions::ENCODE_FRAME,
    functions::PARSE_FORM,
    functions::MATCH_EVENT,
    functions::MATCH_FOREIGN_EVENT,
    functions::TOKEN_KNOWN,
    functions::TOKEN_NEW,
    functions::PARSE_SUBSCRIBE,
    functions::APPEND_MEMORY,
    functions::ENCODE_RECORD,
    turn::FAN_OUT,
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, calls] = &*arguments else {
        for scenario in &SCENARIOS {
            println!("{}", scenario.name);
        }
        return;
    };
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let mut call = (scenario.expect("the name of a scenario").prepare)();
    for _ in 0..WARM_UP_CALLS {
        call();
    }
    measured(&mut *call, calls.parse().expect("a number of calls"));
}

/// What is counted. `cargo xtask instructions` knows it by this name.
#[inline(never)]
fn measured(call: &mut dyn FnMut(), calls: u32) {
    for _ in 0..calls {
        call();
    }
}
