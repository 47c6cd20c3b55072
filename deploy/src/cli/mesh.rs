//! The settings of a mesh on the command line.

use clap::{Args, ValueEnum};
use translate::{Bind, Settings};

/// What holds for the whole mesh.
#[derive(Clone, Debug, Args)]
pub(super) struct MeshArguments {
    /// The trust domain: the host part of every SPIFFE identity
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    trust_domain: String,
    /// The DNS suffix of Services
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// The namespace whose policies hold for the whole mesh
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    root_namespace: String,
    /// Where the proxies of a waypoint listen
    #[arg(long, value_enum, default_value = "gateway-address")]
    bind: BindArgument,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BindArgument {
    /// On the address in the Gateway's spec.addresses: the proxies share one machine
    GatewayAddress,
    /// On every address: each proxy has a network of its own, as a pod has
    Everywhere,
}

impl MeshArguments {
    /// The settings that were asked for.
    pub(super) fn settings(&self) -> Settings {
        let Self { trust_domain, cluster_domain, root_namespace, bind } = self;
        Settings {
            trust_domain: trust_domain.as_str().into(),
            cluster_domain: cluster_domain.as_str().into(),
            root_namespace: root_namespace.as_str().into(),
            bind: match bind {
                BindArgument::GatewayAddress => Bind::GatewayAddress,
                BindArgument::Everywhere => Bind::Everywhere,
            },
        }
    }
}
