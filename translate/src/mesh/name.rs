//! Names that several nouns share: an object within its kind, a port of a service, an address on the wire.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use proto::{Kind, Name, ObjectRef, kubernetes::ObjectMeta};

use crate::change::Audience;

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

impl From<Audience> for Key {
    /// The Gateway of the waypoint.
    fn from(Audience { namespace, name }: Audience) -> Self {
        Self { namespace, name }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// Something that callers dial by an address of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServiceKey {
    pub(crate) namespace: Name,
    /// Where it comes from: names are unique within a namespace and an origin only.
    pub(crate) origin: Origin,
    /// The object's name for a Service, the host for an entry.
    pub(crate) name: Name,
}

/// Who declared a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Origin {
    /// A Service of Kubernetes.
    Kubernetes,
    /// A pod, dialled at its own address.
    Pod,
    /// A host of a ServiceEntry of Istio. Two namespaces may declare one host, each its own way.
    Entry,
    /// A machine, dialled at its own address, that a WorkloadEntry of Istio declares.
    Machine,
}

impl Origin {
    /// Whether it is dialled at its own address: it is no service, and nothing is said of it as of one.
    pub(crate) const fn is_workload(self) -> bool {
        match self {
            Self::Pod | Self::Machine => true,
            Self::Kubernetes | Self::Entry => false,
        }
    }
}

impl ServiceKey {
    /// The Service of that name.
    pub(crate) fn kubernetes(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), origin: Origin::Kubernetes, name: name.into() }
    }

    /// The pod of that name.
    pub(crate) fn pod(key: &Key) -> Self {
        Self { namespace: key.namespace.clone(), origin: Origin::Pod, name: key.name.clone() }
    }

    /// The machine of the WorkloadEntry of that name.
    pub(crate) fn machine(key: &Key) -> Self {
        Self { namespace: key.namespace.clone(), origin: Origin::Machine, name: key.name.clone() }
    }

    /// The object that declares it, within its kind. An entry's host is no object: its row knows.
    pub(crate) fn object(&self) -> Key {
        Key { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// The host, as a ServiceEntry of that namespace declares it.
    pub(crate) fn entry(namespace: &str, host: &str) -> Self {
        Self { namespace: namespace.into(), origin: Origin::Entry, name: host.into() }
    }

    /// Its DNS name.
    pub(crate) fn host(&self, cluster_domain: &str) -> String {
        match self.origin {
            Origin::Kubernetes => format!("{}.{}.svc.{cluster_domain}", self.name, self.namespace),
            Origin::Pod => format!("{}.{}.pod.{cluster_domain}", self.name, self.namespace),
            Origin::Machine => format!("{}.{}.workloadentry.{cluster_domain}", self.name, self.namespace),
            Origin::Entry => self.name.to_string(),
        }
    }
}

impl From<Key> for ServiceKey {
    /// The Service of that name.
    fn from(key: Key) -> Self {
        Self { namespace: key.namespace, origin: Origin::Kubernetes, name: key.name }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Kubernetes => write!(out, "{}/{}", self.namespace, self.name),
            // No Service has a slash in its name.
            Origin::Pod => write!(out, "{}/pods/{}", self.namespace, self.name),
            Origin::Machine => write!(out, "{}/workloadentries/{}", self.namespace, self.name),
            Origin::Entry => write!(out, "{}/hosts/{}", self.namespace, self.name),
        }
    }
}

/// Stands for every port of a pod of which nobody says anything. No port has the number.
pub(crate) const ANY_PORT: u16 = 0;

/// A port of a service, as seen from one waypoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PortKey {
    pub(crate) waypoint: Key,
    pub(crate) service: ServiceKey,
    pub(crate) port: u16,
}

impl PortKey {
    pub(crate) fn new(waypoint: &Key, service: &ServiceKey, port: u16) -> Self {
        Self { waypoint: waypoint.clone(), service: service.clone(), port }
    }

    /// The name of the port's RouteConfiguration, as in `bookinfo/reviews:9080`.
    pub(crate) fn route_name(&self) -> String {
        format!("{}:{}", self.service, Number(self.port))
    }

    /// The name of the port's Cluster, as in `outbound|9080||reviews.bookinfo.svc.cluster.local`, and
    /// `outbound|443||api.example.com|egress` for a host that any namespace may declare.
    pub(crate) fn cluster_name(&self, cluster_domain: &str) -> String {
        let ServiceKey { namespace, origin, name: _ } = &self.service;
        let host = self.service.host(cluster_domain);
        let port = Number(self.port);
        match origin {
            Origin::Kubernetes | Origin::Pod | Origin::Machine => format!("outbound|{port}||{host}"),
            Origin::Entry => format!("outbound|{port}||{host}|{namespace}"),
        }
    }
}

/// The backends of a route's rule, taken together, as seen from one waypoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RuleKey {
    pub(crate) waypoint: Key,
    pub(crate) rule: RuleOf,
}

/// A rule, by its place in its route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RuleOf {
    pub(crate) route: ObjectRef,
    pub(crate) index: usize,
}

impl RuleKey {
    /// The name of the Cluster of all backends, as in `merged|HTTPRoute|bookinfo/reviews|0`.
    pub(crate) fn cluster_name(&self) -> String {
        let RuleOf { route: ObjectRef { kind, namespace, name }, index } = &self.rule;
        format!("merged|{}|{namespace}/{name}|{index}", kind.name())
    }
}

/// A port in a name.
struct Number(u16);

impl fmt::Display for Number {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == ANY_PORT { out.write_str("*") } else { self.0.fmt(out) }
    }
}

/// What a waypoint dispatches tunnels by: the keys of its scopes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ScopeKey {
    pub(crate) waypoint: Key,
    pub(crate) dialled: Dialled,
}

/// What of an address was enough to know what is there. The most specific is tried first. It prints as
/// Envoy prints addresses, IPv6 with a port in brackets, because that is what is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Dialled {
    /// That address and port.
    At(SocketAddr),
    /// That address, at a port of which nobody says anything.
    Host(IpAddr),
    /// A port of a service, at an address in one of its blocks.
    Within(ServiceKey, u16),
    /// Any other address: the blocks tell.
    Elsewhere,
}

impl Dialled {
    /// That port of something that has that address.
    pub(crate) fn at(ip: IpAddr, port: u16) -> Self {
        if port == ANY_PORT { Self::Host(ip) } else { Self::At(SocketAddr::new(ip, port)) }
    }
}

/// When an object was created, in seconds since 1970, for the rules that prefer the oldest.
///
/// An object without a time is younger than every object with one: it was never in a cluster.
pub(crate) fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second())
}
