//! Where we are ourselves in a cluster.

use std::net::IpAddr;

use proto::Name;

/// The namespace that we are in unless something says otherwise.
pub const NAMESPACE: &str = "portolan-system";

/// Our own place, as the downward API tells it. Outside of a pod there is only the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where what belongs to us is: our Service, our Lease.
    pub namespace: Name,
    /// Our pod.
    pub pod: Option<Name>,
    /// Where other pods reach ours.
    pub ip: Option<IpAddr>,
}
