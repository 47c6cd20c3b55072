//! Whether proxies have what follows from an object.
//!
//! What all have is said without a number, and only a waypoint's own Gateway counts then: a proxy that
//! comes or goes would otherwise be a new status of every policy and every route behind it.

use std::collections::{BTreeMap, BTreeSet};

use proto::Name;

use super::{
    Condition, Truth,
    fleet::{self, Fleet},
    outstanding::{self, Outstanding, Piece, Rejection},
};
use crate::{
    derive::{Derived, Reads},
    inputs::Inputs,
    mesh::name::{Key, PortKey},
    seen,
};

/// Where an object is in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// At that port, behind that waypoint.
    Port(PortKey),
    /// At every port behind that waypoint.
    Waypoint(Key),
    /// At every port behind every waypoint of that class.
    Class(Name),
}

/// What is known of proxies.
#[derive(Clone, Copy)]
pub(super) struct Known<'t> {
    pub(super) inputs: &'t Inputs,
    pub(super) fleets: &'t Derived<Fleet>,
    pub(super) outstanding: &'t Derived<Outstanding>,
}

/// What stands against `Programmed`, the first that is not empty counts.
#[derive(Default)]
struct Objections {
    rejected: BTreeSet<String>,
    unstaffed: BTreeSet<String>,
    waiting: Vec<String>,
    unknown: bool,
    /// Whoever has it, as good news.
    has: BTreeSet<String>,
}

impl Known<'_> {
    /// The condition `Programmed` of an object that is in force at these places.
    pub(super) fn programmed(&self, reads: &Reads, places: &BTreeSet<Place>) -> Condition {
        if places.is_empty() {
            return condition(Truth::False, "NotBound", "no waypoint applies it".to_owned());
        }
        let mut objections = Objections::default();
        // The ports of one waypoint are one sentence: what fewest of its proxies have.
        let mut ports: BTreeMap<&Key, Vec<&PortKey>> = BTreeMap::new();
        for place in places {
            match place {
                Place::Port(port) => ports.entry(&port.waypoint).or_default().push(port),
                Place::Waypoint(waypoint) => self.at_waypoint(reads, waypoint, &mut objections),
                Place::Class(class) => self.at_class(reads, class, &mut objections),
            }
        }
        for (waypoint, ports) in ports {
            self.at_ports(reads, waypoint, &ports, &mut objections);
        }
        objections.condition()
    }

    fn at_ports(&self, reads: &Reads, waypoint: &Key, ports: &[&PortKey], objections: &mut Objections) {
        if !self.staffed(reads, waypoint, objections) {
            return;
        }
        let mut fewest: Option<u32> = None;
        for port in ports {
            let Some(row) = self.outstanding.get(reads, &Piece::Port(PortKey::clone(port))) else { continue };
            objections.rejected.extend(row.rejected.as_ref().map(|rejection| rejection.at(waypoint)));
            let has = row.waiting.map_or(0, |waiting| self.count(reads, waypoint).saturating_sub(waiting));
            fewest = Some(fewest.map_or(has, |fewest| fewest.min(has)));
        }
        match fewest {
            None => drop(objections.has.insert(format!("waypoint {waypoint}"))),
            Some(has) => {
                let of = self.count(reads, waypoint);
                objections.waiting.push(format!("{has} of {of} proxies of waypoint {waypoint} have it"));
            }
        }
    }

    /// How many proxies are ready. Asked only while one lacks something.
    fn count(&self, reads: &Reads, waypoint: &Key) -> u32 {
        self.inputs.proxies.get(reads, waypoint).map_or(0, |proxies| proxies.ready)
    }

    fn at_waypoint(&self, reads: &Reads, waypoint: &Key, objections: &mut Objections) {
        if !self.staffed(reads, waypoint, objections) {
            return;
        }
        let bucket = outstanding::Bucket::Rejected(waypoint.clone());
        self.rejections(reads, &bucket, objections);
        match self.outstanding.count(reads, &outstanding::Bucket::Waypoint(waypoint.clone())) {
            0 => drop(objections.has.insert(format!("waypoint {waypoint}"))),
            _ => objections.waiting.push(format!("proxies of waypoint {waypoint} do not have all of it yet")),
        }
    }

    fn at_class(&self, reads: &Reads, class: &Name, objections: &mut Objections) {
        if self.fleets.count(reads, &fleet::Bucket::Staffed(class.clone())) == 0 {
            if self.fleets.count(reads, &fleet::Bucket::Class(class.clone())) == 0 {
                objections.unknown = true;
            } else {
                objections.unstaffed.insert(format!("no proxy of a waypoint of class {class} is connected"));
            }
            return;
        }
        self.rejections(reads, &outstanding::Bucket::RejectedInClass(class.clone()), objections);
        match self.outstanding.count(reads, &outstanding::Bucket::Class(class.clone())) {
            0 => drop(objections.has.insert(format!("waypoints of class {class}"))),
            _ => {
                objections
                    .waiting
                    .push(format!("proxies of waypoints of class {class} do not have all of it yet"));
            }
        }
    }

    fn rejections(&self, reads: &Reads, bucket: &outstanding::Bucket, objections: &mut Objections) {
        for (piece, row) in self.outstanding.bucket(reads, bucket) {
            objections.rejected.extend(row.rejected.as_ref().map(|rejection| rejection.at(piece.waypoint())));
        }
    }

    fn staffed(&self, reads: &Reads, waypoint: &Key, objections: &mut Objections) -> bool {
        match self.fleets.get(reads, waypoint) {
            None => objections.unknown = true,
            Some(fleet) if !fleet.staffed => drop(objections.unstaffed.insert(format!(
                "no proxy of waypoint {waypoint} is connected; look at Gateway {waypoint} and its pods"
            ))),
            Some(_) => return true,
        }
        false
    }

    /// What was rejected of the clusters and endpoints that were made from what has this name.
    pub(super) fn rejected_of(&self, reads: &Reads, maker: String) -> BTreeSet<String> {
        let rows = self.inputs.taken.bucket(reads, &seen::Bucket::RejectedOf(maker.into()));
        rows.map(|((waypoint, type_url, name), taken)| {
            let (name, words) = (name.clone(), taken.words.clone());
            Rejection { type_url: *type_url, name, count: taken.rejected, words }.at(waypoint)
        })
        .collect()
    }
}

