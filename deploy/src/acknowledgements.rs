//! How long a change takes: from when it was seen to when every connected proxy of a waypoint has it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use proto::{Name, TypeUrl};
use translate::Revision;
use xds::{Group, Observation};

/// With a proxy that never comes up to date, so many publishes to its group are remembered.
const REMEMBERED: usize = 256;

/// What was published to each group and what its proxies have of it.
#[derive(Debug, Default)]
pub(crate) struct Acknowledgements {
    groups: BTreeMap<Group, Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// The snapshot that the group is at.
    snapshot: Option<u64>,
    /// Publishes that some connected proxy does not have, oldest first.
    pending: VecDeque<Publish>,
    /// What each open stream has.
    streams: BTreeMap<u64, Holding>,
}

#[derive(Debug, Default)]
struct Holding {
    /// The latest snapshot that it has all of, but for what it rejected. None has number 0.
    snapshot: u64,
    rejected: Vec<(TypeUrl, Name)>,
}

/// One publish to one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    /// The commit that it came from.
    pub(crate) revision: Revision,
    /// The snapshot that it made.
    pub(crate) snapshot: u64,
    /// When the change was seen.
    pub(crate) seen: Instant,
}

/// A publish that every connected proxy of the group has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// To which group.
    pub(crate) group: Group,
    /// The commit that it came from.
    pub(crate) revision: Revision,
    /// How long it took since the change was seen.
    pub(crate) after: Duration,
    /// What some proxy does not have, because it rejected it.
    pub(crate) rejected: Vec<(TypeUrl, Name)>,
}

impl Acknowledgements {
    /// Notes a publish; false if it made no new snapshot, for the group had all of it.
    pub(crate) fn publish(&mut self, group: &Group, publish: Publish) -> bool {
        let progress = self.groups.entry(group.clone()).or_default();
        if progress.snapshot.replace(publish.snapshot) == Some(publish.snapshot) {
            return false;
        }
        // Without a proxy there is nobody to wait for.
        if !progress.streams.is_empty() {
            progress.pending.push_back(publish);
            if progress.pending.len() > REMEMBERED {
                progress.pending.pop_front();
            }
        }
        true
    }

    /// Notes that there is nothing more for the group.
    pub(crate) fn forget(&mut self, group: &Group) {
        if let Some(progress) = self.groups.get_mut(group) {
            progress.snapshot = None;
            progress.pending.clear();
        }
        self.drop_if_idle(group);
    }

    /// Notes what a proxy did, at `now`; returns what is acknowledged by it, oldest first.
    pub(crate) fn observe(&mut self, observation: &Observation, now: Instant) -> Vec<Acknowledged> {
        match observation {
            Observation::Connected { stream, .. } => {
                let progress = self.groups.entry(stream.group.clone()).or_default();
                progress.streams.insert(stream.number, Holding::default());
                Vec::new()
            }
            Observation::UpToDate { stream, revision, quarantined } => {
                let holding = Holding { snapshot: *revision, rejected: quarantined.clone() };
                let Some(progress) = self.groups.get_mut(&stream.group) else { return Vec::new() };
                // A stream that has ended says nothing any more.
                let Some(held) = progress.streams.get_mut(&stream.number) else { return Vec::new() };
                *held = holding;
                progress.settle(&stream.group, now)
            }
            Observation::Gone { stream, .. } => {
                let Some(progress) = self.groups.get_mut(&stream.group) else { return Vec::new() };
                progress.streams.remove(&stream.number);
                let settled = if progress.streams.is_empty() {
                    progress.pending.clear();
                    Vec::new()
                } else {
                    progress.settle(&stream.group, now)
                };
                self.drop_if_idle(&stream.group);
                settled
            }
            Observation::Refused { .. }
            | Observation::Sent { .. }
            | Observation::Acked { .. }
            | Observation::Rejected { .. }
            | Observation::Unserved { .. } => Vec::new(),
        }
    }

    fn drop_if_idle(&mut self, group: &Group) {
        let idle = |progress: &Progress| progress.snapshot.is_none() && progress.streams.is_empty();
        if self.groups.get(group).is_some_and(idle) {
            self.groups.remove(group);
        }
    }
}

