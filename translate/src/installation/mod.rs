//! What a Gateway asks of the objects that run its proxies: whose they are, what they are called, and
//! what users want changed of them.
//!
//! ```text
//! Gateway ────── lower ──► Asks, a part of its row      names, labels, annotations, parametersRef
//! ConfigMap ──── parameters::lower ──► inputs.parameters  strategic merge patches, one for each kind
//!                bind::installation_of ──► which patches hold for a Gateway, or why none can
//! ```
//!
//! The objects themselves are made where they are written: `deploy::waypoint`.

mod lower;
mod parameters;
mod patch;
mod schema;

use std::collections::{BTreeMap, BTreeSet};

use proto::Name;

pub use patch::{Item, Patch};

pub(crate) use lower::{Asks, lower};
pub(crate) use parameters::{Bucket, DEFAULTS_LABELS, Parameters, lower as lower_parameters};

use crate::{derive::Row, mesh::name::Key, problem::Problem};

/// Who sees to it that the proxies of a waypoint run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installing {
    /// We do, by objects like this.
    Ours(Box<Installation>),
    /// We do, and what was asked for cannot be done: what runs stays as it is, and nothing new is made.
    Held,
    /// Somebody else does: the Gateway says at which addresses, or is of another revision.
    Others,
}

/// What the objects of a waypoint must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The Gateway's uid, for owner references; `None` where it has never been in a cluster.
    pub uid: Option<String>,
    /// The name of the Deployment and of the Service.
    pub name: Name,
    /// The Gateway's class.
    pub class: Name,
    /// The revision of the mesh that the proxies belong to, as in `istio.io/rev`.
    pub revision: Name,
    /// Whether the service account is made with the rest; else it is somebody's own.
    pub makes_service_account: bool,
    /// Labels of every object.
    pub labels: BTreeMap<String, String>,
    /// Annotations of every object.
    pub annotations: BTreeMap<String, String>,
    /// The type of the Service: `ClusterIP` unless asked otherwise.
    pub service_type: String,
    /// What the Service calls the port for tunnels, 15008.
    pub port: Name,
    /// What users want changed, in the order in which it is done: the class's defaults, then the Gateway's own.
    pub patches: Vec<BTreeMap<Part, Patch>>,
}

/// One of the objects of a waypoint that users can patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Who the proxies are.
    ServiceAccount,
    /// What runs them.
    Deployment,
    /// Where they are found.
    Service,
    /// How many there are.
    HorizontalPodAutoscaler,
    /// How many may be away.
    PodDisruptionBudget,
}

impl Part {
    /// Every part, in the order in which they are made.
    pub const ALL: [Self; 5] = [
        Self::ServiceAccount,
        Self::Deployment,
        Self::Service,
        Self::HorizontalPodAutoscaler,
        Self::PodDisruptionBudget,
    ];

    /// Its kind, as in `kind: Service`.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Deployment => "Deployment",
            Self::Service => "Service",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
        }
    }

    /// The API version in which it is written.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::ServiceAccount | Self::Service => "v1",
            Self::Deployment => "apps/v1",
            Self::HorizontalPodAutoscaler => "autoscaling/v2",
            Self::PodDisruptionBudget => "policy/v1",
        }
    }
}

/// What holds for one Gateway.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InstallationOf {
    pub(crate) installing: Installing,
    /// Why it is held.
    pub(crate) problems: Vec<Problem>,
    /// The ConfigMap that it refers to.
    pub(crate) refers: Option<Key>,
    /// Whether nobody has told yet what is in that.
    pub(crate) awaits: bool,
}

/// Who refers to a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RefersTo(pub(crate) Key);

impl Row for InstallationOf {
    const TABLE: &'static str = "installation of";
    type Key = Key;
    type Bucket = RefersTo;

    fn buckets(_key: &Key, row: &Self) -> Vec<RefersTo> {
        row.refers.iter().cloned().map(RefersTo).collect()
    }
}

/// Why nothing can be told of an object that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is not there.
    Absent,
    /// It may be there, and cannot be read: why, and what to do.
    Unreadable(String),
}

impl Row for Missing {
    const TABLE: &'static str = "missing";
    type Key = Key;
    type Bucket = ();

    fn buckets(_key: &Key, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

/// What hinders the objects of a waypoint from being what they should: the world's word, told by whoever
/// writes them. Empty when all is as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hindrances(pub BTreeSet<String>);

impl Row for Hindrances {
    const TABLE: &'static str = "hindrances";
    type Key = Key;
    type Bucket = ();

    fn buckets(_key: &Key, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}
