//! The labels and annotations that bind things, by Istio's names.

use std::collections::BTreeMap;

use proto::{Name, kubernetes::ObjectMeta};

use super::name::Key;

/// Which Gateway is to be the waypoint; `none` for no waypoint at all.
pub(crate) const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// The namespace of that Gateway, if it is not the object's own.
pub(crate) const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
/// On a Gateway: `service`, `workload`, `all` or `none`.
pub(crate) const WAYPOINT_FOR: &str = "istio.io/waypoint-for";
/// On the objects that a Gateway's controller made for it: which controller.
pub(crate) const MANAGED: &str = "gateway.istio.io/managed";
/// On a Pod, `enabled`: ambient captures its traffic, so it is reached through a tunnel.
pub(crate) const REDIRECTION: &str = "ambient.istio.io/redirection";
/// On a policy: it is to be tried out, not enforced.
pub(crate) const DRY_RUN: &str = "istio.io/dry-run";

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
    /// Reads both labels. An empty name is no name.
    pub(crate) fn lower(metadata: &ObjectMeta) -> Self {
        match label(metadata, USE_WAYPOINT) {
            None | Some("") => Self::Unset,
            Some("none") => Self::OptOut,
            Some(name) => Self::Named {
                name: name.into(),
                namespace: label(metadata, USE_WAYPOINT_NAMESPACE).map(Into::into),
            },
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
