//! Whom to ask: the control plane at an address, or every replica in a cluster, by a port-forward.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use futures::future::join_all;
use kube::{
    Api,
    api::{ListParams, ObjectMeta},
};
use proto::kubernetes::Pod;
use serde::de::DeserializeOwned;
use tokio::{net::TcpStream, time::timeout};

use super::question::ask;
use crate::{admin::debug::PORT, cli::cluster::CurrentCluster, objects::Cluster};

/// How long it may take until there is a way to a pod.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long what a kubelet says may come after the end of the stream that it is about.
const FAREWELL: Duration = Duration::from_millis(100);

/// The control planes that are asked: all replicas, as each knows of the proxies that it serves.
#[derive(Clone, Debug, Args)]
pub(super) struct Replicas {
    /// Ask the control plane there, by its `--debug`, and no cluster
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["kubeconfig", "context", "control_plane_namespace", "selector"])]
    address: Option<SocketAddr>,
    /// The namespace of the control plane [default: wherever its pods are]
    #[arg(long, value_name = "NAMESPACE")]
    control_plane_namespace: Option<String>,
    /// The labels of its pods
    #[arg(long, value_name = "SELECTOR", default_value = "app.kubernetes.io/name=portolan")]
    selector: String,
    /// Where its pods have their `--debug`
    #[arg(long, value_name = "PORT", default_value_t = PORT)]
    debug_port: u16,
    #[command(flatten)]
    cluster: CurrentCluster,
}

/// What one of them said.
#[derive(Debug)]
pub(super) struct Said<T> {
    /// Its pod, or its address.
    pub(super) replica: String,
    /// Its answer, or why there is none.
    pub(super) answer: anyhow::Result<T>,
}

impl Replicas {
    /// Asks all of them at once. An error if there is nobody to ask.
    pub(super) async fn ask<T: DeserializeOwned>(self, path: &str) -> anyhow::Result<Vec<Said<T>>> {
        if let Some(address) = self.address {
            let asking = async { ask(TcpStream::connect(address).await?, path).await };
            let answer = asking.await.with_context(|| {
                format!("no control plane answers at {address}; that is what serve has as --debug")
            })?;
            return Ok(vec![Said { replica: address.to_string(), answer: Ok(answer) }]);
        }
        let Self { control_plane_namespace: namespace, selector, debug_port, cluster, .. } = self;
        let Cluster { client, .. } = cluster.connect().await?;
        let pods = match &namespace {
            Some(namespace) => Api::<Pod>::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let place = namespace.map_or("any namespace".to_owned(), |name| format!("the namespace {name}"));
        let listed = pods.list(&ListParams::default().labels(&selector)).await;
        let unlisted =
            || format!("the pods of {place} cannot be listed; --control-plane-namespace says where to look");
        let mut listed = listed.with_context(unlisted)?.items;
        listed.retain(|pod| !["Succeeded", "Failed"].contains(&phase(pod)));
        ensure!(
            !listed.is_empty(),
            "there is no pod {selector} in {place}; --selector says which pods are the control plane, --address \
             asks one that is in no cluster"
        );
        let asking = listed.into_iter().map(|pod| {
            let client = client.clone();
            async move {
                let ObjectMeta { name, namespace, .. } = pod.metadata.clone();
                let pods = Api::namespaced(client, &namespace.unwrap_or_default());
                let replica = name.unwrap_or_default();
                let answer = of_pod(&pods, &pod, &replica, debug_port, path).await;
                Said { replica, answer }
            }
        });
        let mut said = join_all(asking).await;
        said.sort_by(|a, b| a.replica.cmp(&b.replica));
        Ok(said)
    }
}

async fn of_pod<T: DeserializeOwned>(
    pods: &Api<Pod>,
    pod: &Pod,
    name: &str,
    port: u16,
    path: &str,
) -> anyhow::Result<T> {
    let phase = phase(pod);
    ensure!(phase == "Running", "it is not running but {phase}");
    let forwarded = timeout(PATIENCE, pods.portforward(name, &[port])).await;
    let forwarded = forwarded.map_err(|_| anyhow!("no way to it within {} s", PATIENCE.as_secs()))?;
    let mut forwarded = forwarded.context("its port cannot be forwarded")?;
    let stream = forwarded.take_stream(port).context("its port was not forwarded")?;
    let refused = forwarded.take_error(port);
    let error = match ask(stream, path).await {
        Ok(answer) => return Ok(answer),
        Err(error) => error,
    };
    // What the kubelet says of the port is more than that the stream ended, if it comes through at all: with
    // the end of the stream the client may have given up before it read that.
    let said = match refused {
        Some(refused) => timeout(FAREWELL, refused).await.ok().flatten(),
        None => None,
    };
    Err(match said {
        Some(said) => anyhow!("port {port}: {}", said.trim()),
        None => error.context(format!("nobody answers at port {port}")),
    })
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Unknown")
}
