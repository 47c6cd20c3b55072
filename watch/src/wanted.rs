//! Which objects are read at all: of some kinds, only those that something of ours refers to.

use std::collections::BTreeSet;

use proto::{Kind, ObjectRef};

/// The objects that are wanted. A ConfigMap may hold anything, and a cluster has thousands: one is read
/// only if it is named here. Whoever adds a source asks for those by name and never for a list.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    by_reference: BTreeSet<ObjectRef>,
}

impl Wanted {
    /// Every object of the kinds that are read as a whole, and these of the others.
    pub fn by_reference(objects: impl IntoIterator<Item = ObjectRef>) -> Self {
        Self { by_reference: objects.into_iter().collect() }
    }

    /// Whether the object is wanted.
    pub fn wants(&self, object: &ObjectRef) -> bool {
        !Self::is_by_reference(object.kind) || self.by_reference.contains(object)
    }

    /// Whether objects of the kind are read by reference only.
    pub const fn is_by_reference(kind: Kind) -> bool {
        match kind {
            Kind::ConfigMap => true,
            Kind::Namespace
            | Kind::Service
            | Kind::EndpointSlice
            | Kind::Pod
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
