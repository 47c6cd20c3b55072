//! What an operator reads: a log on standard error, as text or as JSON.

use std::{env, io};

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, fmt};

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for a person.
    Text,
    /// A JSON object for each line.
    Json,
}

/// The client of API servers, as its log lines are called.
const CLIENT: &str = "kube_client";

/// Starts the log of this process. `RUST_LOG` says how much of it; `info` if it does not.
///
/// Fails if the process has a log already.
pub(crate) fn start(format: LogFormat) -> anyhow::Result<()> {
    use tracing_subscriber::util::SubscriberInitExt;

    let asked = env::var("RUST_LOG").unwrap_or_default();
    let mut filter =
        EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse_lossy(&asked);
    if !asked.contains(CLIENT) {
        // It says of every request that failed what we say once, of all of them.
        filter = filter.add_directive(format!("{CLIENT}=off").parse()?);
    }
    let log = fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).finish().try_init()?,
        LogFormat::Json => log.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}
