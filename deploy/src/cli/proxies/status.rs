//! `portolan proxy-status`: each proxy, and whether it has what is meant for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    time::SystemTime,
};

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use tokio::runtime;
use translate::Audience;

use super::replicas::{Replicas, Said};
use crate::{
    admin::debug::{ProxySync, SyncDump, TYPES, TypeSync, since},
    cli::{Ending, age::age, format::Shape, gateway, table},
};

/// Say of each proxy whether it has what is meant for it, and what it rejected.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 every proxy has everything, 1 an error (nobody answers, what may not be read), \
                        2 wrong arguments, 3 a proxy lacks something, 4 a replica of the control plane does not answer"
)]
pub(in crate::cli) struct ProxyStatus {
    /// Only the proxies of this waypoint
    #[arg(value_name = "NAMESPACE/GATEWAY", value_parser = gateway::parse)]
    gateway: Option<Audience>,
    #[command(flatten)]
    replicas: Replicas,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Shape,
}

/// What all replicas together say.
#[derive(Debug, Serialize)]
pub(super) struct Merged {
    waypoints: Vec<Fleet>,
    /// The replicas that did not answer, and why.
    unanswered: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Fleet {
    waypoint: String,
    proxies: Vec<Row>,
}

/// A proxy, and the replica that serves it.
#[derive(Debug, Serialize)]
struct Row {
    replica: String,
    #[serde(flatten)]
    sync: ProxySync,
}

impl ProxyStatus {
    /// Prints it to `out`; who did not answer is told on `err`.
    pub(in crate::cli) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ending> {
        let Self { gateway, replicas, output } = self;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let said = runtime.block_on(replicas.ask("/debug/syncz"))?;
        let merged = Merged::of(said, gateway.as_ref())?;
        merged.print(output, SystemTime::now(), out, err)?;
        Ok(merged.ending())
    }
}

impl Merged {
    pub(super) fn of(said: Vec<Said<SyncDump>>, only: Option<&Audience>) -> anyhow::Result<Self> {
        let only = only.map(ToString::to_string);
        let asked = said.len();
        let mut unanswered = BTreeMap::new();
        let mut fleets = BTreeMap::<String, Vec<Row>>::new();
        for Said { replica, answer } in said {
            match answer {
                Ok(SyncDump { waypoints }) => {
                    for fleet in waypoints {
                        let rows =
                            fleet.proxies.into_iter().map(|sync| Row { replica: replica.clone(), sync });
                        fleets.entry(fleet.waypoint).or_default().extend(rows);
                    }
                }
                Err(error) => {
                    unanswered.insert(replica, format!("{error:#}"));
                }
            }
        }
        let words = || unanswered.iter().map(|(replica, why)| format!("{replica}: {why}"));
        ensure!(
            unanswered.len() < asked,
            "no replica of the control plane answers: {}",
            words().collect::<Vec<_>>().join("; ")
        );
        if let Some(only) = &only {
            fleets.retain(|waypoint, _| waypoint == only);
            ensure!(!fleets.is_empty(), "the control plane has no waypoint {only}");
        }
        let fleet = |(waypoint, mut proxies): (String, Vec<Row>)| {
            proxies.sort_by(|a, b| (&a.sync.proxy, &a.replica).cmp(&(&b.sync.proxy, &b.replica)));
            Fleet { waypoint, proxies }
        };
        Ok(Self { waypoints: fleets.into_iter().map(fleet).collect(), unanswered })
    }

    pub(super) fn ending(&self) -> Ending {
        // One that has not asked for everything yet lacks nothing of what it asked for.
        let lacks = |row: &Row| {
            row.sync.behind_since.is_some()
                || row.sync.types.iter().any(|of| of.unsent + of.unanswered > 0 || !of.rejected.is_empty())
        };
        if self.waypoints.iter().flat_map(|fleet| &fleet.proxies).any(lacks) {
            Ending::Lacking
        } else if self.unanswered.is_empty() {
            Ending::Well
        } else {
            Ending::Unanswered
        }
    }

