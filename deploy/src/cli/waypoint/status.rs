//! `portolan waypoint status`: what is said of waypoints, and whether they are programmed.

use std::{io::Write, time::Duration};

use anyhow::{bail, ensure};
use clap::{ArgAction, Args};
use kube::Client;
use tokio::time::{Instant, sleep};

use super::{
    apply::{LOOK, parse_patience},
    live::{self, Waypoint},
    scope::{Scope, place},
};
use crate::cli::{Ending, format::Shape, table};

/// Say what the status of waypoints says, once they are programmed or it takes too long.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all of them are programmed, 1 an error (there is none, what may not be read), \
                        2 wrong arguments, 3 one is not programmed"
)]
pub(super) struct Status {
    /// Only these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    scope: Scope,
    /// Only those of this class
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Wait until they are programmed
    #[arg(short, long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true, action = ArgAction::Set)]
    wait: bool,
    /// How long to wait at most
    #[arg(long, visible_alias = "timeout", value_name = "TIME", default_value = "90s", value_parser = parse_patience)]
    waypoint_timeout: Duration,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Shape,
}

impl Status {
    /// Prints it to `out`; that it is waited for is told on `err`.
    pub(super) async fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ending> {
        let (client, namespace) = self.scope.open().await?;
        let (namespace, class) = (namespace.as_deref(), self.class.as_deref());
        let start = Instant::now();
        let mut told = false;
        let waypoints = loop {
            let waypoints = named(&client, namespace, class, &self.names).await?;
            let waiting = waypoints.iter().filter(|waypoint| !waypoint.is_programmed()).count();
            if waiting == 0 || !self.wait || start.elapsed() >= self.waypoint_timeout {
                break waypoints;
            }
            if !told {
                let (of, patience) = (waypoints.len(), self.waypoint_timeout.as_secs());
                writeln!(err, "waiting for {waiting} of {of} to be programmed, at most {patience} s")?;
                told = true;
            }
            sleep(LOOK).await;
        };
        print(&waypoints, self.output, out)?;
        let all = waypoints.iter().all(Waypoint::is_programmed);
        Ok(if all { Ending::Well } else { Ending::NotProgrammed })
    }
}

/// The waypoints of these names, or all. Something has to be there to be said something of.
async fn named(
    client: &Client,
    namespace: Option<&str>,
    class: Option<&str>,
    names: &[String],
) -> anyhow::Result<Vec<Waypoint>> {
    let mut waypoints = live::waypoints(client, namespace, class).await?;
    if !names.is_empty() {
        for name in names {
            if !waypoints.iter().any(|waypoint| waypoint.name == *name) {
                bail!("there is no waypoint {name} in {}", place(namespace));
            }
        }
        waypoints.retain(|waypoint| names.contains(&waypoint.name));
    }
    ensure!(!waypoints.is_empty(), "there is no waypoint in {}", place(namespace));
    Ok(waypoints)
}

pub(super) fn print(waypoints: &[Waypoint], shape: Shape, out: &mut dyn Write) -> anyhow::Result<()> {
    if let Some(format) = shape.format() {
        return Ok(format.print(&waypoints, out)?);
    }
    let titles = ["NAMESPACE", "NAME", "CONDITION", "STATUS", "REASON", "MESSAGE"];
    let rows = waypoints.iter().flat_map(|waypoint| {
        let row = |condition: &str, status: &str, reason: &str, message: String| {
            let texts = [&waypoint.namespace, &waypoint.name, condition, status, reason];
            let [namespace, name, condition, status, reason] = texts.map(str::to_owned);
            [namespace, name, condition, status, reason, message]
        };
        let mut rows: Vec<_> = waypoint
            .conditions
            .iter()
            .map(|condition| {
                let words = condition.words(waypoint.generation);
                row(&condition.kind, &condition.status, &condition.reason, words)
            })
            .collect();
        if rows.is_empty() {
            rows.push(row("", "", "", waypoint.why_not()));
        }
        rows
    });
    Ok(table::print(titles, rows, out)?)
}
