//! `portolan waypoint delete`: waypoints taken away, by name or all of them.

use std::io::Write;

use anyhow::{anyhow, bail};
use clap::Args;
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
};
use proto::kubernetes::Namespace;

use super::{
    live::{self, Classes, refused},
    scope::place,
};
use crate::{
    cli::{Ending, cluster::CurrentCluster},
    objects::Cluster,
};

/// Delete waypoints. What runs them goes with them; nothing is asked first.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 they are deleted, 1 one of them is not there, is no waypoint or cannot be deleted, \
                        2 wrong arguments"
)]
pub(super) struct Delete {
    /// Their names
    #[arg(value_name = "NAME", required_unless_present_any = ["all", "revision"], conflicts_with_all = ["all", "revision"])]
    names: Vec<String>,
    /// All waypoints of the namespace
    #[arg(long)]
    all: bool,
    /// All waypoints of the namespace that are for this revision of the control plane
    #[arg(short, long, value_name = "REVISION")]
    revision: Option<String>,
    /// Of those that `--all` and `--revision` mean, only those of this class
    #[arg(long, value_name = "CLASS", conflicts_with = "names")]
    class: Option<String>,
    /// Their namespace [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    #[command(flatten)]
    cluster: CurrentCluster,
}

impl Delete {
    /// Tells on `out` what is gone, and on `err` what is not.
    pub(super) async fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ending> {
        let Self { names, all: _, revision, class, namespace, cluster } = self;
        let Cluster { client, .. } = cluster.connect().await?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let names = if names.is_empty() {
            let mut waypoints = live::waypoints(&client, Some(&namespace), class.as_deref()).await?;
            waypoints.retain(|waypoint| revision.is_none() || waypoint.revision == revision);
            if waypoints.is_empty() {
                writeln!(err, "there is no such waypoint in {}", place(Some(&namespace)))?;
            }
            waypoints.into_iter().map(|waypoint| waypoint.name).collect()
        } else {
            names
        };
        let classes = Classes::read(&client).await?;
        let mut failed = 0;
        for name in &names {
            match delete(&client, &classes, &namespace, name).await {
                Ok(()) => {
                    writeln!(out, "waypoint {namespace}/{name} deleted")?;
                    if let Some(still) = still_meant(&client, &namespace, name).await {
                        writeln!(err, "warning: {still}")?;
                    }
                }
                Err(error) => {
                    failed += 1;
                    writeln!(err, "waypoint {namespace}/{name} is not deleted: {error:#}")?;
                }
            }
        }
        if failed > 0 {
            bail!("{failed} of {} waypoints are not deleted", names.len());
        }
        Ok(Ending::Well)
    }
}

async fn delete(client: &Client, classes: &Classes, namespace: &str, name: &str) -> anyhow::Result<()> {
    let gateways = live::gateways(client, Some(namespace));
    let gateway = gateways.get_opt(name).await.map_err(refused)?.ok_or_else(|| anyhow!("it is not there"))?;
    if classes.waypoint(&gateway).is_none() {
        let class = gateway.data["spec"]["gatewayClassName"].as_str().unwrap_or_default();
        bail!("it is a Gateway of the class {class}, and no waypoint; kubectl deletes it");
    }
    // The one that was looked at, and not another that was made meanwhile.
    let preconditions = Some(Preconditions { uid: gateway.metadata.uid, resource_version: None });
    let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
    gateways.delete(name, &parameters).await.map_err(refused)?;
    Ok(())
}

/// What still asks for it in its namespace: traffic that wants a waypoint which is not there goes without
/// one. Who may not read the namespace is not told.
async fn still_meant(client: &Client, namespace: &str, name: &str) -> Option<String> {
    let found = Api::<Namespace>::all(client.clone()).get(namespace).await.ok()?;
    let labels = found.metadata.labels?;
    let elsewhere = labels.get("istio.io/use-waypoint-namespace").is_some_and(|other| other != namespace);
    (labels.get("istio.io/use-waypoint").is_some_and(|used| used == name) && !elsewhere).then(|| {
        format!(
            "the namespace {namespace} still has the label istio.io/use-waypoint: {name}, so its services have no \
             waypoint now; kubectl label namespace {namespace} istio.io/use-waypoint- takes it away"
        )
    })
}
