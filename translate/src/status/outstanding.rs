//! The resources that some proxy does not have: exceptions to "all of them have it", which nobody reads
//! but the objects that are in them.

use std::sync::Arc;

use proto::{Name, TypeUrl, Version};

use super::fleet::Fleet;
use crate::{
    derive::{Derived, Reads, Row},
    emit,
    envoy::infrastructure::{INNER_NAMES, NAMES},
    inputs::Inputs,
    mesh::{
        name::{Key, PortKey, ServiceKey},
        waypoint::EVERY_WAYPOINT,
    },
    resources::Resources,
    settings::Settings,
};

/// Resources that statuses wait for: what is sent last, so that all else was taken before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Piece {
    /// The listeners of a waypoint.
    Listeners(Key),
    /// The route configuration of a port.
    Port(PortKey),
}

impl Piece {
    pub(super) const fn waypoint(&self) -> &Key {
        match self {
            Self::Listeners(waypoint) => waypoint,
            Self::Port(port) => &port.waypoint,
        }
    }
}

/// What of a piece is still to come. A piece that all proxies have has no row, nor has any of a waypoint
/// without proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outstanding {
    class: Name,
    /// How many proxies have neither taken nor rejected it; `None` for all of them.
    pub(super) waiting: Option<u32>,
    /// Why some do not have it that did answer.
    pub(super) rejected: Option<Rejection>,
}

/// What a proxy would not have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rejection {
    pub(super) type_url: TypeUrl,
    pub(super) name: Name,
    /// How many proxies go without.
    pub(super) count: u32,
    pub(super) words: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Bucket {
    /// The ports behind a waypoint.
    Waypoint(Key),
    /// The ports behind all waypoints of a class.
    Class(Name),
    /// The ports behind a waypoint whose configuration was rejected.
    Rejected(Key),
    /// The ports behind all waypoints of a class whose configuration was rejected.
    RejectedInClass(Name),
    /// The ports of a service whose configuration was rejected.
    RejectedOf(ServiceKey),
}

impl Row for Outstanding {
    const TABLE: &'static str = "outstanding";
    type Key = Piece;
    type Bucket = Bucket;

    fn buckets(key: &Piece, row: &Self) -> Vec<Bucket> {
        let Piece::Port(PortKey { waypoint, service, port: _ }) = key else { return Vec::new() };
        let classes: [Name; 2] = [row.class.clone(), EVERY_WAYPOINT.into()];
        let mut buckets = vec![Bucket::Waypoint(waypoint.clone())];
        buckets.extend(classes.clone().map(Bucket::Class));
        if row.rejected.is_some() {
            buckets.push(Bucket::Rejected(waypoint.clone()));
            buckets.extend(classes.map(Bucket::RejectedInClass));
            buckets.push(Bucket::RejectedOf(service.clone()));
        }
        buckets
    }
}

/// Which pieces there are, for finding keys only.
pub(super) fn exists(resources: &Resources, piece: &Piece) -> bool {
    match piece {
        Piece::Listeners(waypoint) => resources.infrastructure.untracked().contains_key(waypoint),
        Piece::Port(port) => resources.configs.untracked().contains_key(port),
    }
}

/// `None` where every proxy has it, and where there is none.
pub(super) fn of(
    reads: &Reads,
    inputs: &Inputs,
    resources: &Resources,
    fleets: &Derived<Fleet>,
    settings: &Settings,
    piece: &Piece,
) -> Option<Outstanding> {
    let waypoint = piece.waypoint();
    // Asked first: without proxies nobody needs to know versions.
    if !fleets.get(reads, waypoint)?.staffed {
        return None;
    }
    let mut outstanding = Outstanding {
        class: inputs.waypoints.get(reads, waypoint)?.class.clone(),
        waiting: Some(0),
        rejected: None,
    };
    let mut judge = |type_url, name: Name, version| {
        outstanding.add(inputs, reads, (waypoint.clone(), type_url, name), version);
    };
    match piece {
        Piece::Port(port) => {
            let config = resources.configs.get(reads, port)?;
            judge(TypeUrl::Route, port.route_name().into(), emit::version(&**config, port, settings));
        }
        Piece::Listeners(key) => {
            let outer = emit::version(&**resources.infrastructure.get(reads, key)?, key, settings);
            let inner = emit::version(&**resources.inner_listeners.get(reads, key)?, key, settings);
            let names = NAMES.map(|name| (name, outer)).into_iter();
            let names = names.chain(INNER_NAMES.map(|name| (name, inner)));
            for ((_, name), version) in names.filter(|((kind, _), _)| *kind == TypeUrl::Listener) {
                judge(TypeUrl::Listener, name.into(), version);
            }
        }
    }
    let settled = outstanding.waiting == Some(0) && outstanding.rejected.is_none();
    (!settled).then_some(outstanding)
}

impl Outstanding {
    /// Of several resources the one counts that fewest proxies have.
    fn add(&mut self, inputs: &Inputs, reads: &Reads, key: (Key, TypeUrl, Name), version: Version) {
        let taken = inputs.taken.get(reads, &key).filter(|taken| taken.version == version);
        let waiting = taken.map(|taken| taken.waiting);
        self.waiting = self.waiting.zip(waiting).map(|(one, other)| one.max(other));
        let rejected = taken.filter(|taken| taken.rejected > 0);
        if let (None, Some(taken)) = (&self.rejected, rejected) {
            let (_, type_url, name) = key;
            let words = taken.words.clone();
            self.rejected = Some(Rejection { type_url, name, count: taken.rejected, words });
        }
    }
}
