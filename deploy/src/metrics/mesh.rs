//! What is counted of the mesh: its objects, what is wrong with them, and what a change costs in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use proto::{Kind, ObjectRef};
use translate::{Change, status::Status};

use super::{Label, shown};
use crate::journal;

/// In seconds. A change takes some ten microseconds, a start with a hundred thousand objects some seconds.
const COMMIT: [f64; 11] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// In seconds. Proxies that are near answer within ten milliseconds.
const ACKNOWLEDGEMENT: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The kind of an object, a condition that is not as it should be, and its reason.
type Problem = [(&'static str, &'static str); 3];

/// What is known of the mesh.
pub(crate) struct Mesh {
    objects: Family<Label, Gauge>,
    problems: Family<Problem, Gauge>,
    commits: Histogram,
    acknowledgements: Histogram,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Kind, BTreeSet<ObjectRef>>,
    /// Of the objects that have any.
    problems: BTreeMap<ObjectRef, BTreeSet<Problem>>,
}

impl Mesh {
    pub(super) fn new(page: &mut Registry) -> Self {
        let this = Self {
            objects: shown(page, "objects", "Objects that are read, by kind", Family::default()),
            problems: shown(
                page,
                "problems",
                "Objects with a condition that is not as it should be, by kind, condition and reason",
                Family::default(),
            ),
            commits: shown(
                page,
                "commit_duration_seconds",
                "How long a change took from being read to being published",
                Histogram::new(COMMIT),
            ),
            acknowledgements: shown(
                page,
                "acknowledgement_duration_seconds",
                "How long a change took from being seen to every connected proxy of a waypoint having it",
                Histogram::new(ACKNOWLEDGEMENT),
            ),
            state: Mutex::default(),
        };
        for kind in Kind::ALL {
            drop(this.objects.get_or_create(&label(*kind)));
        }
        this
    }

    /// Counts objects that come and go.
    pub(crate) fn change(&self, changes: &[Change]) {
        let mut state = self.state.lock();
        for change in changes {
            let kind = match change {
                Change::Set(object) => {
                    let object = object.reference();
                    state.objects.entry(object.kind).or_default().insert(object.clone());
                    object.kind
                }
                Change::Remove(object) => {
                    state.objects.entry(object.kind).or_default().remove(object);
                    object.kind
                }
                Change::Keys(..) | Change::Hindered(..) | Change::Missing(..) | Change::Seen(_) => continue,
            };
            let count = state.objects.get(&kind).map_or(0, BTreeSet::len);
            self.objects.get_or_create(&label(kind)).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts what is said of an object now.
    pub(crate) fn status(&self, object: &ObjectRef, status: Option<&Status>) {
        let problems = status.into_iter().flat_map(journal::problems);
        let problems: BTreeSet<Problem> = problems
            .map(|(_, it)| [("kind", object.kind.name()), ("condition", it.kind), ("reason", it.reason)])
            .collect();
        let mut state = self.state.lock();
        let before = if problems.is_empty() {
            state.problems.remove(object)
        } else {
            state.problems.insert(object.clone(), problems.clone())
        };
        let before = before.unwrap_or_default();
        for problem in before.difference(&problems) {
            // A problem that nobody has any more stays at zero: that it is over is worth seeing.
            self.problems.get_or_create(problem).dec();
        }
        for problem in problems.difference(&before) {
            self.problems.get_or_create(problem).inc();
        }
    }

    /// Counts a commit that took so long.
    pub(crate) fn committed(&self, took: Duration) {
        self.commits.observe(took.as_secs_f64());
    }

    /// Counts a change that every proxy has after so long.
    pub(crate) fn acknowledged(&self, after: Duration) {
        self.acknowledgements.observe(after.as_secs_f64());
    }
}

fn label(kind: Kind) -> Label {
    [("kind", kind.name())]
}
