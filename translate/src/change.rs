//! What goes into a commit and what comes out of it.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use proto::{Delta, Name, Object, ObjectRef};

use crate::{
    installation::{Hindrances, Installing, Missing},
    mesh::ca_certificates::Anchors,
    policy::authentication::{Fetched, KeySource},
    seen::Seen,
    status::Status,
};

/// One thing that happened outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An object is there, new or changed.
    Set(Object),
    /// An object is gone.
    Remove(ObjectRef),
    /// The keys of a source were fetched, or were not; `None` where nobody fetches them any more.
    Keys(KeySource, Option<Fetched>),
    /// What keeps the objects that run a waypoint from being what they should; nothing at all when they are.
    Hindered(Audience, Hindrances),
    /// Why an object of [`Commit::config_maps`] cannot be told of; `None` where nobody looks for it any more.
    Missing(ObjectRef, Option<Missing>),
    /// Something became known of the proxies of a waypoint.
    Seen(Seen),
}

/// Whom a resource is for: the proxies of one waypoint, named by their Gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Audience {
    /// The Gateway's namespace.
    pub namespace: Name,
    /// The Gateway's name.
    pub name: Name,
}

impl fmt::Display for Audience {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// The number of a commit: one for each call of `Mesh::commit`, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A waypoint that should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaypointPlan {
    /// The service account whose identity its proxies carry.
    pub service_account: Name,
    /// The trust domains besides our own whose identities are of this mesh, and that our own root vouches
    /// for.
    pub trust_domain_aliases: Vec<Name>,
    /// Who else vouches for identities, of these trust domains and of others.
    pub anchors: Arc<Anchors>,
    /// Who runs its proxies, and how.
    pub installing: Installing,
}

/// Everything that one commit changed, and nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// Which commit.
    pub revision: Revision,
    /// Resources that moved, for each waypoint that has any.
    pub resources: BTreeMap<Audience, Delta>,
    /// Statuses that moved; `None` where the object is gone or nothing is said of it any more.
    pub statuses: BTreeMap<ObjectRef, Option<Status>>,
    /// Waypoints that appeared or changed; `None` where one is gone.
    pub waypoints: BTreeMap<Audience, Option<WaypointPlan>>,
    /// Keys that some policy needs fetched, and how long one attempt may take; `None` where none does
    /// any more. They come back as [`Change::Keys`].
    pub keys: BTreeMap<KeySource, Option<Duration>>,
    /// ConfigMaps that some Gateway refers to, where that changed, and whether one still does. They come as
    /// [`Change::Set`], or [`Change::Missing`] says why they do not.
    pub config_maps: BTreeMap<ObjectRef, bool>,
}
