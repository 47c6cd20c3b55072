//! ReferenceGrant: which routes of other namespaces may send requests to the Services of its own.

use proto::{
    Kind, Name, ObjectRef,
    gateway::{
        ReferenceGrant,
        referencegrants::{ReferenceGrantFrom, ReferenceGrantSpec, ReferenceGrantTo},
    },
};

use super::name::{Key, ServiceKey};
use crate::derive::Row;

/// Any of `from` may refer to any of `to`. What a grant says of kinds that we never look up grants
/// nothing here, and is no mistake: other controllers read it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    from: Vec<From>,
    /// Names of Services; `None` for all of the namespace.
    to: Vec<Option<Name>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct From {
    group: String,
    kind: String,
    namespace: Name,
}

impl Grant {
    /// Whether that route may refer to that service of the grant's namespace.
    pub(crate) fn permits(&self, route: &ObjectRef, service: &ServiceKey) -> bool {
        let from = self.from.iter().any(|From { group, kind, namespace }| {
            group == route.kind.group() && kind == route.kind.name() && *namespace == route.namespace
        });
        from && self.to.iter().any(|name| name.as_ref().is_none_or(|name| *name == service.name))
    }
}

impl Row for Grant {
    const TABLE: &'static str = "grant";
    type Key = Key;
    /// The namespace that is referred to: a grant speaks for its own.
    type Bucket = Name;

    fn buckets(key: &Key, _row: &Self) -> Vec<Name> {
        vec![key.namespace.clone()]
    }
}

pub(crate) fn lower(object: &ReferenceGrant) -> Grant {
    let ReferenceGrantSpec { from, to } = &object.spec;
    let from = from.iter().map(|ReferenceGrantFrom { group, kind, namespace }| From {
        group: group.clone(),
        kind: kind.clone(),
        namespace: namespace.as_str().into(),
    });
    let services =
        to.iter().filter(|to| to.group == Kind::Service.group() && to.kind == Kind::Service.name());
    let to = services.map(|ReferenceGrantTo { name, group: _, kind: _ }| {
        // An empty name is how some tools write "all of them".
        name.as_deref().filter(|name| !name.is_empty()).map(Into::into)
    });
    Grant { from: from.collect(), to: to.collect() }
}
