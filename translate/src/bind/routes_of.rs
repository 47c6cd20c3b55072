//! How requests to a service port are routed, behind its waypoint: the matches in the order in which
//! they are tried, each with where it leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proto::{Kind, Name, ObjectRef};

use super::{
    addressed::Addressed,
    applied_route::{self, AppliedRoute},
    by_name::{self, Connections},
    resolved_route::{Forward, ResolvedRoute, Share},
    waypoint_of::WaypointOf,
};
use crate::{
    derive::{Derived, Reads, Row},
    mesh::{
        name::{PortKey, RuleKey, RuleOf, ServiceKey},
        protocol::Protocol,
    },
    route::{matches::HttpMatch, precedence::Precedence, rule::takes_connections},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RoutesOf {
    /// What the port says it speaks, unless a route of connections says better.
    pub(crate) protocol: Protocol,
    /// Where connections lead that are not HTTP.
    pub(crate) connections: Connections,
    /// Where connections lead whatever they carry, if a caller of that namespace opens them: routes of
    /// consumers.
    pub(crate) consumed: Vec<(Name, Connections)>,
    /// Routes of consumers: each group is for the callers of its own namespace, and they are asked
    /// for no other group.
    pub(crate) consumers: Vec<(Name, Vec<Routed>)>,
    /// Everybody else's, in the order of precedence. What none of them matches is not found.
    pub(crate) routes: Vec<Routed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Routed {
    /// As access logs show it: namespace, route and rule.
    pub(crate) name: String,
    pub(crate) found: HttpMatch,
    pub(crate) forward: Arc<Forward>,
    pub(crate) failure: Failure,
}

/// What a request gets whose share goes to a backend that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Failure {
    /// 500, as HTTPRoute demands.
    InternalServerError,
    /// 503, which a client of gRPC takes for UNAVAILABLE, as GRPCRoute demands.
    Unavailable,
}

impl RoutesOf {
    /// Without requests to route.
    const fn of_connections(connections: Connections, consumed: Vec<(Name, Connections)>) -> Self {
        Self { protocol: Protocol::Tcp, connections, consumed, consumers: Vec::new(), routes: Vec::new() }
    }

    /// Everybody's.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Routed> + Clone {
        self.consumers.iter().flat_map(|(_, routes)| routes).chain(&self.routes)
    }

    /// The service ports whose endpoints someone comes back to.
    fn kept(&self) -> BTreeSet<(ServiceKey, u16)> {
        let forwards = self.all().map(|routed| &*routed.forward);
        let kept = forwards.filter(|forward| forward.delivery.session.is_some());
        kept.flat_map(|forward| &forward.shares).filter_map(|share| share.backend.clone()).collect()
    }

    /// The rules whose backends are one cluster.
    fn merged(&self) -> impl Iterator<Item = &RuleOf> {
        self.all().filter_map(|routed| routed.forward.merged.as_ref())
    }

    /// Where requests of that rule lead, if some of these are of it.
    pub(crate) fn forward_of(&self, rule: &RuleOf) -> Option<&Forward> {
        self.all().map(|routed| &*routed.forward).find(|forward| forward.merged.as_ref() == Some(rule))
    }

    /// Whether it matters which namespace a caller is of.
    pub(crate) fn has_consumers(&self) -> bool {
        !self.consumers.is_empty() || !self.consumed.is_empty()
    }

    /// The service ports that requests may end at.
    fn backends(&self) -> BTreeSet<(ServiceKey, u16)> {
        let requests = self.all().map(|routed| &*routed.forward);
        let everyones = match self.protocol {
            Protocol::Tcp | Protocol::Sniffed => Some(&self.connections),
            Protocol::Http => None,
        };
        let connections = everyones.into_iter().chain(self.consumed.iter().map(|(_, theirs)| theirs));
        let connections = connections.flat_map(Connections::forwards);
        requests.chain(connections).flat_map(Forward::backends).cloned().collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Bucket {
    /// Those by which some request may end at that service port, behind that waypoint.
    EndsAt(PortKey),
    /// Those by which some request may end at the backends of that rule, taken together.
    Merges(RuleKey),
    /// Those of them that lead who comes back to the same endpoint again.
    Keeps(PortKey),
}

impl Row for RoutesOf {
    const TABLE: &'static str = "routes of";
    type Key = PortKey;
    type Bucket = Bucket;

    fn buckets(key: &PortKey, row: &Self) -> Vec<Bucket> {
        let at = |(service, port)| PortKey::new(&key.waypoint, &service, port);
        let backends = row.backends().into_iter().map(at).map(Bucket::EndsAt);
        let kept = row.kept().into_iter().map(at).map(Bucket::Keeps);
        let merged = row.merged().map(|rule| RuleKey { waypoint: key.waypoint.clone(), rule: rule.clone() });
        backends.chain(kept).chain(merged.map(Bucket::Merges)).collect()
    }
}

/// `None` if the service has no such port or is not bound to that waypoint.
pub(crate) fn bind(
    reads: &Reads,
    addressed: Addressed<'_>,
    waypoint_of: &Derived<WaypointOf>,
    resolved: &Derived<ResolvedRoute>,
    applied: &Derived<AppliedRoute>,
    key: &PortKey,
) -> Option<RoutesOf> {
    if !waypoint_of.get(reads, &key.service)?.is_served_by(&key.waypoint) {
        return None;
    }
    let protocol = addressed.get(reads, &key.service)?.port(key.port)?.protocol;
    let own = Share { weight: 1, backend: Some((key.service.clone(), key.port)), filters: Vec::new() };
    let own = Arc::new(Forward { shares: vec![own], ..Forward::default() });
    let on_service = applied.bucket(reads, &applied_route::Bucket::Service(key.service.clone()));
    let on_port = on_service.filter(|(_, applied)| applied.applies_to(&key.service, key.port));
    let mut routes: Vec<_> =
        on_port.filter_map(|(name, _)| Some((name, resolved.get(reads, name)?))).collect();
    // Only the callers of a consumer's namespace take its routes.
    let of_consumer =
        |name: &ObjectRef| takes_connections(name.kind) && name.namespace != key.service.namespace;
    let mut consumed: BTreeMap<Name, Vec<_>> = BTreeMap::new();
    for route in routes.iter().filter(|(name, _)| of_consumer(name)) {
        consumed.entry(route.0.namespace.clone()).or_default().push(*route);
    }
    let consumed =
        consumed.into_iter().map(|(namespace, routes)| (namespace, by_name::merge(routes))).collect();
    routes.retain(|(name, _)| !of_consumer(name));
    // The more specific parent counts: what is said of a waypoint as a whole is for the ports that
    // nothing is said of. A pod or machine at its own address is no service and has no routes at all.
    let said = routes.iter().any(|(name, _)| name.namespace == key.service.namespace);
    let mut at_gateway = Vec::new();
    if !said && !key.service.origin.is_workload() {
        let bucket = applied.bucket(reads, &applied_route::Bucket::Gateway(key.waypoint.clone()));
        let suits = |name: &ObjectRef| takes_connections(name.kind) == (protocol == Protocol::Tcp);
        at_gateway.extend(
            bucket
                .filter(|(name, _)| suits(name))
                .filter_map(|(name, _)| Some((name, resolved.get(reads, name)?))),
        );
        routes.extend(at_gateway.iter().filter(|(name, _)| takes_connections(name.kind)));
    }
    let of_connections: Vec<_> =
        routes.iter().copied().filter(|(name, _)| takes_connections(name.kind)).collect();
    if !of_connections.is_empty() {
        return Some(RoutesOf::of_connections(by_name::merge(of_connections), consumed));
    }
    if !protocol.may_be_http() {
        return Some(RoutesOf::of_connections(Connections::to(own), consumed));
    }
    // GEP-1426: "Requests from a namespace with consumer routes will utilize the (possibly merged)
    // set of routes in the consumer namespace. Requests from other namespaces will utilize the
    // (possibly merged) set of routes in the producer namespace." So a group stands alone: what no
    // rule of it matches is not found, whatever the producer's routes say.
    let mut groups: BTreeMap<Name, Vec<(Precedence, Routed)>> = BTreeMap::new();
    for (name, route) in routes {
        groups.entry(name.namespace.clone()).or_default().extend(routed(name, route));
    }
    let producers = groups.remove(&key.service.namespace).or_else(|| {
        (!at_gateway.is_empty())
            .then(|| at_gateway.iter().flat_map(|(name, route)| routed(name, route)).collect())
    });
    Some(RoutesOf {
        protocol,
        connections: Connections::to(Arc::clone(&own)),
        consumed,
        consumers: groups.into_iter().map(|(namespace, routes)| (namespace, in_order(routes))).collect(),
        routes: producers.map_or_else(|| vec![default(own)], in_order),
    })
}

fn routed(name: &ObjectRef, route: &ResolvedRoute) -> Vec<(Precedence, Routed)> {
    let mut routes = Vec::new();
    let failure =
        if name.kind == Kind::GRPCRoute { Failure::Unavailable } else { Failure::InternalServerError };
    for (index, rule) in route.rules.iter().enumerate() {
        for (nth, (rank, found)) in rule.matches.iter().enumerate() {
            routes.push((
                Precedence::of(rank, route.created, name, index, nth),
                Routed {
                    name: format!("{}/{}/{}", name.namespace, name.name, rule.name),
                    found: found.clone(),
                    forward: Arc::clone(&rule.forward),
                    failure,
                },
            ));
        }
    }
    routes
}

fn in_order(mut routes: Vec<(Precedence, Routed)>) -> Vec<Routed> {
    routes.sort_by(|one, other| one.0.cmp(&other.0));
    routes.into_iter().map(|(_, routed)| routed).collect()
}

/// Without routes, all requests go to the service that was asked.
fn default(own: Arc<Forward>) -> Routed {
    Routed {
        name: "default".to_owned(),
        found: HttpMatch::everything(),
        forward: own,
        failure: Failure::InternalServerError,
    }
}

impl Derived<RoutesOf> {
    /// The merged clusters that the routes of a port may end at now, for finding keys only.
    pub(crate) fn merged(&self, key: &PortKey) -> Vec<RuleKey> {
        let row = self.untracked().get(key).into_iter();
        row.flat_map(|row| row.merged())
            .map(|rule| RuleKey { waypoint: key.waypoint.clone(), rule: rule.clone() })
            .collect()
    }

    /// The clusters that the routes of a port may end at now, for finding keys only.
    pub(crate) fn backends(&self, key: &PortKey) -> Vec<PortKey> {
        let row = self.untracked().get(key).into_iter();
        row.flat_map(|row| row.backends())
            .map(|(service, port)| PortKey::new(&key.waypoint, &service, port))
            .collect()
    }
}
