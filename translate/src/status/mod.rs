//! Conditions: what we say about an object, as values. Writing them somewhere is `deploy`'s task.

mod authentication;
mod enforced;
mod gateway;
mod mesh_config;
mod policy;
mod route;
mod service;

use std::sync::Arc;

use proto::{Kind, Name, ObjectRef};

use crate::{
    bindings::Bindings,
    derive::{Derived, Reads, Row, Touched},
    inputs::Inputs,
    mesh::name::{Key, Origin},
    settings::Settings,
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
}

impl Row for Status {
    const TABLE: &'static str = "status";
    type Key = ObjectRef;
    type Bucket = ();

    fn buckets(_key: &ObjectRef, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

/// Says anew whatever the commit may have changed about an object.
pub(crate) fn update(
    statuses: &mut Derived<Status>,
    touched: &mut Touched,
    inputs: &Inputs,
    bindings: &Bindings,
    settings: &Settings,
) {
    let keys = |kind: Kind, changed: &std::collections::BTreeSet<Key>| {
        changed.iter().map(|key| key.reference(kind)).collect::<Vec<_>>()
    };
    let changed = [
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
    statuses.update(
        touched,
        changed.into_iter().flatten(),
        |object| exists(inputs, object),
        |reads, object| derive(reads, inputs, bindings, object),
    );
}

fn derive(reads: &Reads, inputs: &Inputs, bindings: &Bindings, object: &ObjectRef) -> Option<Status> {
    let Bindings {
        waypoint_of,
        pods: _,
        block_ports: _,
        resolved_routes,
        applied_routes,
        routes_of: _,
        policies_of: _,
        wanted_keys: _,
        installation_of,
    } = bindings;
    let key = Key::of(object);
    match object.kind {
        Kind::Gateway => gateway::of(reads, inputs, applied_routes, installation_of, &key),
        Kind::Service => service::of(reads, inputs, waypoint_of, &key.into()),
        Kind::ServiceEntry => service::of_entry(reads, inputs, waypoint_of, &key),
        Kind::WorkloadEntry => service::of_machine(reads, inputs, waypoint_of, &key),
        Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute => {
            route::of(reads, resolved_routes, applied_routes, waypoint_of, object)
        }
        Kind::AuthorizationPolicy => policy::of(reads, inputs, waypoint_of, &key),
        Kind::ConfigMap => mesh_config::of(reads, inputs),
        Kind::RequestAuthentication => authentication::of(reads, inputs, waypoint_of, &key),
        Kind::Namespace | Kind::EndpointSlice | Kind::Pod | Kind::ReferenceGrant => None,
    }
}

fn exists(inputs: &Inputs, object: &ObjectRef) -> bool {
    let key = Key::of(object);
    match object.kind {
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
