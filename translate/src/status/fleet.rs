//! Whether anybody runs a waypoint: what the statuses of many objects ask, and a proxy more does not change.

use proto::Name;

use crate::{
    derive::{Reads, Row},
    inputs::Inputs,
    mesh::{name::Key, waypoint::EVERY_WAYPOINT},
};

/// A waypoint of whose proxies somebody has told. One that nobody has looked at has no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fleet {
    class: Name,
    /// Whether there is a proxy that is ready.
    pub(super) staffed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Bucket {
    /// The waypoints of a class, as the target of a policy: one class is all of them.
    Class(Name),
    /// Those of them that have a proxy.
    Staffed(Name),
}

impl Row for Fleet {
    const TABLE: &'static str = "fleet";
    type Key = Key;
    type Bucket = Bucket;

    fn buckets(_key: &Key, row: &Self) -> Vec<Bucket> {
        let classes = [row.class.clone(), EVERY_WAYPOINT.into()];
        let staffed = classes.clone().into_iter().filter(|_| row.staffed).map(Bucket::Staffed);
        classes.into_iter().map(Bucket::Class).chain(staffed).collect()
    }
}

/// `None` where nobody has looked, or there is no such waypoint.
pub(super) fn of(reads: &Reads, inputs: &Inputs, waypoint: &Key) -> Option<Fleet> {
    let class = inputs.waypoints.get(reads, waypoint)?.class.clone();
    let proxies = inputs.proxies.get(reads, waypoint)?;
    Some(Fleet { class, staffed: proxies.ready > 0 })
}
