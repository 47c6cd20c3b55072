//! What a client asked for of one type, with the protocol's rules for wildcards.

use std::collections::BTreeSet;

use proto::Name;

/// The name that asks for everything.
pub(super) const WILDCARD: &str = "*";

/// Names, everything, or both.
///
/// The wildcard is what a client asks for by `*`, or by a first request that names nothing. It ends
/// only when `*` is unsubscribed: naming a resource adds to it, and dropping the last name leaves it
/// as it was. Without it, no names means nothing.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    wildcard: bool,
    names: BTreeSet<Name>,
}

impl Subscription {
    /// The subscription that a type's first request on a stream makes.
    pub(super) fn first(names: impl IntoIterator<Item = Name>) -> Self {
        let mut names: BTreeSet<Name> = names.into_iter().collect();
        let wildcard = names.is_empty() || names.remove(WILDCARD);
        Self { wildcard, names }
    }

    /// Whether a resource of that name is wanted.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    pub(super) fn set_wildcard(&mut self, wildcard: bool) {
        self.wildcard = wildcard;
    }

    /// The names asked for one by one.
    pub(super) fn names(&self) -> &BTreeSet<Name> {
        &self.names
    }

    pub(super) fn add(&mut self, name: Name) {
        self.names.insert(name);
    }

    /// Whether the name had been asked for.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.names.remove(name)
    }
}
