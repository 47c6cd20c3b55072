//! Which waypoints a service is bound to, or why not to the one it asks for.

use std::collections::BTreeMap;

use proto::Name;

use crate::{
    derive::{Reads, Row},
    inputs::Inputs,
    mesh::{
        labels::UseWaypoint,
        name::{Key, Origin, ServiceKey},
        service::Exported,
        waypoint::Serves,
    },
};

/// The answer to a service that asks for a waypoint. A service that asks for none has no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaypointOf {
    Bound {
        waypoint: Key,
        /// A second waypoint that gets a share of the connections. What is wrong with it never
        /// touches the first.
        canary: Option<Result<Key, Refused>>,
    },
    Refused(Refused),
}

/// A waypoint that was asked for in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) waypoint: Key,
    pub(crate) why: Refusal,
}

/// Why a service is not bound to the waypoint that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such waypoint.
    NotReady,
    /// It does not admit the service's namespace.
    AttachmentDenied,
    /// It is not for traffic of that kind.
    UnsupportedTrafficType,
    /// It is in another namespace, and the entry is not exported to that one.
    CrossNamespaceForbidden,
    /// The canary is the waypoint itself.
    CanarySameAsPrimary,
}

impl WaypointOf {
    /// The waypoint that the service asks for, if it is bound to it.
    pub(crate) const fn bound(&self) -> Option<&Key> {
        match self {
            Self::Bound { waypoint, .. } => Some(waypoint),
            Self::Refused { .. } => None,
        }
    }

    /// All waypoints that serve it: each of them has all of its configuration.
    pub(crate) fn serving(&self) -> impl Iterator<Item = &Key> {
        let canary = match self {
            Self::Bound { canary: Some(Ok(canary)), .. } => Some(canary),
            Self::Bound { .. } | Self::Refused { .. } => None,
        };
        self.bound().into_iter().chain(canary)
    }

    /// Whether that waypoint serves it.
    pub(crate) fn is_served_by(&self, waypoint: &Key) -> bool {
        self.serving().any(|serving| serving == waypoint)
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

/// The object's own labels decide; its namespace's, if it names no waypoint. There is no way back
/// from a waypoint that is not there to the namespace's: the object asked for that one.
pub(crate) fn bind(reads: &Reads, inputs: &Inputs, key: &ServiceKey) -> Option<WaypointOf> {
    let everyone = Exported::All;
    let (own, of_a_waypoint, exported, serves): (_, _, _, fn(Serves) -> bool) = match key.origin {
        Origin::Kubernetes | Origin::Entry => {
            let service = inputs.services.get(reads, key)?;
            (&service.asked, service.of_a_waypoint, &service.exported, Serves::services)
        }
        Origin::Pod => {
            let workload = inputs.workloads.get(reads, &key.object())?;
            (&workload.asked, workload.of_a_waypoint, &everyone, Serves::workloads)
        }
        Origin::Machine => {
            let entry = inputs.workload_entries.get(reads, &key.object())?;
            (&entry.asked, false, &everyone, Serves::workloads)
        }
    };
    if of_a_waypoint {
        return None;
    }
    let namespace = inputs.namespaces.get(reads, &key.namespace);
    let (asked, inherited) = match &own.waypoint {
        UseWaypoint::Unset => (&namespace?.asked, true),
        UseWaypoint::OptOut | UseWaypoint::Named { .. } => (own, false),
    };
    let waypoint = asked.waypoint.waypoint(&key.namespace)?;
    let none = BTreeMap::new();
    let labels = namespace.map_or(&none, |namespace| &namespace.labels);
    let admit = |waypoint: Key| {
        if waypoint.namespace != key.namespace && !exported.reaches(&waypoint.namespace) {
            return Err(Refused { waypoint, why: Refusal::CrossNamespaceForbidden });
        }
        admit(reads, inputs, waypoint, serves, &key.namespace, labels)
    };
    let canary = asked.canary.waypoint(&key.namespace).map(|canary| {
        if canary == waypoint {
            return Err(Refused { waypoint: canary, why: Refusal::CanarySameAsPrimary });
        }
        admit(canary)
    });
    match (admit(waypoint), key.origin) {
        (Ok(waypoint), _) => Some(WaypointOf::Bound { waypoint, canary }),
        // A namespace whose waypoint is for services says nothing about its pods and machines.
        (Err(Refused { why: Refusal::UnsupportedTrafficType, .. }), origin)
            if inherited && origin.is_workload() =>
        {
            None
        }
        (Err(refused), _) => Some(WaypointOf::Refused(refused)),
    }
}

fn admit(
    reads: &Reads,
    inputs: &Inputs,
    waypoint: Key,
    serves: fn(Serves) -> bool,
    namespace: &Name,
    labels: &BTreeMap<String, String>,
) -> Result<Key, Refused> {
    let why = match inputs.waypoints.get(reads, &waypoint) {
        None => Refusal::NotReady,
        Some(row) if !serves(row.serves) => Refusal::UnsupportedTrafficType,
        Some(row) if row.allows.admits(&waypoint.namespace, namespace, labels) => return Ok(waypoint),
        Some(_) => Refusal::AttachmentDenied,
    };
    Err(Refused { waypoint, why })
}