impl Objections {
    fn condition(self) -> Condition {
        let Self { rejected, unstaffed, waiting, unknown, has } = self;
        let list = |texts: BTreeSet<String>| texts.into_iter().collect::<Vec<_>>();
        if !rejected.is_empty() {
            return condition(Truth::False, "RejectedByProxy", list(rejected).join("; "));
        }
        if unknown {
            return condition(Truth::Unknown, "Pending", NOT_LOOKED.to_owned());
        }
        if !unstaffed.is_empty() || !waiting.is_empty() {
            let texts: Vec<_> = unstaffed.into_iter().chain(waiting).collect();
            return condition(Truth::False, "Pending", texts.join("; "));
        }
        condition(Truth::True, "Programmed", format!("all proxies of {} have it", list(has).join(", ")))
    }
}

impl Rejection {
    /// For a person to read. What the proxy said may be cut in the middle of a sentence, so it is last.
    pub(super) fn at(&self, waypoint: &Key) -> String {
        let Self { type_url, name, count, words } = self;
        let proxies = if *count == 1 { "proxy" } else { "proxies" };
        let words = words.as_deref().unwrap_or("it was rejected before");
        format!("{count} {proxies} of waypoint {waypoint} cannot have {type_url} {name}: {words}")
    }
}

/// Why nothing is said of proxies: at a start they are given time to return.
pub(super) const NOT_LOOKED: &str = "it is not known yet which proxies are connected";

pub(super) fn condition(truth: Truth, reason: &'static str, message: String) -> Condition {
    Condition { kind: "Programmed", truth, reason, message }
}
