//! The joins in the order in which they follow from one another.

use crate::{
    bind::{
        policies_of::{self, PoliciesOf},
        resolved_route::{self, ResolvedRoute},
        routes_of::{self, RoutesOf},
        waypoint_of::{self, WaypointOf},
    },
    derive::{Derived, Touched},
    inputs::Inputs,
    mesh::name::{Key, PortKey, ServiceKey},
};

#[derive(Default)]
pub(crate) struct Bindings {
    pub(crate) waypoint_of: Derived<WaypointOf>,
    pub(crate) resolved_routes: Derived<ResolvedRoute>,
    pub(crate) routes_of: Derived<RoutesOf>,
    pub(crate) policies_of: Derived<PoliciesOf>,
}

impl Bindings {
    pub(crate) fn update(&mut self, touched: &mut Touched, inputs: &Inputs) {
        let Self { waypoint_of, resolved_routes, routes_of, policies_of } = self;

        waypoint_of.update(
            touched,
            inputs.services.changed().iter().cloned(),
            |service| inputs.known_service(service).is_some(),
            |reads, service| waypoint_of::bind(reads, inputs, service),
        );
        let waypoint_of = &*waypoint_of;

        resolved_routes.update(
            touched,
            inputs.routes.changed().iter().cloned(),
            |route| inputs.routes.untracked().contains_key(route),
            |reads, route| resolved_route::bind(reads, inputs, waypoint_of, route),
        );
        let resolved_routes = &*resolved_routes;

        let rebound = || inputs.services.changed().iter().chain(waypoint_of.changed());
        routes_of.update(
            touched,
            rebound().flat_map(|service| ports(inputs, waypoint_of, service)),
            |key| is_bound(inputs, waypoint_of, key),
            |reads, key| routes_of::bind(reads, inputs, waypoint_of, resolved_routes, key),
        );
        policies_of.update(
            touched,
            rebound().flat_map(|service| {
                serving(waypoint_of, service).map(|waypoint| (waypoint.clone(), service.clone()))
            }),
            |(waypoint, service)| serving(waypoint_of, service).any(|serving| serving == waypoint),
            |reads, key| policies_of::bind(reads, inputs, waypoint_of, key),
        );
    }
}

/// The waypoints of a service, for finding keys only.
pub(crate) fn serving<'t>(
    waypoint_of: &'t Derived<WaypointOf>,
    service: &ServiceKey,
) -> impl Iterator<Item = &'t Key> + use<'t> {
    waypoint_of.untracked().get(service).into_iter().flat_map(|row| row.serving())
}

/// The ports of a service behind its waypoints, for finding keys only.
pub(crate) fn ports<'t>(
    inputs: &'t Inputs,
    waypoint_of: &'t Derived<WaypointOf>,
    service: &'t ServiceKey,
) -> impl Iterator<Item = PortKey> + 't {
    let ports = inputs.known_service(service).into_iter().flat_map(|row| &row.ports);
    serving(waypoint_of, service)
        .flat_map(move |waypoint| ports.clone().map(move |port| PortKey::new(waypoint, service, port.number)))
}

fn is_bound(inputs: &Inputs, waypoint_of: &Derived<WaypointOf>, key: &PortKey) -> bool {
    serving(waypoint_of, &key.service).any(|waypoint| *waypoint == key.waypoint)
        && inputs.known_service(&key.service).is_some_and(|service| service.port(key.port).is_some())
}
