//! The settings of a mesh on the command line.

use clap::{Args, ValueEnum};
use tokio::runtime;
use translate::{Bind, Change, Classes, Mesh, Pinned, References, Settings};
use watch::{Complaint, Wanted};

use super::{
    cluster::ClusterArguments,
    source::{Chosen, SourceArguments},
};
use crate::objects::{self, Cluster};

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

/// What of a cluster a command needs to know; of a directory everything is read in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needed {
    /// What decides about requests.
    Requests,
    /// And the ConfigMaps that change what runs the proxies.
    Proxies,
}

impl MeshArguments {
    /// The mesh of a directory or, as it is now, of a cluster: its settings, its objects, and what is wrong
    /// with them.
    pub(super) fn read(
        &self,
        source: SourceArguments,
        needed: Needed,
    ) -> anyhow::Result<(Settings, Vec<Change>, Vec<Complaint>)> {
        match source.chosen() {
            Chosen::Directory(directory) => {
                let settings = self.settings(Bind::GatewayAddress);
                let wanted = Wanted::by_reference([settings.mesh_config()]);
                let (objects, complaints) = watch::read_directory(directory, &wanted)?;
                let settings = settings.adopting(&objects);
                Ok((settings, objects.into_iter().map(Change::Set).collect(), complaints))
            }
            Chosen::Cluster(cluster) => {
                let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(self.read_cluster(cluster, needed))
            }
        }
    }

    async fn read_cluster(
        &self,
        cluster: ClusterArguments,
        needed: Needed,
    ) -> anyhow::Result<(Settings, Vec<Change>, Vec<Complaint>)> {
        let Cluster { client, .. } = cluster.by_kubeconfig().await?;
        let settings = Settings { references: References::Followed, ..self.settings(Bind::Everywhere) };
        let wanted = match needed {
            Needed::Requests => Wanted::by_reference([settings.mesh_config()]),
            Needed::Proxies => objects::wanted(&settings),
        };
        let (objects, complaints) = watch::read_cluster(client.clone(), &wanted).await?;
        let settings = settings.adopting(&objects);
        let mut changes: Vec<_> = objects.into_iter().map(Change::Set).collect();
        match needed {
            Needed::Requests => {}
            Needed::Proxies => {
                // To what Gateways refer is known once they are.
                let asked = Mesh::new(settings.clone()).commit(changes.iter().cloned()).config_maps;
                let asked = asked.into_iter().filter_map(|(object, wanted)| wanted.then_some(object));
                changes.extend(watch::read_asked(client, asked).await);
            }
        }
        Ok((settings, changes, complaints))
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
