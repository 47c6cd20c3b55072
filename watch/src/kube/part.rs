//! What one list and one watch are about: every object of a kind, or one object by its name.

use std::fmt;

use proto::{Kind, ObjectRef};

use crate::wanted::Wanted;

/// A part of what an API server holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    /// The only object that is meant, of a kind that may hold anything.
    pub(super) only: Option<ObjectRef>,
}

impl Part {
    /// Everything that is read, in parts.
    pub(super) fn all(wanted: &Wanted) -> Vec<Self> {
        let kinds = Kind::ALL.iter().copied().filter(|kind| !Wanted::is_by_reference(*kind));
        let mut parts: Vec<_> = kinds.map(|kind| Self { kind, only: None }).collect();
        parts
            .extend(wanted.referenced().map(|object| Self { kind: object.kind, only: Some(object.clone()) }));
        parts
    }

    /// Where its list is, in a version of its group.
    pub(super) fn path(&self, version: &str) -> String {
        let group = group_path(self.kind, version);
        let plural = self.kind.plural();
        match &self.only {
            Some(object) if self.kind.namespaced() => {
                format!("{group}/namespaces/{}/{plural}", object.namespace)
            }
            Some(_) | None => format!("{group}/{plural}"),
        }
    }

    /// Which objects of that list are meant. A role can name them: to the authorizer, a list of this
    /// selector asks for that one object.
    pub(super) fn selector(&self) -> Option<String> {
        self.only.as_ref().map(|object| format!("metadata.name={}", object.name))
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
        match &self.only {
            Some(object) => write!(out, "/{} in the namespace {}", object.name, object.namespace),
            None => Ok(()),
        }
    }
}
