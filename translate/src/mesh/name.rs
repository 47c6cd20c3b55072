//! Names that several nouns share: an object within its kind, a port of a service, an address on the wire.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use proto::{Kind, Name, ObjectRef, kubernetes::ObjectMeta};

/// An object within its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: Name,
    pub(crate) name: Name,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub(crate) fn of(reference: &ObjectRef) -> Self {
        Self { namespace: reference.namespace.clone(), name: reference.name.clone() }
    }

    pub(crate) fn reference(&self, kind: Kind) -> ObjectRef {
        ObjectRef { kind, namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// A port of a Service, as seen from one waypoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortKey {
    pub(crate) waypoint: Key,
    pub(crate) service: Key,
    pub(crate) port: u16,
}

impl PortKey {
    pub(crate) fn new(waypoint: &Key, service: &Key, port: u16) -> Self {
        Self { waypoint: waypoint.clone(), service: service.clone(), port }
    }

    /// The name of the port's RouteConfiguration, as in `bookinfo/reviews:9080`.
    pub(crate) fn route_name(&self) -> String {
        format!("{}:{}", self.service, self.port)
    }

    /// The name of the port's Cluster, as in `outbound|9080||reviews.bookinfo.svc.cluster.local`.
    pub(crate) fn cluster_name(&self, cluster_domain: &str) -> String {
        format!("outbound|{}||{}", self.port, host(&self.service, cluster_domain))
    }
}

/// An address that callers dial, as seen from one waypoint. It prints as the `:authority` of a
/// tunnel does (IPv6 in brackets), because that string is what the waypoint dispatches on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AddressKey {
    pub(crate) waypoint: Key,
    pub(crate) address: SocketAddr,
}

impl AddressKey {
    pub(crate) fn new(waypoint: &Key, ip: IpAddr, port: u16) -> Self {
        Self { waypoint: waypoint.clone(), address: SocketAddr::new(ip, port) }
    }
}

/// The DNS name of a Service.
pub(crate) fn host(service: &Key, cluster_domain: &str) -> String {
    format!("{}.{}.svc.{cluster_domain}", service.name, service.namespace)
}

/// When an object was created, in seconds since 1970, for the rules that prefer the oldest.
///
/// An object without a time is younger than every object with one: it was never in a cluster.
pub(crate) fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second())
}
