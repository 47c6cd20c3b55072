//! The labels and annotations that bind things, by Istio's names.

use std::collections::BTreeMap;

use proto::{Name, kubernetes::ObjectMeta};

use super::name::Key;

/// Which Gateway is to be the waypoint; `none` for no waypoint at all.
pub(crate) const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// The namespace of that Gateway, if it is not the object's own.
pub(crate) const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
/// A second waypoint that gets a share of the connections, to try it out.
pub(crate) const CANARY: &str = "istio.io/use-waypoint-canary";
/// The namespace of that one.
pub(crate) const CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";
/// On a Gateway: `service`, `workload`, `all` or `none`.
pub(crate) const WAYPOINT_FOR: &str = "istio.io/waypoint-for";
/// On the objects that a Gateway's controller made for it: which Gateway.
pub(crate) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// On the same objects: which controller.
pub(crate) const MANAGED: &str = "gateway.istio.io/managed";
/// On a Pod, `enabled`: ambient captures its traffic, so it is reached through a tunnel.
pub(crate) const REDIRECTION: &str = "ambient.istio.io/redirection";
/// On a Service or a ServiceEntry: which endpoints are preferred.
pub(crate) const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// On a WorkloadEntry: somebody checks its health, and says so in its status.
pub(crate) const HEALTH_CHECKED: &str = "proxy.istio.io/health-checks-enabled";
/// On a policy: it is to be tried out, not enforced.
pub(crate) const DRY_RUN: &str = "istio.io/dry-run";

/// The waypoints that an object asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) waypoint: UseWaypoint,
    /// The canary beside it. The share it gets is the caller's matter: both are programmed.
    pub(crate) canary: UseWaypoint,
}

impl Asked {
    pub(crate) fn lower(metadata: &ObjectMeta) -> Self {
        Self {
            waypoint: UseWaypoint::lower(metadata, USE_WAYPOINT, USE_WAYPOINT_NAMESPACE),
            canary: UseWaypoint::lower(metadata, CANARY, CANARY_NAMESPACE),
        }
    }
}

/// What an object says about its waypoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum UseWaypoint {
    /// Nothing: its namespace decides.
    #[default]
    Unset,
    /// It is to have none, whatever its namespace says.
    OptOut,
    /// This one.
    Named { name: Name, namespace: Option<Name> },
}

impl UseWaypoint {
    /// Reads the two labels. An empty name is no name.
    fn lower(metadata: &ObjectMeta, name_label: &str, namespace_label: &str) -> Self {
        match label(metadata, name_label) {
            None | Some("") => Self::Unset,
            Some("none") => Self::OptOut,
            Some(name) => {
                Self::Named { name: name.into(), namespace: label(metadata, namespace_label).map(Into::into) }
            }
        }
    }

    /// The Gateway that is meant, for an object in `namespace`.
    pub(crate) fn waypoint(&self, own_namespace: &Name) -> Option<Key> {
        match self {
            Self::Unset | Self::OptOut => None,
            Self::Named { name, namespace } => Some(Key {
                namespace: namespace.clone().unwrap_or_else(|| own_namespace.clone()),
                name: name.clone(),
            }),
        }
    }
}

pub(crate) fn label<'m>(metadata: &'m ObjectMeta, name: &str) -> Option<&'m str> {
    find(metadata.labels.as_ref(), name)
}

pub(crate) fn annotation<'m>(metadata: &'m ObjectMeta, name: &str) -> Option<&'m str> {
    find(metadata.annotations.as_ref(), name)
}

fn find<'m>(map: Option<&'m BTreeMap<String, String>>, name: &str) -> Option<&'m str> {
    map?.get(name).map(String::as_str)
}
