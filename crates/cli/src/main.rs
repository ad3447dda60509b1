//! The one binary: `gush serve`, `pub`, `sub`, `token`, `check`, `doctor`, `bench`, `storm`,
//! `drain`, `upgrade`.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage.

// The options of `gush serve` and `gush check` as command line arguments.
mod arguments;

// One file per subcommand.
mod bench;
mod check;
mod doctor;
mod drain;
mod publish;
mod serve;
mod storm;
mod subscribe;
mod token;
mod upgrade;

// What the subcommands that talk to a hub share.
mod admin;
mod backoff;
mod client;
mod credentials;

// Ending well.
mod failure;

use std::process::ExitCode;

use clap::Command;
use failure::Failure;

const ABOUT: &str = "Mercure-compatible Server-Sent Events hub";

const EXAMPLES: &str = "\
Examples:
  gush serve --dev                      try it out: prints ready commands and a page to open
  gush sub 'https://example.com/{id}'   print events as they come
  gush pub https://example.com/1 --data hello
  gush token --publish '*' --key file:publisher.key
  gush check --config gush.toml         validate a configuration and show what is in effect
  gush doctor https://hub.example.com   look for what a proxy on the way does to streams
  gush bench fanout --subscribers 10000 put load on a hub, and check every event
  gush storm simulate                   what a reconnect storm does, and what tames it
  gush drain --rate 200                 close streams of a running hub, for balance
  gush upgrade                          put a new binary in a running hub's place";

fn command() -> Command {
    Command::new("gush")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(100)
        .subcommands([
            serve::command(),
            publish::command(),
            subscribe::command(),
            token::command(),
            check::command(),
            doctor::command(),
            bench::command(),
            storm::command(),
            drain::command(),
            upgrade::command(),
        ])
}

fn run() -> Result<(), Failure> {
    // clap prints help on stdout with code 0 and usage errors on stderr with code 2.
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return Err(Failure::Clap(error)),
    };
    match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("pub", matches)) => publish::run(matches),
        Some(("sub", matches)) => subscribe::run(matches),
        Some(("token", matches)) => token::run(matches),
        Some(("check", matches)) => check::run(matches),
        Some(("doctor", matches)) => doctor::run(matches),
        Some(("bench", matches)) => bench::run(matches),
        Some(("storm", matches)) => storm::run(matches),
        Some(("drain", matches)) => drain::run(matches),
        Some(("upgrade", matches)) => upgrade::run(matches),
        _ => unreachable!("clap requires one of the subcommands above"),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
