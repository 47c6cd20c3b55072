//! What one list and one watch are about: every object of a kind, those with a label, or one by its name.

use std::fmt;

use proto::{Kind, ObjectRef};

use crate::wanted::{Labelled, Wanted};

/// A part of what an API server holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) scope: Scope,
}

/// Which objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All of them.
    Everything,
    /// The only one that is meant, of a kind that may hold anything.
    Named(ObjectRef),
    /// Those with a label, of such a kind.
    Labelled(Labelled),
}

impl Part {
    /// Everything that is read from the start, in parts.
    pub(super) fn all(wanted: &Wanted) -> Vec<Self> {
        let kinds = Kind::ALL.iter().copied().filter(|kind| !Wanted::is_by_reference(*kind));
        let mut parts: Vec<_> = kinds.map(|kind| Self { kind, scope: Scope::Everything }).collect();
        parts.extend(wanted.referenced().cloned().map(Self::named));
        let labelled = wanted.labelled().cloned();
        parts.extend(labelled.map(|of| Self { kind: of.kind, scope: Scope::Labelled(of) }));
        parts
    }

    /// One object.
    pub(super) fn named(object: ObjectRef) -> Self {
        Self { kind: object.kind, scope: Scope::Named(object) }
    }

    /// Where its list is, in a version of its group.
    pub(super) fn path(&self, version: &str) -> String {
        let group = group_path(self.kind, version);
        let plural = self.kind.plural();
        let namespace = match &self.scope {
            Scope::Named(object) if self.kind.namespaced() => Some(&object.namespace),
            Scope::Labelled(Labelled { namespace, .. }) => Some(namespace),
            Scope::Named(_) | Scope::Everything => None,
        };
        match namespace {
            Some(namespace) => format!("{group}/namespaces/{namespace}/{plural}"),
            None => format!("{group}/{plural}"),
        }
    }

    /// Which objects of that list are meant, by their fields. A role can name them: to the authorizer, a
    /// list of this selector asks for that one object.
    pub(super) fn field_selector(&self) -> Option<String> {
        match &self.scope {
            Scope::Named(object) => Some(format!("metadata.name={}", object.name)),
            Scope::Everything | Scope::Labelled(_) => None,
        }
    }

    /// Which objects of that list are meant, by their labels.
    pub(super) fn label_selector(&self) -> Option<String> {
        match &self.scope {
            Scope::Labelled(Labelled { label, .. }) => Some(label.clone()),
            Scope::Everything | Scope::Named(_) => None,
        }
    }
}

/// Where a version of the kind's group is.
pub(super) fn group_path(kind: Kind, version: &str) -> String {
    match kind.group() {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    }
}

/// As `kubectl auth can-i list` takes it.
impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.kind.plural())?;
        if !self.kind.group().is_empty() {
            write!(out, ".{}", self.kind.group())?;
        }
        match &self.scope {
            Scope::Everything => Ok(()),
            Scope::Named(object) => write!(out, "/{} in the namespace {}", object.name, object.namespace),
            Scope::Labelled(Labelled { namespace, label, .. }) => {
                write!(out, " with the label {label} in the namespace {namespace}")
            }
        }
    }
}
