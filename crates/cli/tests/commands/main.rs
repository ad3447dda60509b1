//! The subcommands as a person uses them: arguments in, output and exit code out.

mod bench;
mod storm;
mod sub;
mod support;
mod tools;
