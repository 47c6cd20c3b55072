//! Group to current snapshot, and who waits for the next.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use proto::Delta;
use tokio::sync::watch;

use crate::{Group, Quarantine, Snapshot, Streams};

/// The current snapshot of every group.
///
/// It is level-triggered: a follower that was busy through ten publishes sees the last one only.
/// There is no queue that could overflow.
#[derive(Debug, Default)]
pub struct Cache {
    groups: Arc<DashMap<Group, Arc<Entry>>>,
    revision: AtomicU64,
    streams: Arc<Streams>,
}

#[derive(Debug, Default)]
struct Entry {
    current: ArcSwapOption<Snapshot>,
    /// Carries no data; a version of it that a follower has not seen says: look again.
    wake: watch::Sender<()>,
    quarantine: Arc<Quarantine>,
}

impl Cache {
    /// A cache without groups.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies `delta` to the group's snapshot, wakes its followers, and returns the revision that
    /// the group is at. An empty first delta publishes an empty snapshot, which tells clients that
    /// there is nothing for them; a later delta that says nothing new wakes no one.
    pub fn publish(&self, group: &Group, delta: &Delta) -> u64 {
        // The guard is held to the end: publishes to a group must not overtake each other, and the
        // entry must not be given up between finding it and filling it. Streams read without it.
        let entry = self.groups.entry(group.clone()).or_default();
        let current = entry.current.load_full();
        let revision = self.revision.fetch_add(1, Ordering::Relaxed) + 1;
        let next = match &current {
            Some(current) => current.after(delta, revision),
            None => Some(Snapshot::first(delta, revision)),
        };
        let Some(next) = next else {
            return current.map_or(revision, |current| current.revision());
        };
        entry.quarantine.release(delta);
        entry.current.store(Some(Arc::new(next)));
        entry.wake.send_replace(());
        revision
    }

    /// Forgets the group. Its streams keep what their clients have, and get what is published later.
    pub fn remove(&self, group: &Group) {
        if let Some(entry) = self.groups.get(group) {
            entry.current.store(None);
        }
        self.groups.remove_if(group, |_, entry| entry.abandoned());
    }

    /// The group's snapshot, if anything was published for it.
    pub fn snapshot(&self, group: &Group) -> Option<Arc<Snapshot>> {
        self.groups.get(group)?.current.load_full()
    }

    /// The groups for which something was published, by name.
    pub fn groups(&self) -> Vec<Group> {
        let published = self.groups.iter().filter(|entry| entry.current.load().is_some());
        let mut groups: Vec<_> = published.map(|entry| entry.key().clone()).collect();
        groups.sort();
        groups
    }

    /// The streams that follow a group at the moment.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// Follows the group, whether or not anything was published for it yet.
    pub fn follow(&self, group: &Group) -> Follower {
        let entry = self.groups.entry(group.clone()).or_default();
        let mut wake = entry.wake.subscribe();
        // What is there already counts as news.
        wake.mark_changed();
        Follower { groups: Arc::clone(&self.groups), group: group.clone(), entry: Arc::clone(&entry), wake }
    }
}

impl Entry {
    fn abandoned(&self) -> bool {
        self.wake.receiver_count() == 0 && self.current.load().is_none()
    }
}

/// Someone who waits for a group's next snapshot.
#[derive(Debug)]
pub struct Follower {
    groups: Arc<DashMap<Group, Arc<Entry>>>,
    group: Group,
    entry: Arc<Entry>,
    wake: watch::Receiver<()>,
}

impl Follower {
    /// Waits until the group has a snapshot that this follower has not been given, and returns the
    /// latest. Safe to cancel: a snapshot not returned is returned by the next call.
    pub async fn changed(&mut self) -> Arc<Snapshot> {
        loop {
            if self.wake.changed().await.is_err() {
                // The sender lives in the entry that we hold, so this does not happen; if it ever
                // does, waiting is right, for there will be no news.
                std::future::pending::<()>().await;
            }
            if let Some(snapshot) = self.entry.current.load_full() {
                return snapshot;
            }
        }
    }

    /// What the group's clients have rejected.
    pub fn quarantine(&self) -> Arc<Quarantine> {
        Arc::clone(&self.entry.quarantine)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // A group without a snapshot exists only for those who wait for one.
        let last = |entry: &Arc<Entry>| entry.wake.receiver_count() <= 1 && entry.current.load().is_none();
        self.groups.remove_if(&self.group, |_, entry| last(entry));
    }
}

#[cfg(test)]
mod tests {
    use proto::{Resource, TypeUrl, Version};

    use super::*;

    fn delta(name: &str, version: u64) -> Delta {
        let (type_url, body) = (TypeUrl::Cluster, proto::Body::default());
        let resource = Resource { type_url, name: name.into(), version: Version(version), wave: 0, body };
        Delta { set: vec![Arc::new(resource)], removed: Vec::new() }
    }

    #[tokio::test]
    async fn a_slow_follower_sees_the_latest_only() {
        let (cache, group) = (Cache::new(), Group("ns/gateway".into()));
        let mut follower = cache.follow(&group);
        for version in 1..=10 {
            cache.publish(&group, &delta("a", version));
        }
        let snapshot = follower.changed().await;
        assert_eq!(snapshot.get(TypeUrl::Cluster, "a").unwrap().version, Version(10));
        let more = tokio::time::timeout(std::time::Duration::from_millis(20), follower.changed()).await;
        assert!(more.is_err(), "one change was reported twice");
    }

    #[tokio::test]
    async fn a_follower_hears_of_a_group_that_was_removed_and_came_back() {
        let (cache, group) = (Cache::new(), Group("ns/gateway".into()));
        cache.publish(&group, &delta("a", 1));
        let mut follower = cache.follow(&group);
        follower.changed().await;
        cache.remove(&group);
        assert!(cache.snapshot(&group).is_none());
        cache.publish(&group, &delta("b", 1));
        assert!(follower.changed().await.get(TypeUrl::Cluster, "b").is_some());
    }

    #[test]
    fn a_group_nobody_follows_and_nothing_was_published_for_takes_no_memory() {
        let (cache, group) = (Cache::new(), Group("ns/gateway".into()));
        drop(cache.follow(&group));
        assert!(cache.groups.is_empty());
        cache.publish(&group, &delta("a", 1));
        let follower = cache.follow(&group);
        cache.remove(&group);
        assert_eq!(cache.groups.len(), 1);
        drop(follower);
        assert!(cache.groups.is_empty());
    }

    #[test]
    fn an_equal_publish_is_not_a_new_revision() {
        let (cache, group) = (Cache::new(), Group("ns/gateway".into()));
        let first = cache.publish(&group, &delta("a", 1));
        assert_eq!(cache.publish(&group, &delta("a", 1)), first);
        assert!(cache.publish(&group, &delta("a", 2)) > first);
    }
}
