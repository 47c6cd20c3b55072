//! Which routes apply where they are attached: on one port of a service, routes of one kind do, and of
//! those that take connections one for each name that is asked for.

use std::{collections::BTreeMap, sync::Arc};

use proto::{Kind, Name, ObjectRef};

use super::{
    resolved_parent::{Attached, AttachedService},
    resolved_route::{self, ResolvedRoute},
};
use crate::{
    derive::{Derived, Reads, Row},
    mesh::name::{Key, ServiceKey},
    route::{hostname::Hostname, rule::takes_connections},
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AppliedRoute {
    /// Every port that the route is attached to.
    pub(crate) ports: BTreeMap<(ServiceKey, u16), Force>,
    /// Every waypoint that it is attached to as a whole.
    pub(crate) gateways: BTreeMap<Key, Force>,
    /// The waypoints that apply it to some port.
    waypoints: Vec<Key>,
}

/// What of a route is in force at a place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Force {
    All,
    /// All but these names, each with the route that has it.
    Without(BTreeMap<Hostname, ObjectRef>),
    /// Nothing; that route is there instead.
    Nothing(ObjectRef),
}

impl Force {
    const fn is_nothing(&self) -> bool {
        match self {
            Self::Nothing(_) => true,
            Self::All | Self::Without(_) => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Bucket {
    /// Routes that apply to some port of that service.
    Service(ServiceKey),
    /// Routes that apply to a waypoint as a whole.
    Gateway(Key),
    /// Routes that apply to something behind that waypoint.
    Waypoint(Key),
}

impl Row for AppliedRoute {
    const TABLE: &'static str = "applied route";
    type Key = ObjectRef;
    type Bucket = Bucket;

    fn buckets(_key: &ObjectRef, row: &Self) -> Vec<Bucket> {
        let services = row.ports.iter().filter(|(_, force)| !force.is_nothing());
        let services = services.map(|((service, _), _)| Bucket::Service(service.clone()));
        let gateways = row.gateways.iter().filter(|(_, force)| !force.is_nothing());
        let gateways = gateways.map(|(gateway, _)| Bucket::Gateway(gateway.clone()));
        let waypoints = row.waypoints.iter().cloned().map(Bucket::Waypoint);
        let mut buckets: Vec<Bucket> = services.chain(gateways).chain(waypoints).collect();
        buckets.sort_unstable();
        buckets.dedup();
        buckets
    }
}

impl AppliedRoute {
    pub(crate) fn applies_to(&self, service: &ServiceKey, port: u16) -> bool {
        self.ports.get(&(service.clone(), port)).is_some_and(|force| !force.is_nothing())
    }
}

/// `None` if the route is gone.
pub(crate) fn bind(
    reads: &Reads,
    resolved: &Derived<ResolvedRoute>,
    key: &ObjectRef,
) -> Option<AppliedRoute> {
    let route = resolved.get(reads, key)?;
    let mut applied =
        AppliedRoute { ports: BTreeMap::new(), gateways: BTreeMap::new(), waypoints: Vec::new() };
    for attached in route.parents.iter().filter_map(|parent| parent.attached.as_ref().ok()) {
        match attached {
            Attached::Services(services) => {
                for AttachedService { service, ports, waypoints } in services {
                    for port in ports {
                        let force = force(reads, resolved, (key, route), service, *port);
                        if !force.is_nothing() && route.refused.is_none() {
                            applied.waypoints.extend(waypoints.iter().cloned());
                        }
                        applied.ports.insert((service.clone(), *port), force);
                    }
                }
            }
            Attached::Gateway(gateway) => {
                let force = force_at_gateway(reads, resolved, (key, route), gateway);
                if !force.is_nothing() && route.refused.is_none() {
                    applied.waypoints.push(gateway.clone());
                }
                applied.gateways.insert(gateway.clone(), force);
            }
        }
    }
    Some(applied)
}

type Candidate<'t> = (&'t ObjectRef, &'t Arc<ResolvedRoute>);

/// Routes of requests and routes of connections do not meet there: each kind has ports of its own.
fn force_at_gateway(
    reads: &Reads,
    resolved: &Derived<ResolvedRoute>,
    route: Candidate<'_>,
    gateway: &Key,
) -> Force {
    let bucket = resolved_route::Bucket::Gateway(gateway.clone());
    let alike = resolved
        .bucket(reads, &bucket)
        .filter(|(name, _)| takes_connections(name.kind) == takes_connections(route.0.kind));
    among(&alike.collect::<Vec<_>>(), route)
}

/// GEP-1426: "If multiple routes with different types both bind to the same Service and Port pair,
/// only a single route type should be applied." That holds among the routes of one namespace: a
/// consumer must not be able to put the producer's routes out of force for others. But what a port
/// speaks is the producer's word: where a route of theirs takes the connections, there are no requests
/// to route, and where it takes the requests, there are no connections.
fn force(
    reads: &Reads,
    resolved: &Derived<ResolvedRoute>,
    route: Candidate<'_>,
    service: &ServiceKey,
    port: u16,
) -> Force {
    let key = route.0;
    let force = among(&on_port(reads, resolved, &key.namespace, service, port), route);
    if force.is_nothing() || key.namespace == service.namespace {
        return force;
    }
    let producer = first_of(on_port(reads, resolved, &service.namespace, service, port));
    let other = |winner: &ObjectRef| takes_connections(winner.kind) != takes_connections(key.kind);
    producer.filter(other).map_or(force, Force::Nothing)
}

/// The routes of a namespace on that port.
fn on_port<'t>(
    reads: &Reads,
    resolved: &'t Derived<ResolvedRoute>,
    namespace: &Name,
    service: &ServiceKey,
    port: u16,
) -> Vec<Candidate<'t>> {
    let bucket = resolved_route::Bucket::Service(service.clone());
    let on_port = resolved.bucket(reads, &bucket).filter(|(name, route)| {
        let mut attached = route.parents.iter().filter_map(|parent| parent.attached.as_ref().ok());
        name.namespace == *namespace
            && attached.any(|attached| match attached {
                Attached::Services(attached) => attached
                    .iter()
                    .any(|attached| attached.service == *service && attached.ports.contains(&port)),
                Attached::Gateway(_) => false,
            })
    });
    on_port.collect()
}

/// What the others that want the same place leave for a route. Routes of requests share it, to be
/// merged; of those that take connections the first has all, or all that ask for a name.
fn among(all: &[Candidate<'_>], (key, route): Candidate<'_>) -> Force {
    let Some(first) = first_of(all.iter().copied()).filter(|first| first.kind == key.kind) else {
        return first_of(all.iter().copied()).map_or(Force::All, Force::Nothing);
    };
    if !takes_connections(key.kind) {
        return Force::All;
    }
    let mut lost = BTreeMap::new();
    for name in names(route) {
        let claims = all.iter().copied().filter(|(other, claim)| other.kind == key.kind && has(claim, name));
        if let Some(winner) = first_of(claims).filter(|winner| winner != key) {
            lost.insert(name.cloned(), winner);
        }
    }
    if lost.len() == names(route).count() {
        return Force::Nothing(lost.into_values().next().unwrap_or(first));
    }
    let lost: BTreeMap<_, _> = lost.into_iter().filter_map(|(name, winner)| Some((name?, winner))).collect();
    if lost.is_empty() { Force::All } else { Force::Without(lost) }
}

/// What a route of connections takes: those that ask for its names, or all that nobody else takes.
pub(crate) fn names(route: &ResolvedRoute) -> impl Iterator<Item = Option<&Hostname>> {
    let rest = route.hostnames.is_empty().then_some(None);
    route.hostnames.iter().map(Some).chain(rest)
}

fn has(route: &ResolvedRoute, name: Option<&Hostname>) -> bool {
    name.map_or(route.hostnames.is_empty(), |name| route.hostnames.contains(name))
}

fn first_of<'t>(routes: impl IntoIterator<Item = Candidate<'t>>) -> Option<ObjectRef> {
    let first = routes.into_iter().min_by_key(|(name, route)| order(name, route));
    first.map(|(name, _)| name.clone())
}

/// Of several routes the most specific comes first, and of those the oldest. A route that cannot be
/// applied comes after all that can.
pub(crate) fn order(name: &ObjectRef, route: &ResolvedRoute) -> (bool, u8, i64, Name, Name) {
    (
        route.refused.is_some(),
        specificity(name.kind),
        route.created,
        name.namespace.clone(),
        name.name.clone(),
    )
}

/// GEP-1426: "Route type specificity is defined in the following order (first one wins):
/// 1. GRPCRoute 2. HTTPRoute 3. TLSRoute 4. TCPRoute".
const fn specificity(kind: Kind) -> u8 {
    match kind {
        Kind::GRPCRoute => 0,
        Kind::HTTPRoute => 1,
        Kind::TLSRoute => 2,
        Kind::TCPRoute => 3,
        Kind::Namespace
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Pod
        | Kind::ConfigMap
        | Kind::GatewayClass
        | Kind::Gateway
        | Kind::ReferenceGrant
        | Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::AuthorizationPolicy
        | Kind::RequestAuthentication => u8::MAX,
    }
}
