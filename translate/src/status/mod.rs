//! Conditions: what we say about an object, as values. Writing them somewhere is `deploy`'s task.

mod authentication;
mod class;
mod enforced;
mod fleet;
mod gateway;
mod mesh_config;
mod outstanding;
mod policy;
mod programmed;
mod route;
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proto::{Kind, Name, ObjectRef};

use crate::{
    bindings::Bindings,
    derive::{Derived, Reads, Row, Touched},
    inputs::Inputs,
    mesh::name::{Key, Origin},
    resources::Resources,
    settings::Settings,
    status::{
        fleet::Fleet,
        outstanding::{Outstanding, Piece},
        programmed::Known,
    },
};

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can tell yet.
    Unknown,
}

impl Truth {
    /// The word as it stands in a condition's `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One condition of a Kubernetes object, without its times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition {
    /// As in `Accepted`.
    pub kind: &'static str,
    /// Whether it holds.
    pub truth: Truth,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// For a person to read.
    pub message: String,
}

/// What we say about one parent of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParentStatus {
    /// The `parentRef` as the route has it, as JSON text with sorted keys.
    pub parent_ref: Arc<str>,
    /// What holds for it.
    pub conditions: Vec<Condition>,
}

/// What we say about one listener of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: Name,
    /// Routes attached through it.
    pub attached_routes: u32,
    /// The kinds of routes that it takes.
    pub supported_kinds: Vec<Kind>,
    /// What holds for it.
    pub conditions: Vec<Condition>,
}

/// Where a Gateway is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// `IPAddress` or `Hostname`.
    pub kind: &'static str,
    /// As in `10.0.0.1` or `waypoint.default.svc.cluster.local`.
    pub value: String,
}

/// All that we say about one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status {
    /// The generation of the object that this speaks of.
    pub observed_generation: Option<i64>,
    /// Conditions of the object itself.
    pub conditions: Vec<Condition>,
    /// For a route: its parents.
    pub parents: Vec<ParentStatus>,
    /// For a Gateway: its listeners.
    pub listeners: Vec<ListenerStatus>,
    /// For a Gateway: where it is reached, once there is a proxy to be reached.
    pub addresses: Vec<Address>,
    /// For a GatewayClass: the features that are supported, in the order of their names.
    pub features: Vec<&'static str>,
}

impl Row for Status {
    const TABLE: &'static str = "status";
    type Key = ObjectRef;
    type Bucket = ();

