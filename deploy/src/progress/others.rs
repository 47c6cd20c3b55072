//! The proxies of a waypoint that other replicas serve: each replica is one more proxy that counts for several.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use proto::Name;

use super::{
    fleet::{Fleet, Key, Sent, count},
    is_awaited,
    report::{Elsewhere, Lack, Replica, Report, Reports},
};

/// How many of the last publishes of a waypoint others may lag behind us and still be understood.
const MOMENTS: usize = 1024;

/// What was published, by the hash that others tell of it.
#[derive(Debug, Default)]
pub(super) struct Moments {
    /// Of what is published now.
    pub(super) published: u64,
    /// The last snapshot with it.
    snapshots: BTreeMap<u64, u64>,
}

impl Moments {
    /// Notes that it is what that snapshot holds.
    pub(super) fn note(&mut self, snapshot: u64) {
        self.snapshots.insert(self.published, snapshot);
        if self.snapshots.len() > MOMENTS {
            let oldest = self.snapshots.iter().min_by_key(|(_, snapshot)| **snapshot);
            if let Some(oldest) = oldest.map(|(published, _)| *published) {
                self.snapshots.remove(&oldest);
            }
        }
    }

    fn at(&self, published: u64) -> Option<u64> {
        self.snapshots.get(&published).copied()
    }
}

impl Fleet {
    /// What we tell others of our own proxies, if there are any.
    pub(super) fn report(&self) -> Option<Report> {
        if self.proxies.is_empty() || !self.is_wanted() {
            return None;
        }
        let (ready, starting) = self.own();
        let lacks = self.lacking.iter().filter_map(|key| {
            let taken = self.resources.get(key)?.taken(&self.proxies);
            let lack = Lack {
                kind: key.0.as_str().to_owned(),
                name: key.1.to_string(),
                version: taken.version.0,
                waiting: taken.waiting,
                rejected: taken.rejected,
                words: taken.words.map(|words| words.to_string()),
            };
            Some(lack).filter(|lack| lack.waiting > 0 || lack.rejected > 0)
        });
        let (published, lacks) = (self.moments.published, lacks.collect());
        Some(Report { published, ready: count(ready), starting: count(starting), lacks })
    }

    /// Takes what the others tell of the waypoint that is called so. Whether anything follows.
    pub(super) fn hear(&mut self, waypoint: &str, others: &BTreeMap<Name, Reports>) -> bool {
        let mut heard = BTreeMap::new();
        for (name, reports) in others {
            if let Some(report) = reports.get(waypoint) {
                heard.insert(name, (report, self.moments.at(report.published)));
            }
        }
        let as_before = |(name, (report, at)): (&&Name, &(&Report, Option<u64>))| {
            self.replicas.get(*name).is_some_and(|known| at.is_none_or(|at| known.is(report, at)))
        };
        if heard.len() == self.replicas.len() && heard.iter().all(as_before) {
            return false;
        }
        let before = self.everything_elsewhere();
        let mut known = mem::take(&mut self.replicas);
        for (name, (report, at)) in heard {
            // What is not known is ahead of us, and understood when we have published the same; or it never
            // is, as of another build, and then nothing can be said of those proxies.
            let replica = at.map(|at| Replica::new(report, at)).or_else(|| known.remove(name));
            if let Some(replica) = replica {
                for (key, version) in replica.rejections().filter(|(key, _)| !is_awaited(key.0)) {
                    let only = || Sent::only_rejected(version);
                    self.resources.entry(key.clone()).or_insert_with(only);
                }
                self.replicas.insert(name.clone(), replica);
            }
        }
        let after = self.everything_elsewhere();
        let keys: BTreeSet<&Key> = before.keys().chain(after.keys()).collect();
        self.changed.extend(keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).cloned());
        true
    }

    /// What proxies of others have of a resource.
    pub(super) fn elsewhere(&self, key: &Key, sent: &Sent) -> Elsewhere {
        let replicas = self.replicas.values();
        replicas
            .map(|replica| replica.of(key, sent.version, sent.snapshot))
            .fold(Elsewhere::default(), Elsewhere::and)
    }

    fn everything_elsewhere(&self) -> BTreeMap<Key, Elsewhere> {
        let all = self.resources.iter().map(|(key, sent)| (key.clone(), self.elsewhere(key, sent)));
        all.filter(|(_, elsewhere)| *elsewhere != Elsewhere::default()).collect()
    }

    /// How many there are of ours and of others: ready, and starting.
    pub(super) fn proxies_everywhere(&self) -> (usize, usize) {
        let (ready, starting) = self.own();
        let of = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        self.replicas.values().fold((ready, starting), |(ready, starting), replica| {
            (ready + of(replica.report.ready), starting + of(replica.report.starting))
        })
    }
}
