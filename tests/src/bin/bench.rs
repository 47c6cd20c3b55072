//! `cargo figures`: what one change costs on this machine, as one table.

#![allow(clippy::print_stdout, reason = "the table is what the benchmark is for")]

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use tests::bench::{
    envoy,
    growth::{self, SHAPES},
    report::Report,
};

/// What one change costs, in meshes of 100 to 10,000 services and with a real Envoy.
///
/// Ends with 1 if a count is not as promised. Times are only printed: they depend on the machine.
#[derive(Debug, Parser)]
#[command(name = "cargo figures")]
struct Arguments {
    /// How to print the figures
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// How often each change is made in each generated mesh, and taken back
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// How many edits of a policy's file are made with a real Envoy; 0 starts none
    #[arg(long, default_value_t = 100)]
    edits: usize,
    /// The Envoy 1.40 to use instead of $ENVOY, the one on PATH or the one of the Python package
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(wrong) if wrong.is_empty() => ExitCode::SUCCESS,
        Ok(wrong) => {
            for count in wrong {
                eprintln!("wrong: {count}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints; gives back every count that is wrong.
async fn run(arguments: Arguments) -> Result<Vec<String>> {
    let Arguments { output, rounds, edits, envoy } = arguments;
    let mut meshes = Vec::new();
    for shape in SHAPES {
        eprintln!("measuring {} services on {} waypoints", shape.services, shape.waypoints);
        meshes.push(growth::measure(shape, rounds)?);
    }
    let envoy = if edits == 0 {
        None
    } else {
        eprintln!("editing a policy {edits} times with a real Envoy");
        Some(envoy::measure(envoy, edits).await?)
    };
    let report = Report { meshes, envoy };
    match output {
        Output::Table => print!("{}", report.table()),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(report.wrong())
}
