//! The `portolan` binary: parses its arguments, and nothing else.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    deploy::cli::run(deploy::cli::Arguments::parse())
}
