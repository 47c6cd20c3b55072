//! Which objects are read at all: of some kinds, only those that something of ours refers to.

use std::collections::BTreeSet;

use proto::{Kind, Name, ObjectRef, mesh_api::ConfigData};
use serde_json::Value;

/// The objects that are wanted. A ConfigMap may hold anything, and a cluster has thousands: one is read
/// only if it is named here, or has a label in a namespace that are. Whoever adds a source asks for those and
/// never for a list of all.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    by_reference: BTreeSet<ObjectRef>,
    labelled: BTreeSet<Labelled>,
}

/// The objects of a namespace that have a label, with whatever value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labelled {
    pub(crate) kind: Kind,
    pub(crate) namespace: Name,
    pub(crate) label: String,
}

impl Wanted {
    /// Every object of the kinds that are read as a whole, and these of the others.
    pub fn by_reference(objects: impl IntoIterator<Item = ObjectRef>) -> Self {
        Self { by_reference: objects.into_iter().collect(), labelled: BTreeSet::new() }
    }

    /// And the ConfigMaps of that namespace that have one of these labels.
    #[must_use]
    pub fn with_labels<'l>(mut self, namespace: &Name, labels: impl IntoIterator<Item = &'l str>) -> Self {
        let labelled = labels.into_iter().map(|label| Labelled {
            kind: Kind::ConfigMap,
            namespace: namespace.clone(),
            label: label.to_owned(),
        });
        self.labelled.extend(labelled);
        self
    }

    /// Those of the kinds that are read by reference only, by their labels.
    pub(crate) fn labelled(&self) -> impl Iterator<Item = &Labelled> {
        self.labelled.iter()
    }

    /// Those of the kinds that are read by reference only.
    pub(crate) fn referenced(&self) -> impl Iterator<Item = &ObjectRef> {
        self.by_reference.iter().filter(|object| Self::is_by_reference(object.kind))
    }

    /// Whether the object is wanted.
    pub fn wants(&self, object: &ObjectRef) -> bool {
        !Self::is_by_reference(object.kind) || self.by_reference.contains(object)
    }

    /// Whether what a manifest claims to be is wanted. A directory holds what somebody put there, so a
    /// ConfigMap of patches is read there although nobody may refer to it.
    pub(crate) fn wants_manifest(&self, object: &ObjectRef, manifest: &Value) -> bool {
        let patches = || ConfigData::PATCHES.iter().any(|key| manifest["data"].get(key).is_some());
        self.wants(object) || (object.kind == Kind::ConfigMap && patches())
    }

    /// Whether objects of the kind are read by reference only.
    pub const fn is_by_reference(kind: Kind) -> bool {
        match kind {
            Kind::ConfigMap => true,
            Kind::Namespace
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Pod
            | Kind::GatewayClass
            | Kind::Gateway
            | Kind::HTTPRoute
            | Kind::GRPCRoute
            | Kind::TCPRoute
            | Kind::TLSRoute
            | Kind::ReferenceGrant
            | Kind::ServiceEntry
            | Kind::WorkloadEntry
            | Kind::AuthorizationPolicy
            | Kind::RequestAuthentication => false,
        }
    }
}
