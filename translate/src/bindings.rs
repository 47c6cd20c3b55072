//! The joins in the order in which they follow from one another.

use crate::{
    bind::{
        addressed::{self, Addressed, DialledPod},
        applied_route::{self, AppliedRoute},
        block_port::{self, BlockPort},
        installation_of,
        policies_of::{self, PoliciesOf},
        resolved_route::{self, ResolvedRoute},
        routes_of::{self, RoutesOf},
        wanted_config_maps::{self, WantedConfigMap},
        wanted_keys::{self, Wanted},
        waypoint_of::{self, WaypointOf},
    },
    derive::{Derived, Touched},
    inputs::Inputs,
    installation::InstallationOf,
    mesh::name::{Key, Origin, PortKey, ServiceKey},
    settings::Settings,
};

#[derive(Default)]
pub(crate) struct Bindings {
    pub(crate) waypoint_of: Derived<WaypointOf>,
    pub(crate) pods: Derived<DialledPod>,
    pub(crate) block_ports: Derived<BlockPort>,
    pub(crate) resolved_routes: Derived<ResolvedRoute>,
    pub(crate) applied_routes: Derived<AppliedRoute>,
    pub(crate) routes_of: Derived<RoutesOf>,
    pub(crate) policies_of: Derived<PoliciesOf>,
    pub(crate) wanted_keys: Derived<Wanted>,
    pub(crate) installation_of: Derived<InstallationOf>,
    pub(crate) wanted_config_maps: Derived<WantedConfigMap>,
}

impl Bindings {
    pub(crate) fn update(&mut self, touched: &mut Touched, inputs: &Inputs, settings: &Settings) {
        let Self {
            waypoint_of,
            pods,
            block_ports,
            resolved_routes,
            applied_routes,
            routes_of,
            policies_of,
            wanted_keys,
            installation_of,
            wanted_config_maps,
        } = self;

        waypoint_of.update(
            touched,
            inputs
                .services
                .changed()
                .iter()
                .cloned()
                .chain(inputs.workloads.changed().iter().map(ServiceKey::pod))
                .chain(inputs.workload_entries.changed().iter().map(ServiceKey::machine)),
            |key| match key.origin {
                Origin::Kubernetes | Origin::Entry => inputs.services.untracked().contains_key(key),
                Origin::Pod => inputs.workloads.untracked().contains_key(&key.object()),
                Origin::Machine => inputs.workload_entries.untracked().contains_key(&key.object()),
            },
            |reads, key| waypoint_of::bind(reads, inputs, key),
        );
        let waypoint_of = &*waypoint_of;

        pods.update(
            touched,
            waypoint_of.changed().iter().filter(|key| key.origin.is_workload()).cloned(),
            |pod| waypoint_of.untracked().contains_key(pod),
            |reads, pod| addressed::bind(reads, inputs, waypoint_of, pod),
        );
        let addressed = Addressed { services: &inputs.services, pods };

        resolved_routes.update(
            touched,
            inputs.routes.changed().iter().cloned(),
            |route| inputs.routes.untracked().contains_key(route),
            |reads, route| resolved_route::bind(reads, inputs, waypoint_of, route),
        );
        let resolved_routes = &*resolved_routes;

        applied_routes.update(
            touched,
            resolved_routes.changed().iter().cloned(),
            |route| resolved_routes.untracked().contains_key(route),
            |reads, route| applied_route::bind(reads, resolved_routes, route),
        );
        let applied_routes = &*applied_routes;

        let rebound = || addressed.changed().chain(waypoint_of.changed());
        routes_of.update(
            touched,
            rebound().flat_map(|service| ports(addressed, waypoint_of, service)),
            |key| is_bound(addressed, waypoint_of, key),
            |reads, key| routes_of::bind(reads, addressed, waypoint_of, resolved_routes, applied_routes, key),
        );
        let has_blocks =
            |service: &ServiceKey| addressed.known(service).is_some_and(|service| !service.blocks.is_empty());
        block_ports.update(
            touched,
            rebound()
                .filter(|service| has_blocks(service))
                .flat_map(|service| ports(addressed, waypoint_of, service)),
            |key| has_blocks(&key.service) && is_bound(addressed, waypoint_of, key),
            |reads, key| block_port::bind(reads, addressed, waypoint_of, key),
        );
        policies_of.update(
            touched,
            rebound().flat_map(|service| {
                serving(waypoint_of, service).map(|waypoint| (waypoint.clone(), service.clone()))
            }),
            |(waypoint, service)| serving(waypoint_of, service).any(|serving| serving == waypoint),
            |reads, key| policies_of::bind(reads, inputs, waypoint_of, key),
        );
        wanted_keys::update(wanted_keys, touched, inputs);
        installation_of::update(installation_of, touched, inputs, settings);
        wanted_config_maps::update(wanted_config_maps, touched, installation_of);
    }

    /// Everything that can be dialled.
    pub(crate) fn addressed<'t>(&'t self, inputs: &'t Inputs) -> Addressed<'t> {
        Addressed { services: &inputs.services, pods: &self.pods }
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
    addressed: Addressed<'t>,
    waypoint_of: &'t Derived<WaypointOf>,
    service: &'t ServiceKey,
) -> impl Iterator<Item = PortKey> + 't {
    let ports = addressed.known(service).into_iter().flat_map(|row| &row.ports);
    serving(waypoint_of, service)
        .flat_map(move |waypoint| ports.clone().map(move |port| PortKey::new(waypoint, service, port.number)))
}

fn is_bound(addressed: Addressed<'_>, waypoint_of: &Derived<WaypointOf>, key: &PortKey) -> bool {
    serving(waypoint_of, &key.service).any(|waypoint| *waypoint == key.waypoint)
        && addressed.known(&key.service).is_some_and(|service| service.port(key.port).is_some())
}
