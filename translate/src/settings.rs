//! What an operator may set. Fixed for the life of a process, so no derivation has to record reading it.

use proto::Name;

/// Where the proxies of a waypoint listen for tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// On every address of the machine: each proxy has a network of its own, as a pod has.
    Everywhere,
    /// On the address that the Gateway asks for in `spec.addresses`, everywhere if it asks for none:
    /// the proxies share one machine.
    GatewayAddress,
}

/// The settings of a mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The mesh's trust domain: the host part of every SPIFFE identity in it.
    pub trust_domain: Name,
    /// The DNS suffix of Services, as in `web.default.svc.cluster.local`.
    pub cluster_domain: Name,
    /// The namespace whose policies may govern a whole class of waypoints.
    pub root_namespace: Name,
    /// Where proxies listen.
    pub bind: Bind,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".into(),
            cluster_domain: "cluster.local".into(),
            root_namespace: "istio-system".into(),
            bind: Bind::Everywhere,
        }
    }
}
