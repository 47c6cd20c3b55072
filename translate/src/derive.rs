//! Derived tables: recompute a row when, and only when, something it read has changed.
//!
//! A [`Table`] holds rows. A [`Derived`] table computes each of its rows with a pure function that
//! may look at other tables only through a [`Reads`], which writes down every fact the function
//! asked about. [`Touched`] carries the facts that a commit has changed so far.
//!
//! Invariant: a fact may be recorded too often, never too seldom. Facts are hashes, so a collision
//! costs one needless recomputation and can never leave a stale row.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// What lives in a table: found by its key, or by any bucket it puts itself in.
pub(crate) trait Row: PartialEq {
    /// The table's name, unique in the mesh.
    const TABLE: &'static str;
    /// What a row is found by.
    type Key: Ord + Clone + Hash;
    /// What several rows are found by together.
    type Bucket: Ord + Clone + Hash;

    /// The buckets that the row puts itself in.
    fn buckets(key: &Self::Key, row: &Self) -> Vec<Self::Bucket>;
}

/// Something a derivation can depend on: one row, or one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Fact(u64);

impl Fact {
    fn row<R: Row>(key: &R::Key) -> Self {
        Self::of(R::TABLE, "row", key)
    }

    fn bucket<R: Row>(bucket: &R::Bucket) -> Self {
        Self::of(R::TABLE, "bucket", bucket)
    }

    /// Which rows are in the bucket, whatever is in them.
    fn members<R: Row>(bucket: &R::Bucket) -> Self {
        Self::of(R::TABLE, "members", bucket)
    }

    fn of(table: &str, shape: &str, key: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        (table, shape).hash(&mut hasher);
        key.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// The facts changed so far in this commit.
#[derive(Default)]
pub(crate) struct Touched(BTreeSet<Fact>);

/// The facts that one derivation has asked about.
#[derive(Default)]
pub(crate) struct Reads(RefCell<Vec<Fact>>);

impl Reads {
    fn note(&self, fact: Fact) {
        self.0.borrow_mut().push(fact);
    }
}

/// Rows, by key and by bucket, and which of them the current commit changed.
pub(crate) struct Table<R: Row> {
    rows: BTreeMap<R::Key, Arc<R>>,
    buckets: BTreeMap<R::Bucket, BTreeSet<R::Key>>,
    changed: BTreeSet<R::Key>,
}

impl<R: Row> Default for Table<R> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), buckets: BTreeMap::new(), changed: BTreeSet::new() }
    }
}

impl<R: Row> Table<R> {
    /// The row of that key.
    pub(crate) fn get(&self, reads: &Reads, key: &R::Key) -> Option<&Arc<R>> {
        reads.note(Fact::row::<R>(key));
        self.rows.get(key)
    }

