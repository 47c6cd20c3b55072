//! Which cluster is meant, on the command line.

use std::{env, path::PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use kube::{
    Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::{
    metrics::Requests,
    objects::{Cluster, Objects},
};

/// The cluster, by a kubeconfig. In a pod neither is needed.
#[derive(Clone, Debug, Args)]
pub(super) struct ClusterArguments {
    /// The kubeconfig that leads to the cluster [default: as kubectl has it, if --context is given]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// The cluster that a command of an operator is about, found as kubectl finds it.
#[derive(Clone, Debug, Args)]
pub(super) struct CurrentCluster {
    /// The kubeconfig that leads to the cluster [default: as kubectl has it]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// Where the objects of the mesh are: a directory or a cluster. In a pod, without either, the cluster of the pod.
#[derive(Clone, Debug, Args)]
pub(super) struct ObjectsArguments {
    /// The directory of manifests; it is watched for changes
    #[arg(long = "dir", value_name = "DIR", conflicts_with_all = ["kubeconfig", "context"])]
    directory: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArguments,
}

impl ObjectsArguments {
    /// Whether a directory was asked for.
    pub(super) fn is_directory(&self) -> bool {
        self.directory.is_some()
    }

    /// What was asked for. Asks nobody yet.
    pub(super) async fn open(self) -> anyhow::Result<Objects> {
        Ok(match self.directory {
            Some(directory) => Objects::Directory(directory),
            None => Objects::Cluster(self.cluster.connect().await?),
        })
    }
}

impl ClusterArguments {
    /// Whether one was named.
    pub(super) fn is_named(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// A client of the cluster. It has not asked anything yet.
    ///
    /// Outside of a pod the cluster has to be named: whoever forgets `--dir` on their own machine does not
    /// mean the cluster that they last spoke to.
    pub(super) async fn connect(self) -> anyhow::Result<Cluster> {
        let named = self.is_named();
        let in_pod = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        ensure!(
            named || in_pod,
            "say where the objects are: --dir DIR for a directory of manifests, --kubeconfig FILE or \
             --context NAME for a cluster; only in a pod the cluster is known"
        );
        if named { self.by_kubeconfig().await } else { of_pod() }
    }

    /// A client of the cluster that the kubeconfig leads to, by its current context if none is named.
    pub(super) async fn by_kubeconfig(self) -> anyhow::Result<Cluster> {
        let Self { kubeconfig, context } = self;
        let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        client(match kubeconfig {
            Some(path) => {
                let read = Kubeconfig::read_from(&path)
                    .with_context(|| format!("--kubeconfig {} cannot be read", path.display()))?;
                Config::from_custom_kubeconfig(read, &options)
                    .await
                    .with_context(|| format!("--kubeconfig {} does not lead to a cluster", path.display()))?
            }
            None => Config::from_kubeconfig(&options).await.context(
                "the kubeconfig does not lead to a cluster; name one by --kubeconfig or $KUBECONFIG",
            )?,
        })
    }
}

impl CurrentCluster {
    /// A client of the cluster. It has not asked anything yet. In a pod without a kubeconfig it is the pod's.
    pub(super) async fn connect(self) -> anyhow::Result<Cluster> {
        let Self { kubeconfig, context } = self;
        let named = kubeconfig.is_some() || context.is_some();
        let by_kubeconfig = ClusterArguments { kubeconfig, context }.by_kubeconfig().await;
        let in_pod = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        if by_kubeconfig.is_err() && !named && in_pod { of_pod() } else { by_kubeconfig }
    }
}

fn of_pod() -> anyhow::Result<Cluster> {
    client(Config::incluster().context("the service account of this pod cannot be used")?)
}

fn client(config: Config) -> anyhow::Result<Cluster> {
    let url = config.cluster_url.to_string();
    let client =
        ClientBuilder::try_from(config).with_context(|| format!("no client for the cluster {url}"))?;
    let requests = Requests::default();
    Ok(Cluster { client: client.with_layer(&requests).build(), url, requests })
}
