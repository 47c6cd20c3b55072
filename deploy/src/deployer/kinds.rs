//! The kinds of objects that we make, and what we must be allowed to do with them.

use std::fmt;

use kube::api::ApiResource;

/// A kind of object that we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Made {
    ConfigMap,
    ServiceAccount,
    Deployment,
    Service,
    HorizontalPodAutoscaler,
    PodDisruptionBudget,
}

/// What an account must be allowed to do in every namespace that has waypoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The plural, as in an API path.
    pub resource: &'static str,
    /// What it may do with objects of the kind.
    pub verbs: &'static [&'static str],
}

/// An object is applied, which makes it where it is not, and is seen and taken away; nothing else is done.
const VERBS: &[&str] = &["create", "delete", "get", "list", "patch", "watch"];

/// All that the deployer must be allowed to do.
pub fn permissions() -> Vec<Permission> {
    let one = |kind: Made| Permission { group: kind.group(), resource: kind.plural(), verbs: VERBS };
    Made::ALL.into_iter().map(one).collect()
}

impl Made {
    pub(super) const ALL: [Self; 6] = [
        Self::ConfigMap,
        Self::ServiceAccount,
        Self::Deployment,
        Self::Service,
        Self::HorizontalPodAutoscaler,
        Self::PodDisruptionBudget,
    ];

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::ServiceAccount => "ServiceAccount",
            Self::Deployment => "Deployment",
            Self::Service => "Service",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
        }
    }

    const fn group(self) -> &'static str {
        match self {
            Self::ConfigMap | Self::ServiceAccount | Self::Service => "",
            Self::Deployment => "apps",
            Self::HorizontalPodAutoscaler => "autoscaling",
            Self::PodDisruptionBudget => "policy",
        }
    }

    /// The version that we write, and before it had that name, the one with the same fields.
    pub(super) const fn versions(self) -> &'static [&'static str] {
        match self {
            Self::ConfigMap | Self::ServiceAccount | Self::Service | Self::Deployment => &["v1"],
            Self::HorizontalPodAutoscaler => &["v2", "v2beta2"],
            Self::PodDisruptionBudget => &["v1", "v1beta1"],
        }
    }

    const fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::ServiceAccount => "serviceaccounts",
            Self::Deployment => "deployments",
            Self::Service => "services",
            Self::HorizontalPodAutoscaler => "horizontalpodautoscalers",
            Self::PodDisruptionBudget => "poddisruptionbudgets",
        }
    }

    /// How the API server calls it in that version.
    pub(super) fn resource(self, version: &str) -> ApiResource {
        let group = self.group();
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: self.name().to_owned(),
            plural: self.plural().to_owned(),
        }
    }
}

impl fmt::Display for Made {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
