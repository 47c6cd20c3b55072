//! The brain: Kubernetes objects in, Envoy resources and statuses out. No clock, no network, no tasks, no failure.
//!
//! [`Mesh::commit`] is the whole of it, top to bottom: what changed is *lowered* into the input
//! tables, the joins *bind* who is attached to whom, and what follows is *emitted*. Every derived row
//! remembers what it read, so a commit computes the rows that what changed can have changed, and
//! no others. Here is how a policy becomes a resource:
//!
//! ```text
//! AuthorizationPolicy ── policy::authorization::lower ──► inputs.authorizations   one object, one row
//!                        bind::policies_of            ──► which policies judge a service
//!                        bind::routes_of              ──► which routes a service port has
//!                        envoy::route_config          ──► RouteConfiguration of that port
//! ```

mod bind;
mod bindings;
mod change;
mod derive;
mod emit;
mod envoy;
mod fields;
mod filter;
mod inputs;
mod installation;
mod mesh;
mod policy;
mod problem;
mod resources;
mod route;
mod seen;
mod settings;
pub mod status;
pub mod why;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proto::{Kind, ObjectRef};

pub use change::{Audience, Change, Commit, Revision, WaypointPlan};
pub use installation::{Hindrances, Installation, Installing, Item, Missing, Part, Patch};
pub use mesh::ca_certificates::Anchors;
pub use mesh::class::{CONTROLLER, Classes};
pub use policy::authentication::{Fetched, KeySet, KeySource, Origin};
pub use problem::{FieldPath, Lowered, Problem, Reason};
pub use seen::{Proxies, Seen, Taken};
pub use settings::{Bind, Pinned, References, Settings};

use crate::{
    bindings::Bindings,
    derive::{Reads, Touched},
    inputs::Inputs,
    resources::Resources,
    status::Statuses,
};

/// The mesh: every object we know and everything that follows from them.
pub struct Mesh {
    settings: Settings,
    inputs: Inputs,
    bindings: Bindings,
    resources: Resources,
    statuses: Statuses,
    revision: Revision,
}

impl Mesh {
    /// An empty mesh.
    pub fn new(settings: Settings) -> Self {
        Self {
            inputs: Inputs::new(&settings),
            settings,
            bindings: Bindings::default(),
            resources: Resources::default(),
            statuses: Statuses::default(),
            revision: Revision::default(),
        }
    }

    /// Applies the changes as one step and returns what they changed, and nothing else.
    ///
    /// The order of the lines is the order in which things follow from one another; each takes what
    /// the ones above it have finished.
    pub fn commit(&mut self, changes: impl IntoIterator<Item = Change>) -> Commit {
        let mut touched = Touched::default();
        let Self { settings, inputs, bindings, resources, statuses, revision } = self;

        inputs.apply(changes, settings, &mut touched); // lower
        let inputs = &*inputs;
        bindings.update(&mut touched, inputs, settings); // bind
        let bindings = &*bindings;
        resources.update(&mut touched, inputs, bindings, settings); // emit
        statuses.update(&mut touched, inputs, bindings, resources, settings); // tell

        revision.0 += 1;
        Commit {
            revision: *revision,
            resources: resources.moved(settings),
            statuses: statuses.moved(),
            waypoints: moved_waypoints(inputs, bindings),
            keys: moved_keys(bindings),
            config_maps: moved_config_maps(bindings),
        }
    }

    /// How many resource rows the last commit computed: the cost of a change, for tests.
    pub fn computed(&self) -> usize {
        self.resources.computed()
    }
}

/// Which keys are to be fetched, where that changed.
fn moved_keys(bindings: &Bindings) -> BTreeMap<KeySource, Option<Duration>> {
    let wanted = &bindings.wanted_keys;
    let timeout = |source| wanted.untracked().get(source).map(|wanted| wanted.0);
    wanted.changed().iter().map(|source| (source.clone(), timeout(source))).collect()
}

/// Which ConfigMaps are to be followed, where that changed.
fn moved_config_maps(bindings: &Bindings) -> BTreeMap<ObjectRef, bool> {
    let wanted = &bindings.wanted_config_maps;
    let is_wanted = |key| wanted.untracked().contains_key(key);
    wanted.changed().iter().map(|key| (key.reference(Kind::ConfigMap), is_wanted(key))).collect()
}

fn moved_waypoints(inputs: &Inputs, bindings: &Bindings) -> BTreeMap<Audience, Option<WaypointPlan>> {
    let trusts_others = !inputs.trust.changed().is_empty() || !inputs.anchors.changed().is_empty();
    let every = inputs.waypoints.untracked().keys().filter(|_| trusts_others);
    let anchors = inputs.anchors.get(&Reads::default(), &()).cloned().unwrap_or_default();
    let installations = &bindings.installation_of;
    let changed = inputs.waypoints.changed().iter().chain(installations.changed()).chain(every);
    changed
        .map(|key| {
            let audience = Audience { namespace: key.namespace.clone(), name: key.name.clone() };
            let waypoint = inputs.waypoints.untracked().get(key).zip(installations.untracked().get(key));
            let plan = waypoint.map(|(waypoint, installation)| WaypointPlan {
                service_account: waypoint.asks.service_account.clone(),
                trust_domain_aliases: inputs.aliases(&Reads::default()).to_vec(),
                anchors: Arc::clone(&anchors),
                installing: installation.installing.clone(),
            });
            (audience, plan)
        })
        .collect()
}
