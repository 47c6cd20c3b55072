//! Which waypoint a service is bound to, or why not to the one it asks for.

use crate::{
    derive::{Reads, Row},
    inputs::Inputs,
    mesh::{
        labels::UseWaypoint,
        name::{Key, ServiceKey},
    },
};

/// The answer to a service that asks for a waypoint. A service that asks for none has no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaypointOf {
    Bound(Key),
    Refused { waypoint: Key, why: Refusal },
}

/// Why a service is not bound to the waypoint that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such waypoint.
    NotReady,
    /// It does not admit the service's namespace.
    AttachmentDenied,
    /// It is not for services.
    UnsupportedTrafficType,
}

impl WaypointOf {
    pub(crate) const fn bound(&self) -> Option<&Key> {
        match self {
            Self::Bound(waypoint) => Some(waypoint),
            Self::Refused { .. } => None,
        }
    }
}

impl Row for WaypointOf {
    const TABLE: &'static str = "waypoint of";
    /// The service.
    type Key = ServiceKey;
    type Bucket = ();

    fn buckets(_key: &ServiceKey, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

/// The service's own label decides; its namespace's, if it has none. There is no way back from a
/// waypoint that is not there to the namespace's: the service asked for that one.
pub(crate) fn bind(reads: &Reads, inputs: &Inputs, key: &ServiceKey) -> Option<WaypointOf> {
    let service = inputs.services.get(reads, key)?;
    if service.of_a_waypoint {
        return None;
    }
    let namespace = inputs.namespaces.get(reads, &key.namespace);
    let asked = match &service.use_waypoint {
        UseWaypoint::Unset => &namespace?.use_waypoint,
        UseWaypoint::OptOut | UseWaypoint::Named { .. } => &service.use_waypoint,
    };
    let waypoint = asked.waypoint(&key.namespace)?;
    let refused = |why| WaypointOf::Refused { waypoint: waypoint.clone(), why };
    let Some(row) = inputs.waypoints.get(reads, &waypoint) else { return Some(refused(Refusal::NotReady)) };
    let none = std::collections::BTreeMap::new();
    let labels = namespace.map_or(&none, |namespace| &namespace.labels);
    Some(if !row.serves.services() {
        refused(Refusal::UnsupportedTrafficType)
    } else if row.allows.admits(&waypoint.namespace, &key.namespace, labels) {
        WaypointOf::Bound(waypoint)
    } else {
        refused(Refusal::AttachmentDenied)
    })
}
