//! What proxies have of what was published, gathered for the mesh, whose statuses say it.
//!
//! A proxy counts from when it has had everything once: before that its port is not open. One whose
//! stream ends counts for a while longer, for most come back at once, and it lacks what is published
//! meanwhile. Nothing is told before a wave of answers is over, nor, at a start, before proxies have had
//! time to return.

mod fleet;
mod others;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use proto::{Delta, Name, TypeUrl};
use translate::Change;
use xds::{Group, Observation};

pub use report::{Lack, Report, Reports};

use self::fleet::{Fleet, Proxy};

/// How long answers are gathered after the first. Proxies answer within milliseconds of one another.
const WAVE: Duration = Duration::from_millis(20);
/// How long a proxy whose stream has ended counts. Envoy tries again at once, and then after half a second.
const LINGER: Duration = Duration::from_secs(10);
/// How long after a start nothing is said of a waypoint without proxies. Envoy waits at most that long
/// between two attempts.
const RETURN: Duration = Duration::from_secs(30);

/// How many resources a report names of a waypoint. The objects that carry it have a limit.
const LACKS: usize = 512;

/// What the proxies of every waypoint have.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    fleets: BTreeMap<Group, Fleet>,
    /// Those of which there is something to tell.
    restless: BTreeSet<Group>,
    /// When that is told.
    gathered: Option<Instant>,
    /// When something is to be told of which no proxy tells us: that it has not come, or not come back.
    deadlines: BTreeSet<(Instant, Group)>,
    /// Before this, a waypoint without proxies says nothing.
    returned: Option<Instant>,
    /// What others are told of our own proxies.
    reports: Reports,
}

/// Whether statuses wait for every resource of the type. Of the others only rejections are told: they are
/// sent before, and whoever has taken the last has answered for the first.
const fn is_awaited(type_url: TypeUrl) -> bool {
    match type_url {
        TypeUrl::Listener | TypeUrl::Route => true,
        TypeUrl::Secret
        | TypeUrl::Extension
        | TypeUrl::Cluster
        | TypeUrl::Endpoint
        | TypeUrl::ScopedRoute => false,
    }
}

impl Progress {
    /// Everything that exists is about to be published: proxies are given time to return.
    pub(crate) fn start(&mut self, now: Instant) {
        self.returned = Some(now + RETURN);
    }

    /// Notes what was published to a group, as that snapshot.
    pub(crate) fn publish(&mut self, group: &Group, delta: &Delta, snapshot: u64, now: Instant) {
        let known = self.fleets.get(group).is_some_and(Fleet::is_wanted);
        let fleet = self.fleets.entry(group.clone()).or_default();
        if !known {
            let heard = self.returned.map_or(now, |returned| returned.max(now));
            fleet.want(heard);
            self.deadlines.insert((heard, group.clone()));
        }
        if fleet.publish(delta, snapshot) {
            self.stir(group, now);
        }
    }

    /// Notes that a waypoint is no more.
    pub(crate) fn forget(&mut self, group: &Group, now: Instant) {
        if let Some(fleet) = self.fleets.get_mut(group) {
            fleet.forget();
            self.stir(group, now);
        }
    }

    /// Notes what a proxy did.
    pub(crate) fn observe(&mut self, observation: &Observation, now: Instant) {
        let moved = match observation {
            Observation::Connected { stream, .. } => {
                let fleet = self.fleets.entry(stream.group.clone()).or_default();
                fleet.proxies.insert(stream.number, Proxy::new(stream.client.clone()));
                Some(&stream.group)
            }
            Observation::Acked { stream, type_url, resources, removed: _ } => {
                let fleet = self.fleets.get_mut(&stream.group);
                let moved = fleet.is_some_and(|fleet| fleet.acked(stream.number, *type_url, resources));
                moved.then_some(&stream.group)
            }
            Observation::Rejected { stream, type_url, resources, quarantined, message } => {
                let fleet = self.fleets.get_mut(&stream.group).filter(|_| *quarantined);
                let moved =
                    fleet.is_some_and(|fleet| fleet.rejected(stream.number, *type_url, resources, message));
                moved.then_some(&stream.group)
            }
            Observation::UpToDate { stream, revision, quarantined } => {
                let fleet = self.fleets.get_mut(&stream.group);
                let moved =
                    fleet.is_some_and(|fleet| fleet.up_to_date(stream.number, *revision, quarantined));
                moved.then_some(&stream.group)
            }
            Observation::Gone { stream, .. } => {
                let until = now + LINGER;
                let fleet = self.fleets.get_mut(&stream.group);
                if fleet.is_some_and(|fleet| fleet.gone(stream.number, until)) {
                    self.deadlines.insert((until, stream.group.clone()));
                    None
                } else {
                    Some(&stream.group)
                }
            }
            Observation::Refused { .. } | Observation::Sent { .. } | Observation::Unserved { .. } => None,
        };
        if let Some(group) = moved {
            self.stir(group, now);
        }
    }

    /// When [`Progress::take`] has something to give.
    pub(crate) fn due(&self) -> Option<Instant> {
        let deadline = self.deadlines.first().map(|(due, _)| *due);
        self.gathered.into_iter().chain(deadline).min()
    }

    /// What is to be told at `now`.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<Change> {
        while let Some((due, _)) = self.deadlines.first()
            && *due <= now
            && let Some((_, group)) = self.deadlines.pop_first()
        {
            self.restless.insert(group);
        }
        self.gathered = None;
        let mut told = Vec::new();
        for group in std::mem::take(&mut self.restless) {
            let Some(fleet) = self.fleets.get_mut(&group) else { continue };
            fleet.tell(&group, now, &mut told);
            match fleet.report() {
                // While a burst is answered, what was told last holds: of a commit that others know as well.
                Some(report) if report.lacks.len() > LACKS => {}
                Some(report) => drop(self.reports.insert(group.0.to_string(), report)),
                None => drop(self.reports.remove(&*group.0)),
            }
            if fleet.is_idle() {
                self.fleets.remove(&group);
            }
        }
        told
    }

    /// What others are to be told of our own proxies, as of the last [`Progress::take`].
    pub(crate) fn reports(&self) -> &Reports {
        &self.reports
    }

    /// Notes what the other replicas tell of theirs: all of it, whatever has changed.
    pub(crate) fn hear(&mut self, others: &BTreeMap<Name, Reports>, now: Instant) {
        let wanted = self.fleets.iter_mut().filter(|(_, fleet)| fleet.is_wanted());
        let moved = wanted.filter_map(|(group, fleet)| fleet.hear(&group.0, others).then(|| group.clone()));
        for group in moved.collect::<Vec<_>>() {
            self.stir(&group, now);
        }
    }

    fn stir(&mut self, group: &Group, now: Instant) {
        if !self.restless.contains(group) {
            self.restless.insert(group.clone());
        }
        self.gathered.get_or_insert(now + WAVE);
    }
}

#[cfg(test)]
mod tests;
