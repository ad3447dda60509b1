//! `cargo xtask`: what the house checks and generates by machine.

// Tables and charts from the runs of `make bench-peers`.
mod bench_records;

// The files of the repository.
mod files;

// Instruction counts of the hot functions.
mod instructions;

// The reference pages, written from the code's own tables.
mod reference;

// The house rules that need no compiler.
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask <task>

  tidy                  check the house rules that a machine can check
  reference             write docs/reference/ from the tables in the code
  reference --check     fail when a page of docs/reference/ is stale
  bench-records [DIR]   write tables and charts of a run of `make bench-peers`, or the newest
  bench-records --check fail when they are stale
  instructions          count the instructions of the hot functions, fail when one takes 3 % more
  instructions --record REASON
                        count and write bench/instructions/record.toml, with the reason
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => report(tidy::run(&files::root())),
        ["reference"] => report(reference::write(&files::root())),
        ["reference", "--check"] => report(reference::check(&files::root())),
        ["bench-records", "--check"] => report(bench_records::check(&files::root())),
        ["bench-records"] => report(bench_records::write(&files::root(), None)),
        ["bench-records", folder] => report(bench_records::write(&files::root(), Some(folder))),
        ["instructions"] => report(instructions::check(&files::root())),
        ["instructions", "--record", reason] => {
            report(instructions::record(&files::root(), reason))
        }
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// What a task has to say: lines for the reader, and whether it went well.
struct Outcome {
    lines: Vec<String>,
    is_ok: bool,
}

fn report(outcome: std::io::Result<Outcome>) -> ExitCode {
    match outcome {
        Ok(Outcome { lines, is_ok }) => {
            for line in lines {
                println!("{line}");
            }
            if is_ok {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
