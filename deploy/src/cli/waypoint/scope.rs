//! Where waypoints are looked for, on the command line.

use clap::Args;
use kube::Client;

use crate::{cli::cluster::CurrentCluster, objects::Cluster};

/// A cluster, and a namespace of it or all of them.
#[derive(Clone, Debug, Args)]
pub(super) struct Scope {
    /// The namespace [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAMESPACE", conflicts_with = "all_namespaces")]
    namespace: Option<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    cluster: CurrentCluster,
}

impl Scope {
    /// A client of the cluster, and the namespace that is meant if it is one.
    pub(super) async fn open(self) -> anyhow::Result<(Client, Option<String>)> {
        let Cluster { client, .. } = self.cluster.connect().await?;
        let namespace = self.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let namespace = (!self.all_namespaces).then_some(namespace);
        Ok((client, namespace))
    }
}

/// For sentences: `the namespace shop`.
pub(super) fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "the cluster".to_owned(), |namespace| format!("the namespace {namespace}"))
}
