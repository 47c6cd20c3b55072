//! Which routes apply where they are attached: on one port of a service, routes of one kind do.

use std::{collections::BTreeMap, sync::Arc};

use proto::{Kind, Name, ObjectRef};

use super::{
    resolved_parent::{Attached, AttachedService},
    resolved_route::{self, ResolvedRoute},
};
use crate::{
    derive::{Derived, Reads, Row},
    mesh::name::{Key, ServiceKey},
    route::rule::takes_connections,
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AppliedRoute {
    /// Every port that the route is attached to, and the route that has it instead.
    pub(crate) ports: BTreeMap<(ServiceKey, u16), Option<ObjectRef>>,
    /// Every waypoint that it is attached to as a whole, and the route that is there instead.
    pub(crate) gateways: BTreeMap<Key, Option<ObjectRef>>,
    /// The waypoints that apply it to some port.
    waypoints: Vec<Key>,
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
        let services = row.ports.iter().filter(|(_, rival)| rival.is_none());
        let services = services.map(|((service, _), _)| Bucket::Service(service.clone()));
        let gateways = row.gateways.iter().filter(|(_, rival)| rival.is_none());
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
        self.ports.get(&(service.clone(), port)).is_some_and(Option::is_none)
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
                        let rival = rival(reads, resolved, key, service, *port);
                        if rival.is_none() && route.refused.is_none() {
                            applied.waypoints.extend(waypoints.iter().cloned());
                        }
                        applied.ports.insert((service.clone(), *port), rival);
                    }
                }
            }
            Attached::Gateway(gateway) => {
                let rival = rival_at_gateway(reads, resolved, key, gateway);
                if rival.is_none() && route.refused.is_none() {
                    applied.waypoints.push(gateway.clone());
                }
                applied.gateways.insert(gateway.clone(), rival);
            }
        }
    }
    Some(applied)
}

/// Routes of requests and routes of connections do not meet there: each kind has ports of its own.
fn rival_at_gateway(
    reads: &Reads,
    resolved: &Derived<ResolvedRoute>,
    key: &ObjectRef,
    gateway: &Key,
) -> Option<ObjectRef> {
    let bucket = resolved_route::Bucket::Gateway(gateway.clone());
    let alike = resolved
        .bucket(reads, &bucket)
        .filter(|(name, _)| takes_connections(name.kind) == takes_connections(key.kind));
    first_of(alike).filter(|winner| beats(winner, key))
}

/// GEP-1426: "If multiple routes with different types both bind to the same Service and Port pair,
/// only a single route type should be applied." That holds among the routes of one namespace: a
/// consumer must not be able to put the producer's routes out of force for others. But what a port
/// speaks is the producer's word: where a route of theirs takes the connections, there are no requests to route.
fn rival(
    reads: &Reads,
    resolved: &Derived<ResolvedRoute>,
    key: &ObjectRef,
    service: &ServiceKey,
    port: u16,
) -> Option<ObjectRef> {
    let own = first(reads, resolved, &key.namespace, service, port);
    own.filter(|winner| beats(winner, key)).or_else(|| {
        let producer = first(reads, resolved, &service.namespace, service, port);
        producer.filter(|winner| key.namespace != service.namespace && takes_connections(winner.kind))
    })
}

/// Of the routes of a namespace on that port the most specific, and of those the oldest.
fn first(
    reads: &Reads,
    resolved: &Derived<ResolvedRoute>,
    namespace: &Name,
    service: &ServiceKey,
    port: u16,
) -> Option<ObjectRef> {
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
    first_of(on_port)
}

/// A route that cannot be applied comes after all that can.
fn first_of<'t>(routes: impl Iterator<Item = (&'t ObjectRef, &'t Arc<ResolvedRoute>)>) -> Option<ObjectRef> {
    let first = routes.min_by_key(|(name, route)| {
        (
            route.refused.is_some(),
            specificity(name.kind),
            route.created,
            name.namespace.clone(),
            name.name.clone(),
        )
    });
    first.map(|(name, _)| name.clone())
}

/// Whether the first of several routes leaves nothing for that one.
fn beats(first: &ObjectRef, other: &ObjectRef) -> bool {
    first.kind != other.kind || (takes_connections(other.kind) && first != other)
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
        | Kind::Gateway
        | Kind::ReferenceGrant
        | Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::AuthorizationPolicy => u8::MAX,
    }
}
