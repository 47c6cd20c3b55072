//! What is counted of proxies: who is connected, what they were sent, and what they made of it.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use proto::{Name, TypeUrl};
use xds::{Group, Observation};

use super::{Label, counters, shown};

type Waypoint = [(&'static str, String); 1];

/// What happened between proxies and us.
pub(crate) struct Proxies {
    connected: Family<Waypoint, Gauge>,
    refused: Counter,
    responses: Family<Label, Counter>,
    set: Family<Label, Counter>,
    removed: Family<Label, Counter>,
    bytes: Family<Label, Counter>,
    acknowledged: Family<Label, Counter>,
    rejected: Family<Label, Counter>,
    quarantined: Family<Label, Gauge>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waypoints: BTreeMap<Group, Waypoints>,
    /// Of each stream that lacks something.
    lacking: BTreeMap<u64, (Group, Vec<(TypeUrl, Name)>)>,
}

/// A waypoint that should run, or has proxies still.
#[derive(Default)]
struct Waypoints {
    wanted: bool,
    connected: i64,
}

impl Proxies {
    pub(super) fn new(page: &mut Registry) -> Self {
        let by_type = |page: &mut Registry, name, help| counters(page, name, help, TypeUrl::ALL.map(label));
        let this = Self {
            connected: shown(
                page,
                "connected_proxies",
                "Open streams of the proxies of each waypoint",
                Family::default(),
            ),
            refused: shown(
                page,
                "refused_streams",
                "Streams that were turned away: no token, a wrong one, or not for that waypoint",
                Counter::default(),
            ),
            responses: by_type(page, "responses", "Discovery responses sent"),
            set: by_type(page, "resources_set", "Resources sent, new or changed"),
            removed: by_type(page, "resources_removed", "Resources that proxies were told to remove"),
            bytes: by_type(page, "response_bytes", "Bytes of the discovery responses sent"),
            acknowledged: by_type(page, "acks", "Responses that a proxy took"),
            rejected: by_type(page, "nacks", "Responses that a proxy rejected"),
            quarantined: shown(
                page,
                "quarantined_resources",
                "Resources that are not sent again until they change, because a proxy rejected them",
                Family::default(),
            ),
            state: Mutex::default(),
        };
        for type_url in TypeUrl::ALL {
            drop(this.quarantined.get_or_create(&label(type_url)));
        }
        this
    }

    /// A waypoint is to run: that it has no proxies is worth knowing from then on.
    pub(crate) fn want(&self, group: &Group) {
        self.of(group, |waypoint| waypoint.wanted = true);
    }

    /// A waypoint is no more.
    pub(crate) fn forget(&self, group: &Group) {
        self.of(group, |waypoint| waypoint.wanted = false);
    }

    /// Counts what a proxy did.
    pub(crate) fn observe(&self, observation: &Observation) {
        let add = |family: &Family<Label, Counter>, type_url, count: usize| {
            family.get_or_create(&label(type_url)).inc_by(count as u64);
        };
        match observation {
            Observation::Connected { stream, .. } => {
                self.of(&stream.group, |waypoint| waypoint.connected += 1);
            }
            Observation::Refused { .. } => {
                self.refused.inc();
            }
            Observation::Sent { stream: _, type_url, resources, removed, bytes } => {
                add(&self.responses, *type_url, 1);
                add(&self.set, *type_url, *resources);
                add(&self.removed, *type_url, *removed);
                add(&self.bytes, *type_url, *bytes);
            }
            Observation::Acked { type_url, .. } => add(&self.acknowledged, *type_url, 1),
            Observation::Rejected { type_url, .. } => add(&self.rejected, *type_url, 1),
            Observation::UpToDate { stream, quarantined, .. } => {
                self.lacks(stream.number, &stream.group, quarantined);
            }
            Observation::Unserved { .. } => {}
            Observation::Gone { stream, .. } => {
                self.of(&stream.group, |waypoint| waypoint.connected -= 1);
                self.lacks(stream.number, &stream.group, &[]);
            }
        }
    }

    fn of(&self, group: &Group, change: impl FnOnce(&mut Waypoints)) {
        let mut state = self.state.lock();
        let waypoint = state.waypoints.entry(group.clone()).or_default();
        change(waypoint);
        let label = [("waypoint", group.to_string())];
        if waypoint.wanted || waypoint.connected > 0 {
            self.connected.get_or_create(&label).set(waypoint.connected);
        } else {
            self.connected.remove(&label);
            state.waypoints.remove(group);
        }
    }

    fn lacks(&self, stream: u64, group: &Group, quarantined: &[(TypeUrl, Name)]) {
        let mut state = self.state.lock();
        let before = if quarantined.is_empty() {
            state.lacking.remove(&stream)
        } else {
            state.lacking.insert(stream, (group.clone(), quarantined.to_vec()))
        };
        if before.is_none() && quarantined.is_empty() {
            return;
        }
        // What one proxy rejected, no proxy of its waypoint is sent, and each of them tells of it.
        let lacking = state.lacking.values();
        let distinct: BTreeSet<_> =
            lacking.flat_map(|(group, lacks)| lacks.iter().map(move |lacks| (group, lacks))).collect();
        for type_url in TypeUrl::ALL {
            let count = distinct.iter().filter(|(_, (of, _))| *of == type_url).count();
            self.quarantined.get_or_create(&label(type_url)).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

fn label(type_url: TypeUrl) -> Label {
    [("type", type_url.short())]
}
