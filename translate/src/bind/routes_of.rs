//! How requests to a service port are routed, behind its waypoint: the matches in the order in which
//! they are tried, each with where it leads.

use std::{collections::BTreeSet, sync::Arc};

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
    /// In the order of precedence. What none of them matches is not found.
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
        let named =
            self.routes.iter().flat_map(|routed| &routed.forward.0).filter_map(|share| share.backend.clone());
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
        return Some(RoutesOf { protocol, routes: Vec::new() });
    }
    let mut routes = Vec::new();
    let mut attached = false;
    for (name, route) in resolved.bucket(reads, &Bucket::Service(key.service.clone())) {
        let parents = route.parents.iter().filter_map(|parent| parent.attached.as_ref().ok());
        if !parents
            .into_iter()
            .any(|parent| parent.service == key.service && parent.ports.contains(&key.port))
        {
            continue;
        }
        attached = true;
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
    }
    if !attached {
        return Some(RoutesOf { protocol, routes: vec![default(key)] });
    }
    routes.sort_by(|one, other| one.0.cmp(&other.0));
    Some(RoutesOf { protocol, routes: routes.into_iter().map(|(_, routed)| routed).collect() })
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
