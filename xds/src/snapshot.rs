//! All resources of a group at one revision: cheap to change, cheap to compare.
//!
//! Each type's resources live in a fixed number of shared shards. A publish copies only the shards
//! it touches, and two snapshots can differ only where their shards are not the same allocation, so
//! comparing costs what changed and not what exists.

use std::{
    cmp::Ordering,
    sync::{Arc, LazyLock},
};

use proto::{Delta, Name, Resource, TypeUrl};
use rapidhash::v3::rapidhash_v3;

/// With 100,000 resources of a type a shard holds 1,600: a change copies 13 KB of pointers.
const SHARDS: usize = 64;

/// All resources of a group at one revision. Immutable; share it by `Arc`.
#[derive(Clone, Debug)]
pub struct Snapshot {
    revision: u64,
    tables: [Arc<Table>; TypeUrl::ALL.len()],
}

/// The resources of one type.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    shards: [Arc<Shard>; SHARDS],
}

/// Sorted by name.
type Shard = Vec<Arc<Resource>>;

/// The one table without resources, so that empty tables compare by pointer like all others.
static EMPTY: LazyLock<Arc<Table>> = LazyLock::new(|| {
    let shard = Arc::new(Shard::new());
    Arc::new(Table { shards: std::array::from_fn(|_| Arc::clone(&shard)) })
});

impl Snapshot {
    /// A snapshot without resources, at revision 0.
    pub fn empty() -> Self {
        Self { revision: 0, tables: std::array::from_fn(|_| Table::empty()) }
    }

    /// The snapshot that holds what `delta` sets, and be it nothing.
    pub fn first(delta: &Delta, revision: u64) -> Self {
        Self::empty().after(delta, revision).unwrap_or(Self { revision, ..Self::empty() })
    }

    /// The snapshot after `delta`, at `revision`; `None` if the delta says nothing new.
    ///
    /// A resource of the version that is already there is nothing new, whatever its bytes are.
    pub fn after(&self, delta: &Delta, revision: u64) -> Option<Self> {
        let mut next = Self { revision, tables: self.tables.clone() };
        let mut changed = false;
        for resource in &delta.set {
            let table = &mut next.tables[resource.type_url as usize];
            if table.get(&resource.name).is_none_or(|old| old.version != resource.version) {
                Arc::make_mut(table).set(resource);
                changed = true;
            }
        }
        for (type_url, name) in &delta.removed {
            let table = &mut next.tables[*type_url as usize];
            if table.get(name).is_some() {
                Arc::make_mut(table).remove(name);
                changed = true;
            }
        }
        changed.then_some(next)
    }

    /// Which publish made it. Later snapshots of a group have higher revisions.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The resource of that type and name.
    pub fn get(&self, type_url: TypeUrl, name: &str) -> Option<&Arc<Resource>> {
        self.table(type_url).get(name)
    }

    /// Every resource, sorted by type and name.
    pub fn resources(&self) -> Vec<&Arc<Resource>> {
        let mut all: Vec<_> = self.tables.iter().flat_map(|table| table.iter()).collect();
        all.sort_unstable_by(|a, b| (a.type_url, &a.name).cmp(&(b.type_url, &b.name)));
        all
    }

    pub(crate) fn table(&self, type_url: TypeUrl) -> &Arc<Table> {
        &self.tables[type_url as usize]
    }
}

impl Table {
    pub(crate) fn empty() -> Arc<Self> {
        Arc::clone(&EMPTY)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.is_empty())
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        let shard = &self.shards[shard_of(name)];
        shard.binary_search_by(|held| (*held.name).cmp(name)).ok().map(|at| &shard[at])
    }

    /// Every resource, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// Calls `each` with every name whose resource is not the same in `newer`, and both resources.
    pub(crate) fn differences<'a>(&'a self, newer: &'a Self, mut each: impl FnMut(Difference<'a>)) {
        for (old, new) in self.shards.iter().zip(&newer.shards) {
            if !Arc::ptr_eq(old, new) {
                differences(old, new, &mut each);
            }
        }
    }

    fn set(&mut self, resource: &Arc<Resource>) {
        let shard = Arc::make_mut(&mut self.shards[shard_of(&resource.name)]);
        match shard.binary_search_by(|held| held.name.cmp(&resource.name)) {
            Ok(at) => shard[at] = Arc::clone(resource),
            Err(at) => shard.insert(at, Arc::clone(resource)),
        }
    }

    fn remove(&mut self, name: &Name) {
        let shard = Arc::make_mut(&mut self.shards[shard_of(name)]);
        if let Ok(at) = shard.binary_search_by(|held| held.name.cmp(name)) {
            shard.remove(at);
        }
    }
}

