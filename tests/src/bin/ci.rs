//! `cargo ci`: formats, lints and runs every test, real Envoy included, and says how long each step took.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tests::{
    cluster, envoy_binary, lab,
    packaged::{HADOLINT, HELM, SHELLCHECK},
    process,
};

/// A step: what it is called, and the arguments of cargo.
const STEPS: &[(&str, &[&str])] = &[
    ("format", &["fmt", "--all", "--", "--check"]),
    ("lint", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    ("test", &["test", "--workspace", "--no-fail-fast"]),
];

/// Programs we need, how to see that they are there, and what installs them.
const TOOLS: &[(&str, &[&str], &[&str])] = &[
    ("rustfmt", &["cargo", "fmt", "--version"], &["rustup", "component", "add", "rustfmt"]),
    ("clippy", &["cargo", "clippy", "--version"], &["rustup", "component", "add", "clippy"]),
    ("setpriv", &["setpriv", "--version"], &["apt-get", "install", "--yes", "util-linux"]),
];

/// What a machine that builds every commit runs.
const RUN: &str = "\
#!/usr/bin/env bash
# Everything that a change has to pass. Written by `cargo ci`, which is also all that it runs.
set -euo pipefail
cd \"$(dirname \"${BASH_SOURCE[0]}\")/..\"
exec cargo ci
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ncargo ci failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let start = Instant::now();
    let mut durations = Vec::new();
    let mut timed = |name: &str, step: &mut dyn FnMut() -> Result<()>| {
        eprintln!("\n==== {name}");
        let start = Instant::now();
        let outcome = step();
        eprintln!("==== {name}: {} after {}", verdict(&outcome), seconds(start.elapsed()));
        durations.push((name.to_owned(), start.elapsed()));
        outcome
    };

    write_run_file(lab::repository())?;
    timed("tools", &mut tools)?;
    for (name, arguments) in STEPS {
        // The first failure ends it: what is not formatted or does not compile says nothing about the rest.
        timed(name, &mut || cargo(arguments))?;
    }

    eprintln!("\n==== all passed in {}", seconds(start.elapsed()));
    for (name, time) in durations {
        eprintln!("{name:>8}  {:>8}", seconds(time));
    }
    Ok(())
}

/// Installs what is missing, programs that tests run and an API server, so that a missing one is reported before an hour of tests.
fn tools() -> Result<()> {
    for (name, probe, install) in TOOLS {
        if quietly(probe) {
            eprintln!("{name} is there");
            continue;
        }
        eprintln!("{name} is missing: {}", install.join(" "));
        let status = Command::new(install[0]).args(&install[1..]).status();
        let status =
            status.with_context(|| format!("{name} is missing and {} does not start", install[0]))?;
        ensure!(
            status.success() && quietly(probe),
            "{name} could not be installed by `{}`",
            install.join(" ")
        );
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        envoy_binary::find(None).await?;
        for program in [HELM, SHELLCHECK, HADOLINT] {
            program.find()?;
        }
        cluster::find_assets().await.map(drop)
    })
}

fn quietly(command: &[&str]) -> bool {
    let mut child = Command::new(command[0]);
    child.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    child.status().is_ok_and(|status| status.success())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    eprintln!("cargo {}", arguments.join(" "));
    let status = process::cargo().args(arguments).current_dir(lab::repository()).status()?;
    ensure!(status.success(), "`cargo {}` ended with {status}", arguments.join(" "));
    Ok(())
}

/// Writes `.ci/run` if it is not as it should be.
fn write_run_file(repository: &Path) -> Result<()> {
    let path = repository.join(".ci").join("run");
    if fs::read_to_string(&path).is_ok_and(|text| text == RUN) {
        return Ok(());
    }
    fs::create_dir_all(repository.join(".ci"))?;
    fs::write(&path, RUN)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}

fn verdict(outcome: &Result<()>) -> &'static str {
    if outcome.is_ok() { "passed" } else { "FAILED" }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
