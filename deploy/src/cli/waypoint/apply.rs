//! `portolan waypoint apply`: a waypoint in a cluster, and its namespace made to use it.

use std::{io::Write, time::Duration};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use proto::kubernetes::Namespace;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    generate::GatewayArguments,
    live::{self, Classes, FIELD_MANAGER, Waypoint, refused},
};
use crate::{
    cli::{Ending, cluster::CurrentCluster, format::Shape, lifetime},
    objects::Cluster,
};

/// How often it is looked whether something is programmed.
pub(super) const LOOK: Duration = Duration::from_millis(500);

const USE: &str = "istio.io/use-waypoint";
const USE_NAMESPACE: &str = "istio.io/use-waypoint-namespace";

/// Apply a waypoint to a cluster.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 it is applied, and with --wait programmed; 1 an error, and what was done before it is \
                        said; 2 wrong arguments; 3 it is applied and was not programmed in time"
)]
pub(super) struct Apply {
    #[command(flatten)]
    gateway: GatewayArguments,
    /// Make the namespace use it, by the label istio.io/use-waypoint
    #[arg(long)]
    enroll_namespace: bool,
    /// Take over what somebody else has set: the waypoint that the namespace uses, and fields of the Gateway
    #[arg(long)]
    overwrite: bool,
    /// Wait until it is programmed; the namespace is made to use it after that
    #[arg(short, long)]
    wait: bool,
    /// How long to wait at most
    #[arg(long, visible_alias = "timeout", value_name = "TIME", default_value = "90s", value_parser = parse_patience)]
    waypoint_timeout: Duration,
    #[command(flatten)]
    cluster: CurrentCluster,
    /// How to print what was applied: a line of text, or the waypoint as list has it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Shape,
}

pub(super) fn parse_patience(text: &str) -> Result<Duration, String> {
    lifetime::parse(text)
}

impl Apply {
    /// Tells on `out` what was done, and on `err` what is to be known of it.
    pub(super) async fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ending> {
        let Cluster { client, .. } = self.cluster.clone().connect().await?;
        let namespace = self.gateway.namespace().unwrap_or_else(|| client.default_namespace()).to_owned();
        let name = self.gateway.name();
        // Before anything is changed.
        let enrolling = if self.enroll_namespace {
            Some(Enrolling::of(&client, &namespace, name, self.overwrite).await?)
        } else {
            None
        };
        if enrolling.as_ref().is_some_and(|enrolling| !enrolling.ambient) {
            writeln!(
                err,
                "warning: the namespace {namespace} is not captured by ambient, so nothing leads its traffic to \
                 waypoints unless pods are captured one by one; kubectl label namespace {namespace} \
                 istio.io/dataplane-mode=ambient captures it"
            )?;
        }
        let mut parameters = PatchParams::apply(FIELD_MANAGER);
        parameters.force = self.overwrite;
        let gateways = live::gateways(&client, Some(&namespace));
        let applied = gateways.patch(name, &parameters, &Patch::Apply(&self.gateway.gateway())).await;
        let theirs = matches!(&applied, Err(kube::Error::Api(status)) if status.code == 409);
        let applied = applied.map_err(|error| {
            let error = refused(error);
            if theirs { anyhow!("{error}; --overwrite takes these fields over") } else { error }
        });
        let applied = applied.with_context(|| format!("waypoint {namespace}/{name} is not applied"))?;
        let text = self.output == Shape::Table;
        if text {
            writeln!(out, "waypoint {namespace}/{name} applied")?;
        }
        let classes = Classes::read(&client).await?;
        let mut waypoint = classes.waypoint(&applied);
        if self.wait {
            let ready = self.programmed(&client, &classes, &namespace).await?;
            if !ready.is_programmed() {
                let (patience, why) = (self.waypoint_timeout.as_secs(), ready.why_not());
                writeln!(err, "waypoint {namespace}/{name} is not programmed after {patience} s: {why}")?;
                if self.enroll_namespace {
                    writeln!(err, "the namespace {namespace} was not made to use it")?;
                }
                return Ok(Ending::NotProgrammed);
            }
            if text {
                writeln!(out, "waypoint {namespace}/{name} is ready")?;
            }
            waypoint = Some(ready);
        }
        if let Some(enrolling) = enrolling {
            enrolling.enroll(&client, &namespace, name).await?;
            if text {
                writeln!(out, "namespace {namespace} labeled with \"{USE}: {name}\"")?;
            }
        }
        if let Some(format) = self.output.format() {
            format.print(&waypoint, out)?;
        }
        Ok(Ending::Well)
    }

    /// The waypoint once it is programmed, or as it is when that takes too long.
    async fn programmed(
        &self,
        client: &Client,
        classes: &Classes,
        namespace: &str,
    ) -> anyhow::Result<Waypoint> {
        let gateways = live::gateways(client, Some(namespace));
        let start = Instant::now();
        loop {
            let gateway = gateways.get(self.gateway.name()).await.map_err(refused)?;
            let waypoint = classes.waypoint(&gateway).with_context(|| {
                format!("{} is no class of waypoints, so nobody is waited for", self.gateway.class())
            })?;
            if waypoint.is_programmed() || start.elapsed() >= self.waypoint_timeout {
                return Ok(waypoint);
            }
            sleep(LOOK).await;
        }
    }
}

/// What is known of the namespace that is to use it.
struct Enrolling {
    ambient: bool,
    /// Whether it uses it already.
    done: bool,
    /// As which the namespace was looked at.
    version: Option<String>,
}

impl Enrolling {
    /// Looks at the namespace. That it uses another waypoint is an error unless that is to be overwritten.
    async fn of(client: &Client, namespace: &str, name: &str, overwrite: bool) -> anyhow::Result<Self> {
        let found = Api::<Namespace>::all(client.clone()).get(namespace).await.map_err(refused)?;
        let labels = found.metadata.labels.unwrap_or_default();
        let label = |name: &str| labels.get(name).map(String::as_str);
        let elsewhere = label(USE_NAMESPACE).filter(|other| *other != namespace);
        let done = label(USE) == Some(name) && elsewhere.is_none();
        if let (Some(used), false, false) = (label(USE), done, overwrite) {
            let of = elsewhere.map(|other| format!(" of the namespace {other}")).unwrap_or_default();
            return Err(anyhow!(
                "the namespace {namespace} uses the waypoint {used}{of} by its label {USE}; --overwrite replaces it"
            ));
        }
        let ambient = label("istio.io/dataplane-mode") == Some("ambient");
        Ok(Self { ambient, done, version: found.metadata.resource_version })
    }

    async fn enroll(self, client: &Client, namespace: &str, name: &str) -> anyhow::Result<()> {
        if self.done {
            return Ok(());
        }
        // With the version that was looked at, so that what somebody else has set meanwhile is not lost.
        let patch = json!({"metadata": {
            "resourceVersion": self.version, "labels": {USE: name, USE_NAMESPACE: null},
        }});
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let namespaces = Api::<Namespace>::all(client.clone());
        let patched = namespaces.patch(namespace, &parameters, &Patch::Merge(&patch)).await;
        let moved = matches!(&patched, Err(kube::Error::Api(status)) if status.code == 409);
        ensure!(!moved, "the namespace {namespace} was changed by somebody meanwhile; do it again");
        let what = || format!("the namespace {namespace} was not made to use {name}");
        patched.map_err(refused).with_context(what)?;
        Ok(())
    }
}
