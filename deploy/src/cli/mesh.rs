//! The settings of a mesh on the command line.

use clap::{Args, ValueEnum};
use proto::Object;
use tokio::runtime;
use translate::{Bind, Classes, Pinned, Settings};
use watch::{Complaint, Wanted};

use super::source::{Chosen, SourceArguments};
use crate::objects::Cluster;

/// What holds for the whole mesh.
#[derive(Clone, Debug, Args)]
pub(super) struct MeshArguments {
    /// The trust domain: the host part of every SPIFFE identity [default: what the mesh configuration says, else cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: Option<String>,
    /// The DNS suffix of Services
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// The namespace of the mesh configuration, whose policies hold for the whole mesh; if it is given, the mesh configuration cannot name another one [default: istio-system]
    #[arg(long, value_name = "NAMESPACE")]
    root_namespace: Option<String>,
    /// The revision of the mesh configuration: the ConfigMap istio-REVISION instead of istio
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Which waypoints are ours: instead of istiod's, or beside them
    #[arg(long, value_enum, default_value = "replace")]
    mode: ModeArgument,
    /// Where the proxies of a waypoint listen [default: everywhere in a cluster, gateway-address with a directory]
    #[arg(long, value_enum)]
    bind: Option<BindArgument>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BindArgument {
    /// On the address in the Gateway's spec.addresses: the proxies share one machine
    GatewayAddress,
    /// On every address: each proxy has a network of its own, as a pod has
    Everywhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ModeArgument {
    /// Those of the class istio-waypoint too: istiod runs no waypoints
    Replace,
    /// Only those whose class names our controller, and portolan-waypoint: istiod runs its own
    Beside,
}

impl MeshArguments {
    /// The mesh of a directory or, as it is now, of a cluster: its settings, its objects, and what is wrong
    /// with them.
    pub(super) fn read(
        &self,
        source: SourceArguments,
    ) -> anyhow::Result<(Settings, Vec<Object>, Vec<Complaint>)> {
        let wanted = |settings: &Settings| Wanted::by_reference([settings.mesh_config()]);
        let (settings, (objects, complaints)) = match source.chosen() {
            Chosen::Directory(directory) => {
                let settings = self.settings(Bind::GatewayAddress);
                let read = watch::read_directory(directory, &wanted(&settings))?;
                (settings, read)
            }
            Chosen::Cluster(cluster) => {
                let settings = self.settings(Bind::Everywhere);
                let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
                let read = runtime.block_on(async {
                    let Cluster { client, .. } = cluster.by_kubeconfig().await?;
                    anyhow::Ok(watch::read_cluster(client, &wanted(&settings)).await?)
                })?;
                (settings, read)
            }
        };
        Ok((settings.adopting(&objects), objects, complaints))
    }

    /// The settings that were asked for; proxies listen as in `otherwise` if nobody says.
    pub(super) fn settings(&self, otherwise: Bind) -> Settings {
        let Self { trust_domain, cluster_domain, root_namespace, revision, mode, bind } = self;
        let default = Settings::default();
        Settings {
            pinned: Pinned { trust_domain: trust_domain.is_some(), root_namespace: root_namespace.is_some() },
            trust_domain: trust_domain.as_deref().map_or(default.trust_domain, Into::into),
            cluster_domain: cluster_domain.as_str().into(),
            root_namespace: root_namespace.as_deref().map_or(default.root_namespace, Into::into),
            revision: revision.as_deref().map(Into::into),
            classes: match mode {
                ModeArgument::Replace => Classes::Replace,
                ModeArgument::Beside => Classes::Beside,
            },
            bind: match bind {
                Some(BindArgument::GatewayAddress) => Bind::GatewayAddress,
                Some(BindArgument::Everywhere) => Bind::Everywhere,
                None => otherwise,
            },
            references: default.references,
        }
    }
}
