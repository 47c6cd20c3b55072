//! What the client holds of one type, as far as we know.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proto::{Name, Resource, Version};

use crate::snapshot::Table;

/// What the client holds under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing: it was never sent, or removed.
    Nothing,
    /// It was sent that version, or says that it has it.
    Version(Version),
    /// Something, of a version that we cannot know.
    Unknown,
    /// It rejected that version; what it has instead, if anything, is an earlier one.
    Rejected(Version),
}

/// A pointer to the table that the client was last brought to, and the names for which that is not
/// true. At rest there are none, so that an idle stream costs no memory per resource.
#[derive(Debug)]
pub(super) struct Held {
    base: Arc<Table>,
    exceptions: BTreeMap<Name, State>,
}

impl Default for Held {
    fn default() -> Self {
        Self { base: Table::empty(), exceptions: BTreeMap::new() }
    }
}

impl Held {
    pub(super) fn get(&self, name: &str) -> State {
        self.exceptions.get(name).copied().unwrap_or_else(|| of_table(&self.base, name))
    }

    pub(super) fn set(&mut self, name: &Name, state: State) {
        if of_table(&self.base, name) == state {
            self.exceptions.remove(name);
        } else {
            self.exceptions.insert(Name::clone(name), state);
        }
    }

    /// Forgets a name that is no longer asked for. What is said of it from now on means nothing.
    pub(super) fn forget(&mut self, name: &str) {
        self.exceptions.remove(name);
    }

    /// Forgets all but `names`.
    pub(super) fn narrow(&mut self, names: &BTreeSet<Name>) {
        let states = names.iter().map(|name| (Name::clone(name), self.get(name)));
        self.exceptions = states.filter(|(_, state)| *state != State::Nothing).collect();
        self.base = Table::empty();
    }

    pub(super) fn is_based_on(&self, table: &Arc<Table>) -> bool {
        Arc::ptr_eq(&self.base, table)
    }

    /// Whatever is known apart from the table.
    pub(super) fn exceptions(&self) -> impl Iterator<Item = (&Name, State)> {
        self.exceptions.iter().map(|(name, state)| (name, *state))
    }

    /// The resources of `target` that the client is asking for and holds in no or in another version.
    pub(super) fn lacks<'a>(
        &'a self,
        target: &'a Table,
        covers: impl Fn(&str) -> bool,
    ) -> Vec<&'a Arc<Resource>> {
        let mut lacking = Vec::new();
        let mut check = |resource: &'a Arc<Resource>| {
            let has = match self.get(&resource.name) {
                State::Nothing | State::Unknown => None,
                State::Version(version) | State::Rejected(version) => Some(version),
            };
            if has != Some(resource.version) && covers(&resource.name) {
                lacking.push(resource);
            }
        };
        self.base.differences(target, |difference| {
            if let Some(resource) = difference.new {
                check(resource);
            }
        });
        self.exceptions.keys().filter_map(|name| target.get(name)).for_each(check);
        lacking.sort_unstable_by(|a, b| (a.wave, &a.name).cmp(&(b.wave, &b.name)));
        lacking.dedup_by(|a, b| a.name == b.name);
        lacking
    }

    /// Measures from `table` from now on. What the client holds does not change by it.
    pub(super) fn rebase(&mut self, table: &Arc<Table>, covers: impl Fn(&str) -> bool) {
        if Arc::ptr_eq(&self.base, table) {
            return;
        }
        let base = std::mem::replace(&mut self.base, Arc::clone(table));
        base.differences(table, |difference| {
            if covers(difference.name) && !self.exceptions.contains_key(difference.name) {
                let state = difference.old.map_or(State::Nothing, |old| State::Version(old.version));
                self.exceptions.insert(Name::clone(difference.name), state);
            }
        });
        self.exceptions.retain(|name, state| of_table(table, name) != *state);
    }
}

fn of_table(table: &Table, name: &str) -> State {
    table.get(name).map_or(State::Nothing, |resource| State::Version(resource.version))
}

#[cfg(test)]
mod tests {
    use proto::{Delta, TypeUrl};

    use super::*;
    use crate::Snapshot;

    fn resource(name: &str, version: u64) -> Arc<Resource> {
        let (type_url, body) = (TypeUrl::Cluster, proto::Body::default());
        Arc::new(Resource { type_url, name: name.into(), version: Version(version), wave: 0, body })
    }

    #[test]
    fn a_client_that_has_everything_costs_nothing_per_resource() {
        let set = (0..1_000).map(|n| resource(&n.to_string(), 1)).collect();
        let first = Snapshot::first(&Delta { set, removed: Vec::new() }, 1);
        let table = first.table(TypeUrl::Cluster);
        let mut held = Held::default();
        assert_eq!(held.lacks(table, |_| true).len(), 1_000);
        for resource in table.iter() {
            held.set(&resource.name, State::Version(resource.version));
        }
        held.rebase(table, |_| true);
        assert_eq!(held.exceptions().count(), 0);

        // What it does not have yet of the next table is an exception until it is sent.
        let delta = Delta { set: vec![resource("7", 2)], removed: vec![(TypeUrl::Cluster, "8".into())] };
        let second = first.after(&delta, 2).unwrap();
        let table = second.table(TypeUrl::Cluster);
        held.rebase(table, |_| true);
        assert_eq!(held.get("7"), State::Version(Version(1)));
        assert_eq!(held.get("8"), State::Version(Version(1)));
        assert_eq!(held.exceptions().count(), 2);
        assert_eq!(held.lacks(table, |_| true), [&resource("7", 2)]);
    }
}