impl Progress {
    fn settle(&mut self, group: &Group, now: Instant) -> Vec<Acknowledged> {
        let everyone_has = self.streams.values().map(|held| held.snapshot).min().unwrap_or_default();
        let mut rejected: Vec<_> = self.streams.values().flat_map(|held| held.rejected.clone()).collect();
        rejected.sort();
        rejected.dedup();
        let mut settled = Vec::new();
        while let Some(&Publish { revision, snapshot, seen }) = self.pending.front()
            && snapshot <= everyone_has
        {
            let after = now.saturating_duration_since(seen);
            settled.push(Acknowledged { group: group.clone(), revision, after, rejected: rejected.clone() });
            self.pending.pop_front();
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use xds::StreamId;

    use super::*;

    fn group() -> Group {
        Group("default/waypoint".into())
    }

    fn stream(number: u64) -> Arc<StreamId> {
        Arc::new(StreamId { group: group(), client: "proxy".into(), number })
    }

    fn connected(number: u64) -> Observation {
        Observation::Connected { stream: stream(number), address: None }
    }

    fn up_to_date(number: u64, revision: u64) -> Observation {
        Observation::UpToDate { stream: stream(number), revision, quarantined: Vec::new() }
    }

    fn gone(number: u64) -> Observation {
        Observation::Gone { stream: stream(number), reason: String::new() }
    }

    /// Publishes revision and snapshot of one number, at `start`.
    fn publish(progress: &mut Acknowledgements, number: u64, start: Instant) -> bool {
        let publish = Publish { revision: Revision(number), snapshot: number, seen: start };
        progress.publish(&group(), publish)
    }

    fn revisions(acknowledged: &[Acknowledged]) -> Vec<u64> {
        acknowledged.iter().map(|it| it.revision.0).collect()
    }

    #[test]
    fn a_publish_is_acknowledged_when_the_last_proxy_has_it() {
        let (mut progress, start) = (Acknowledgements::default(), Instant::now());
        progress.observe(&connected(1), start);
        progress.observe(&connected(2), start);
        assert!(publish(&mut progress, 1, start));
        assert_eq!(progress.observe(&up_to_date(1, 1), start), []);
        let after = Duration::from_millis(7);
        let acknowledged = progress.observe(&up_to_date(2, 1), start + after);
        let expected = Acknowledged { group: group(), revision: Revision(1), after, rejected: Vec::new() };
        assert_eq!(acknowledged, [expected]);
        assert_eq!(progress.observe(&up_to_date(2, 1), start), [], "it is told once");
    }

    #[test]
    fn publishes_that_a_proxy_took_together_are_acknowledged_together() {
        let (mut progress, start) = (Acknowledgements::default(), Instant::now());
        progress.observe(&connected(1), start);
        for number in 1..=3 {
            publish(&mut progress, number, start);
        }
        assert_eq!(revisions(&progress.observe(&up_to_date(1, 2), start)), [1, 2]);
        assert_eq!(revisions(&progress.observe(&up_to_date(1, 3), start)), [3]);
    }

    #[test]
    fn a_proxy_that_leaves_is_not_waited_for() {
        let (mut progress, start) = (Acknowledgements::default(), Instant::now());
        progress.observe(&connected(1), start);
        progress.observe(&connected(2), start);
        publish(&mut progress, 1, start);
        progress.observe(&up_to_date(1, 1), start);
        assert_eq!(revisions(&progress.observe(&gone(2), start)), [1]);
    }

    #[test]
    fn nothing_is_acknowledged_by_nobody() {
        let (mut progress, start) = (Acknowledgements::default(), Instant::now());
        assert!(publish(&mut progress, 1, start));
        progress.observe(&connected(1), start);
        assert_eq!(progress.observe(&up_to_date(1, 1), start), []);
        publish(&mut progress, 2, start);
        assert_eq!(progress.observe(&gone(1), start), []);
    }

    #[test]
    fn a_publish_of_what_is_there_already_is_none() {
        let (mut progress, start) = (Acknowledgements::default(), Instant::now());
        assert!(publish(&mut progress, 1, start));
        assert!(!publish(&mut progress, 1, start));
    }

    #[test]
    fn what_a_proxy_rejected_is_told() {
        let (mut progress, start) = (Acknowledgements::default(), Instant::now());
        progress.observe(&connected(1), start);
        publish(&mut progress, 1, start);
        let bad = vec![(TypeUrl::Route, Name::from("default/web:80"))];
        let observation = Observation::UpToDate { stream: stream(1), revision: 1, quarantined: bad.clone() };
        assert_eq!(progress.observe(&observation, start)[0].rejected, bad);
    }

    #[test]
    fn a_group_that_is_gone_takes_no_memory() {
        let (mut progress, start) = (Acknowledgements::default(), Instant::now());
        progress.observe(&connected(1), start);
        publish(&mut progress, 1, start);
        progress.forget(&group());
        progress.observe(&gone(1), start);
        assert!(progress.groups.is_empty());
    }
}
