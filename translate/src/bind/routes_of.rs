//! How requests to a service port are routed, behind its waypoint: the matches in the order in which
//! they are tried, each with where it leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proto::{Name, ObjectRef};

use super::{
    addressed::Addressed,
    resolved_route::{Bucket, Forward, ResolvedRoute, Share},
    waypoint_of::WaypointOf,
};
use crate::{
    derive::{Derived, Reads, Row},
    mesh::{
        name::{PortKey, ServiceKey},
        protocol::Protocol,
    },
    route::{matches::HttpMatch, precedence::Precedence},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RoutesOf {
    pub(crate) protocol: Protocol,
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
}

impl RoutesOf {
    /// The service ports that requests may end at.
    fn backends(&self, own: &PortKey) -> BTreeSet<(ServiceKey, u16)> {
        let consumers = self.consumers.iter().flat_map(|(_, routes)| routes);
        let routes = consumers.chain(&self.routes);
        let named = routes.flat_map(|routed| &routed.forward.0).filter_map(|share| share.backend.clone());
        // What turns out not to be HTTP is not routed.
        let unrouted = match self.protocol {
            Protocol::Tcp | Protocol::Sniffed => Some((own.service.clone(), own.port)),
            Protocol::Http => None,
        };
        named.chain(unrouted).collect()
    }
}

impl Row for RoutesOf {
    const TABLE: &'static str = "routes of";
    type Key = PortKey;
    /// A service port that some request may end at, behind that waypoint.
    type Bucket = PortKey;

    fn buckets(key: &PortKey, row: &Self) -> Vec<PortKey> {
        let backends = row.backends(key).into_iter();
        backends.map(|(service, port)| PortKey::new(&key.waypoint, &service, port)).collect()
    }
}

/// `None` if the service has no such port or is not bound to that waypoint.
pub(crate) fn bind(
    reads: &Reads,
    addressed: Addressed<'_>,
    waypoint_of: &Derived<WaypointOf>,
    resolved: &Derived<ResolvedRoute>,
    key: &PortKey,
) -> Option<RoutesOf> {
    if !waypoint_of.get(reads, &key.service)?.is_served_by(&key.waypoint) {
        return None;
    }
    let protocol = addressed.get(reads, &key.service)?.port(key.port)?.protocol;
    if !protocol.may_be_http() {
        return Some(RoutesOf { protocol, consumers: Vec::new(), routes: Vec::new() });
    }
    // GEP-1426: "Requests from a namespace with consumer routes will utilize the (possibly merged)
    // set of routes in the consumer namespace. Requests from other namespaces will utilize the
    // (possibly merged) set of routes in the producer namespace." So a group stands alone: what no
    // rule of it matches is not found, whatever the producer's routes say.
    let mut groups: BTreeMap<Name, Vec<(Precedence, Routed)>> = BTreeMap::new();
    for (name, route) in resolved.bucket(reads, &Bucket::Service(key.service.clone())) {
        let mut parents = route.parents.iter().filter_map(|parent| parent.attached.as_ref().ok());
        if parents.any(|parent| parent.service == key.service && parent.ports.contains(&key.port)) {
            groups.entry(name.namespace.clone()).or_default().extend(routed(name, route));
        }
    }
    let producers = groups.remove(&key.service.namespace);
    Some(RoutesOf {
        protocol,
        consumers: groups.into_iter().map(|(namespace, routes)| (namespace, in_order(routes))).collect(),
        routes: producers.map_or_else(|| vec![default(key)], in_order),
    })
}

fn routed(name: &ObjectRef, route: &ResolvedRoute) -> Vec<(Precedence, Routed)> {
    let mut routes = Vec::new();
    for (index, rule) in route.rules.iter().enumerate() {
        for (nth, found) in rule.matches.iter().enumerate() {
            routes.push((
                Precedence::of(found, route.created, name, index, nth),
                Routed {
                    name: format!("{}/{}/{}", name.namespace, name.name, rule.name),
                    found: found.clone(),
                    forward: Arc::clone(&rule.forward),
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
fn default(key: &PortKey) -> Routed {
    let own = Share { weight: 1, backend: Some((key.service.clone(), key.port)) };
    Routed {
        name: "default".to_owned(),
        found: HttpMatch::everything(),
        forward: Arc::new(Forward(vec![own])),
    }
}

impl Derived<RoutesOf> {
    /// The clusters that the routes of a port may end at now, for finding keys only.
    pub(crate) fn backends(&self, key: &PortKey) -> Vec<PortKey> {
        self.untracked().get(key).map(|row| RoutesOf::buckets(key, row)).unwrap_or_default()
    }
}
