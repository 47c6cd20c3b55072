//! Where the client stands, and how a version tells what was made for that place.

use proto::{Place, Resource, Version};
use rapidhash::v3::rapidhash_v3;

use super::held::State;

/// Stands between a version and the place that its resource was sent to.
const AT: char = '@';

/// Where the client stands.
///
/// A resource whose body depends on it has one version for all places, so that snapshots are compared
/// without regard to them. On the wire that version has a mark of the place: whoever comes back from
/// elsewhere and claims to have it is sent what is right here, and whoever comes back from the same
/// place is sent nothing.
#[derive(Debug, Default)]
pub(super) struct Position {
    place: Place,
    mark: String,
}

impl Position {
    pub(super) fn new(place: Place) -> Self {
        if place == Place::default() {
            return Self::default();
        }
        let Place { region, zone, sub_zone } = &place;
        // No name has a slash.
        let path = format!("{region}/{zone}/{sub_zone}");
        let mark = format!("{:016x}", rapidhash_v3(path.as_bytes()));
        Self { place, mark }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The resource's version as the client is told it.
    pub(super) fn version(&self, resource: &Resource) -> String {
        let Resource { version, body, .. } = resource;
        if body.is_placed() { format!("{version}{AT}{}", self.mark) } else { version.to_string() }
    }

    /// What the client has if it claims to have that version.
    pub(super) fn claimed(&self, text: &str) -> State {
        let (version, mark) =
            text.split_once(AT).map_or((text, None), |(version, mark)| (version, Some(mark)));
        let here = mark.is_none_or(|mark| mark == self.mark);
        Version::parse(version).filter(|_| here).map_or(State::Unknown, State::Version)
    }
}