    fn buckets(_key: &ObjectRef, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

/// What is said, and what is known of proxies to say it.
#[derive(Default)]
pub(crate) struct Statuses {
    fleets: Derived<Fleet>,
    outstanding: Derived<Outstanding>,
    said: Derived<Status>,
}

impl Statuses {
    /// Says anew whatever the commit may have changed about an object.
    pub(crate) fn update(
        &mut self,
        touched: &mut Touched,
        inputs: &Inputs,
        bindings: &Bindings,
        resources: &Resources,
        settings: &Settings,
    ) {
        let Self { fleets, outstanding, said } = self;
        fleets.update(
            touched,
            inputs.proxies.changed().iter().chain(inputs.waypoints.changed()).cloned(),
            |waypoint| inputs.waypoints.untracked().contains_key(waypoint),
            |reads, waypoint| fleet::of(reads, inputs, waypoint),
        );
        let fleets = &*fleets;
        let listeners = resources.infrastructure.changed().iter().cloned().map(Piece::Listeners);
        let ports = resources.configs.changed().iter().cloned().map(Piece::Port);
        outstanding.update(
            touched,
            listeners.chain(ports),
            |piece| outstanding::exists(resources, piece),
            |reads, piece| outstanding::of(reads, inputs, resources, fleets, settings, piece),
        );
        let known = Known { inputs, fleets, outstanding };
        said.update(
            touched,
            changed(inputs, settings),
            |object| exists(inputs, object),
            |reads, object| derive(reads, known, bindings, settings, object),
        );
    }

    /// What is said about `object`.
    pub(crate) fn of(&self, object: &ObjectRef) -> Option<&Status> {
        self.said.untracked().get(object).map(|status| &**status)
    }

    /// What the last update said anew; `None` where nothing is said any more.
    pub(crate) fn moved(&self) -> BTreeMap<ObjectRef, Option<Status>> {
        let changed = self.said.changed().iter();
        let said = self.said.untracked();
        changed.map(|object| (object.clone(), said.get(object).map(|status| Status::clone(status)))).collect()
    }
}

fn changed(inputs: &Inputs, settings: &Settings) -> impl Iterator<Item = ObjectRef> {
    let keys = |kind: Kind, changed: &BTreeSet<Key>| {
        changed.iter().map(|key| key.reference(kind)).collect::<Vec<_>>()
    };
    let changed = [
        inputs
            .classes
            .changed()
            .iter()
            .map(|name| Key::new("", name).reference(Kind::GatewayClass))
            .collect(),
        keys(Kind::Gateway, inputs.waypoints.changed()),
        inputs
            .services
            .changed()
            .iter()
            .filter(|service| service.origin == Origin::Kubernetes)
            .map(|service| service.object().reference(Kind::Service))
            .collect(),
        keys(Kind::ServiceEntry, inputs.entries.changed()),
        keys(Kind::WorkloadEntry, inputs.workload_entries.changed()),
        inputs.routes.changed().iter().cloned().collect(),
        keys(Kind::AuthorizationPolicy, inputs.authorizations.changed()),
        inputs.mesh_config.changed().iter().map(|()| settings.mesh_config()).collect(),
        keys(Kind::RequestAuthentication, inputs.authentications.changed()),
    ];
    changed.into_iter().flatten()
}

fn derive(
    reads: &Reads,
    known: Known<'_>,
    bindings: &Bindings,
    settings: &Settings,
    object: &ObjectRef,
) -> Option<Status> {
    let Bindings {
        waypoint_of,
        pods: _,
        block_ports: _,
        resolved_routes,
        applied_routes,
        routes_of: _,
        policies_of,
        wanted_keys: _,
        installation_of,
        wanted_config_maps: _,
    } = bindings;
    let key = Key::of(object);
    match object.kind {
        Kind::GatewayClass => class::of(reads, known.inputs, &key),
        Kind::Gateway => gateway::of(reads, known, applied_routes, installation_of, settings, &key),
        Kind::Service => service::of(reads, known, waypoint_of, settings, &key.into()),
        Kind::ServiceEntry => service::of_entry(reads, known, waypoint_of, settings, &key),
        Kind::WorkloadEntry => service::of_machine(reads, known, waypoint_of, settings, &key),
        Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute => {
            route::of(reads, known, resolved_routes, applied_routes, waypoint_of, object)
        }
        Kind::AuthorizationPolicy => policy::of(reads, known, waypoint_of, policies_of, settings, &key),
        Kind::ConfigMap => mesh_config::of(reads, known.inputs),
        Kind::RequestAuthentication => authentication::of(reads, known, waypoint_of, settings, &key),
        Kind::Namespace | Kind::EndpointSlice | Kind::Pod | Kind::ReferenceGrant => None,
    }
}

fn exists(inputs: &Inputs, object: &ObjectRef) -> bool {
    let key = Key::of(object);
    match object.kind {
        Kind::GatewayClass => inputs.classes.untracked().contains_key(&key.name),
        Kind::Gateway => inputs.waypoints.untracked().contains_key(&key),
        Kind::Service => inputs.services.untracked().contains_key(&key.into()),
        Kind::ServiceEntry => inputs.entries.untracked().contains_key(&key),
        Kind::WorkloadEntry => inputs.workload_entries.untracked().contains_key(&key),
        Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute => {
            inputs.routes.untracked().contains_key(object)
        }
        Kind::AuthorizationPolicy => inputs.authorizations.untracked().contains_key(&key),
        // There is one, and its row has no name.
        Kind::ConfigMap => !inputs.mesh_config.untracked().is_empty(),
        Kind::RequestAuthentication => inputs.authentications.untracked().contains_key(&key),
        Kind::Namespace | Kind::EndpointSlice | Kind::Pod | Kind::ReferenceGrant => false,
    }
}

/// Several problems as one message.
fn list<'p>(problems: impl IntoIterator<Item = &'p crate::problem::Problem>) -> String {
    problems.into_iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