    pub(super) fn print(
        &self,
        shape: Shape,
        now: SystemTime,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<()> {
        for (replica, why) in &self.unanswered {
            writeln!(err, "warning: {replica} does not answer, its proxies are missing here: {why}")?;
        }
        if let Some(format) = shape.format() {
            return Ok(format.print(self, out)?);
        }
        if self.waypoints.is_empty() {
            writeln!(err, "the control plane has no waypoint")?;
            return Ok(());
        }
        self.print_table(now, out)?;
        self.print_rejections(now, out)
    }

    fn print_table(&self, now: SystemTime, out: &mut dyn Write) -> anyhow::Result<()> {
        let titles = [
            "WAYPOINT",
            "PROXY",
            "REPLICA",
            "ENVOY",
            "PLACE",
            "CLUSTERS",
            "ENDPOINTS",
            "LISTENERS",
            "SCOPES",
            "ROUTES",
            "SECRETS",
            "EXTENSIONS",
            "SINCE",
        ];
        let rows = self.waypoints.iter().flat_map(|fleet| {
            let none = fleet.proxies.is_empty().then(|| {
                let mut row: [String; 13] = Default::default();
                row[0].clone_from(&fleet.waypoint);
                row
            });
            let rows = fleet.proxies.iter().map(|row| {
                let Row { replica, sync } = row;
                let of = |kind: &str| of_type(sync, kind).map(cell).unwrap_or_default();
                let agent = sync.agent.strip_prefix("envoy ").unwrap_or(&sync.agent).to_owned();
                let [clusters, endpoints, listeners, scopes, routes, secrets, extensions] =
                    TYPES.map(|(kind, _)| of(kind));
                let (waypoint, name) = (fleet.waypoint.clone(), sync.proxy.name.clone());
                [
                    waypoint,
                    name,
                    replica.clone(),
                    agent,
                    place(sync),
                    clusters,
                    endpoints,
                    listeners,
                    scopes,
                    routes,
                    secrets,
                    extensions,
                    standing_since(sync, now),
                ]
            });
            none.into_iter().chain(rows).collect::<Vec<_>>()
        });
        Ok(table::print(titles, rows, out)?)
    }

    /// What was rejected, each thing once, in the proxies' words.
    fn print_rejections(&self, now: SystemTime, out: &mut dyn Write) -> anyhow::Result<()> {
        for fleet in &self.waypoints {
            let mut told = BTreeSet::new();
            for row in &fleet.proxies {
                for (kind, _) in TYPES {
                    for rejected in of_type(&row.sync, kind).into_iter().flat_map(|of| &of.rejected) {
                        let ago = rejected.since.as_deref().and_then(since);
                        let ago = ago.map(|at| format!(", {} ago", age(at, now))).unwrap_or_default();
                        if told.insert((kind, &rejected.name, &row.sync.proxy)) {
                            let (waypoint, proxy) = (&fleet.waypoint, &row.sync.proxy.name);
                            let (name, message) = (&rejected.name, &rejected.message);
                            writeln!(
                                out,
                                "\n{waypoint}: {proxy} rejected {name} of its {kind}{ago}: {message}"
                            )?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn of_type<'s>(sync: &'s ProxySync, kind: &str) -> Option<&'s TypeSync> {
    sync.types.iter().find(|of| of.kind == kind)
}

fn cell(of: &TypeSync) -> String {
    let behind = of.unsent + of.unanswered;
    match (behind, of.rejected.len()) {
        (0, 0) => "synced".to_owned(),
        (behind, 0) => format!("{behind} behind"),
        (0, rejected) => format!("{rejected} rejected"),
        (behind, rejected) => format!("{behind} behind, {rejected} rejected"),
    }
}

/// `eu-west-1/eu-west-1a/node-1`, as far as it is known.
fn place(sync: &ProxySync) -> String {
    let parts = [&sync.region, &sync.zone, &sync.node];
    let known: Vec<&str> = parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    known.join("/")
}

/// Since when it lacks something, or else since when it lacks nothing.
fn standing_since(sync: &ProxySync, now: SystemTime) -> String {
    let at = sync.behind_since.as_deref().or(sync.synced_at.as_deref()).and_then(since);
    at.map(|at| age(at, now)).unwrap_or_default()
}