    /// The rows in that bucket, in the order of their keys.
    pub(crate) fn bucket<'t>(
        &'t self,
        reads: &Reads,
        bucket: &R::Bucket,
    ) -> impl Iterator<Item = (&'t R::Key, &'t Arc<R>)> + use<'t, R> {
        reads.note(Fact::bucket::<R>(bucket));
        let keys = self.buckets.get(bucket).into_iter().flatten();
        keys.filter_map(|key| Some((key, self.rows.get(key)?)))
    }

    /// How many rows are in that bucket, without looking at them: a row that only changes is not read.
    pub(crate) fn count(&self, reads: &Reads, bucket: &R::Bucket) -> usize {
        reads.note(Fact::members::<R>(bucket));
        self.buckets.get(bucket).map_or(0, BTreeSet::len)
    }

    /// Every row, unrecorded: for finding keys, never for deriving a row.
    pub(crate) fn untracked(&self) -> &BTreeMap<R::Key, Arc<R>> {
        &self.rows
    }

    /// The keys that the current commit changed.
    pub(crate) fn changed(&self) -> &BTreeSet<R::Key> {
        &self.changed
    }

    /// Opens a commit.
    pub(crate) fn begin(&mut self) {
        self.changed.clear();
    }

    /// Sets or removes a row. An equal row is not a change.
    pub(crate) fn set(&mut self, touched: &mut Touched, key: R::Key, row: Option<R>) {
        let old = self.rows.get(&key);
        if old.map(|old| &**old) == row.as_ref() {
            return;
        }
        touched.0.insert(Fact::row::<R>(&key));
        let buckets = |row: Option<&R>| -> BTreeSet<R::Bucket> {
            row.map(|row| R::buckets(&key, row)).unwrap_or_default().into_iter().collect()
        };
        let (before, after) = (buckets(old.map(Arc::as_ref)), buckets(row.as_ref()));
        touched.0.extend(before.union(&after).map(Fact::bucket::<R>));
        touched.0.extend(before.symmetric_difference(&after).map(Fact::members::<R>));
        for left in before.difference(&after) {
            if let Some(keys) = self.buckets.get_mut(left) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.buckets.remove(left);
                }
            }
        }
        for joined in after.difference(&before) {
            self.buckets.entry(joined.clone()).or_default().insert(key.clone());
        }
        match row {
            Some(row) => self.rows.insert(key.clone(), Arc::new(row)),
            None => self.rows.remove(&key),
        };
        self.changed.insert(key);
    }
}

/// A table whose rows are computed.
pub(crate) struct Derived<R: Row> {
    table: Table<R>,
    reads: BTreeMap<R::Key, Vec<Fact>>,
    readers: BTreeMap<Fact, BTreeSet<R::Key>>,
    computed: usize,
}

impl<R: Row> Default for Derived<R> {
    fn default() -> Self {
        Self { table: Table::default(), reads: BTreeMap::new(), readers: BTreeMap::new(), computed: 0 }
    }
}

impl<R: Row> Deref for Derived<R> {
    type Target = Table<R>;

    fn deref(&self) -> &Table<R> {
        &self.table
    }
}

impl<R: Row> Derived<R> {
    /// Recomputes `keys`, and every row that read something touched.
    ///
    /// A key that derives to nothing keeps its reads while it `exists`, so that it is tried again
    /// when what it was missing appears.
    pub(crate) fn update(
        &mut self,
        touched: &mut Touched,
        keys: impl IntoIterator<Item = R::Key>,
        exists: impl Fn(&R::Key) -> bool,
        derive: impl Fn(&Reads, &R::Key) -> Option<R>,
    ) {
        self.table.begin();
        let mut dirty: BTreeSet<R::Key> = keys.into_iter().collect();
        // Walk the smaller side: a cold start touches everything while nobody has read anything.
        if touched.0.len() < self.readers.len() {
            let readers = touched.0.iter().filter_map(|fact| self.readers.get(fact));
            dirty.extend(readers.flatten().cloned());
        } else {
            let readers = self.readers.iter().filter(|(fact, _)| touched.0.contains(fact));
            dirty.extend(readers.flat_map(|(_, readers)| readers).cloned());
        }
        self.computed = dirty.len();
        for key in dirty {
            let reads = Reads::default();
            let row = derive(&reads, &key);
            let facts = if exists(&key) { reads.0.into_inner() } else { Vec::new() };
            self.table.set(touched, key.clone(), row);
            self.remember(key, facts);
        }
    }

    /// How many rows the last update computed.
    pub(crate) fn computed(&self) -> usize {
        self.computed
    }

    fn remember(&mut self, key: R::Key, mut facts: Vec<Fact>) {
        facts.sort_unstable();
        facts.dedup();
        for fact in self.reads.remove(&key).unwrap_or_default() {
            if let Some(readers) = self.readers.get_mut(&fact) {
                readers.remove(&key);
                if readers.is_empty() {
                    self.readers.remove(&fact);
                }
            }
        }
        if facts.is_empty() {
            return;
        }
        for fact in &facts {
            self.readers.entry(*fact).or_default().insert(key.clone());
        }
        self.reads.insert(key, facts);
    }
}