/// A name that two tables do not agree on.
pub(crate) struct Difference<'a> {
    pub(crate) name: &'a Name,
    pub(crate) old: Option<&'a Arc<Resource>>,
    pub(crate) new: Option<&'a Arc<Resource>>,
}

fn differences<'a>(old: &'a Shard, new: &'a Shard, each: &mut impl FnMut(Difference<'a>)) {
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (olds.peek(), news.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.name.cmp(&new.name),
        };
        let old = if order == Ordering::Greater { None } else { olds.next() };
        let new = if order == Ordering::Less { None } else { news.next() };
        let same = matches!((old, new), (Some(old), Some(new)) if Arc::ptr_eq(old, new));
        if let Some(either) = old.or(new)
            && !same
        {
            each(Difference { name: &either.name, old, new });
        }
    }
}

fn shard_of(name: &str) -> usize {
    #[allow(clippy::cast_possible_truncation, reason = "the remainder is below SHARDS")]
    let shard = (rapidhash_v3(name.as_bytes()) % SHARDS as u64) as usize;
    shard
}

#[cfg(test)]
mod tests {
    use proto::Version;

    use super::*;

    fn resource(name: &str, version: u64) -> Arc<Resource> {
        let version = Version(version);
        let body = proto::Body::default();
        Arc::new(Resource { type_url: TypeUrl::Cluster, name: name.into(), version, wave: 0, body })
    }

    fn publish(snapshot: &Snapshot, set: &[(&str, u64)], removed: &[&str]) -> Option<Snapshot> {
        let delta = Delta {
            set: set.iter().map(|(name, version)| resource(name, *version)).collect(),
            removed: removed.iter().map(|name| (TypeUrl::Cluster, (*name).into())).collect(),
        };
        snapshot.after(&delta, snapshot.revision() + 1)
    }

    #[test]
    fn a_publish_copies_only_the_shard_it_touches() {
        let names: Vec<String> = (0..1_000).map(|n| format!("cluster-{n}")).collect();
        let all: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        let first = publish(&Snapshot::empty(), &all, &[]).unwrap();
        let second = publish(&first, &[("cluster-7", 2)], &[]).unwrap();

        let (old, new) = (first.table(TypeUrl::Cluster), second.table(TypeUrl::Cluster));
        let copied = old.shards.iter().zip(&new.shards).filter(|(old, new)| !Arc::ptr_eq(old, new)).count();
        assert_eq!(copied, 1);
        assert!(Arc::ptr_eq(first.table(TypeUrl::Route), second.table(TypeUrl::Route)));

        let mut seen = Vec::new();
        old.differences(new, |difference| seen.push((difference.name.to_string(), difference.new.is_some())));
        assert_eq!(seen, [("cluster-7".to_owned(), true)]);
    }

    #[test]
    fn differences_are_found_both_ways() {
        let first = publish(&Snapshot::empty(), &[("a", 1), ("b", 1), ("c", 1)], &[]).unwrap();
        let second = publish(&first, &[("b", 2), ("d", 1)], &["a"]).unwrap();
        let mut seen = std::collections::BTreeMap::new();
        first.table(TypeUrl::Cluster).differences(second.table(TypeUrl::Cluster), |it| {
            seen.insert(
                it.name.to_string(),
                (it.old.map(|old| old.version.0), it.new.map(|new| new.version.0)),
            );
        });
        let seen: Vec<_> = seen.into_iter().collect();
        assert_eq!(
            seen,
            [
                ("a".to_owned(), (Some(1), None)),
                ("b".to_owned(), (Some(1), Some(2))),
                ("d".to_owned(), (None, Some(1))),
            ]
        );
    }

    #[test]
    fn a_delta_that_says_nothing_new_makes_no_snapshot() {
        let first = publish(&Snapshot::empty(), &[("a", 1)], &[]).unwrap();
        assert!(publish(&first, &[("a", 1)], &["never-there"]).is_none());
    }
}
