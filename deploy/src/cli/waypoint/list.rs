//! `portolan waypoint list`: the waypoints of a cluster, one line each.

use std::{io::Write, time::SystemTime};

use clap::Args;

use super::{
    live::{self, Waypoint},
    scope::{Scope, place},
};
use crate::cli::{Ending, age::age, format::Shape, table};

/// List the waypoints of a namespace, or of all.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    scope: Scope,
    /// Only those of this class
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// How to print them
    #[arg(short, long, value_enum, default_value = "table")]
    output: Shape,
}

impl List {
    /// Prints them to `out`; that there is none is told on `err`.
    pub(super) async fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ending> {
        let (client, namespace) = self.scope.open().await?;
        let waypoints = live::waypoints(&client, namespace.as_deref(), self.class.as_deref()).await?;
        if waypoints.is_empty() && self.output == Shape::Table {
            writeln!(err, "there is no waypoint in {}", place(namespace.as_deref()))?;
            return Ok(Ending::Well);
        }
        print(&waypoints, self.output, SystemTime::now(), out)?;
        Ok(Ending::Well)
    }
}

pub(super) fn print(
    waypoints: &[Waypoint],
    shape: Shape,
    now: SystemTime,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if let Some(format) = shape.format() {
        return Ok(format.print(&waypoints, out)?);
    }
    let titles = ["NAMESPACE", "NAME", "CLASS", "FOR", "REVISION", "PROGRAMMED", "ADDRESSES", "AGE"];
    let rows = waypoints.iter().map(|waypoint| {
        let Waypoint { namespace, name, class, traffic, revision, programmed, addresses, created, .. } =
            waypoint.clone();
        let age = created.map(|created| age(created, now)).unwrap_or_default();
        let revision = revision.unwrap_or_default();
        [namespace, name, class, traffic, revision, programmed, addresses.join(","), age]
    });
    Ok(table::print(titles, rows, out)?)
}
