//! What the client has and what it lacks, for whoever looks from outside. Nothing here changes anything.

use std::sync::Arc;

use proto::{Name, Resource, TypeUrl, Version};

use super::{Channel, Session, Whereabouts, held::State};
use crate::Snapshot;

/// How a client stands to one type of resources.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The type.
    pub type_url: TypeUrl,
    /// Whether it has asked for the type at all.
    pub asked: bool,
    /// How many resources are meant for it.
    pub meant: usize,
    /// What of them it has not, or has too much, by name. Whatever is not here is acknowledged.
    pub lacking: Vec<Lacking>,
}

/// A resource that a client does not have as it is published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lacking {
    /// Its name.
    pub name: Name,
    /// The version that is meant for it; `None` if it is to go.
    pub version: Option<Version>,
    /// Why it has not.
    pub why: Why,
}

/// Why a client does not have what is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It was not sent yet: something that goes before has not been answered.
    Unsent,
    /// It was sent and not answered.
    Unanswered,
    /// The client, or another of its group, has rejected that version.
    Rejected,
}

impl Session {
    /// How the client stands, a type at a time in sending order. The cost is that of what it lacks, and of
    /// the names that it asks for one by one.
    pub fn standing(&self) -> Vec<Standing> {
        let Some(latest) = &self.latest else { return Vec::new() };
        let stands = |type_url: TypeUrl| self.channels[type_url as usize].standing(type_url, latest);
        TypeUrl::ALL.into_iter().map(stands).collect()
    }

    /// The resources of a type that are meant for the client, whether or not it has them.
    pub fn meant(&self, type_url: TypeUrl) -> Vec<Arc<Resource>> {
        let channel = &self.channels[type_url as usize];
        let all = self.latest.iter().flat_map(|latest| latest.table(type_url).iter());
        all.filter(|resource| channel.covers(&resource.name)).cloned().collect()
    }
}

impl Channel {
    fn standing(&self, type_url: TypeUrl, latest: &Snapshot) -> Standing {
        let table = latest.table(type_url);
        let meant = match &self.subscription {
            Some(subscription) if subscription.is_wildcard() => table.len(),
            Some(subscription) => {
                subscription.names().iter().filter(|name| table.get(name).is_some()).count()
            }
            None => 0,
        };
        let is = |name: &Name, version: Version, why: Why| {
            let now = table.get(name).is_some_and(|resource| resource.version == version);
            (now && self.covers(name)).then(|| Lacking {
                name: Name::clone(name),
                version: Some(version),
                why,
            })
        };
        let unsent = self.held.lacks(table, |name| self.covers(name)).into_iter();
        let mut lacking: Vec<_> =
            unsent.filter_map(|resource| is(&resource.name, resource.version, Why::Unsent)).collect();
        lacking.extend(self.held.exceptions().filter_map(|(name, state)| match state {
            State::Rejected(version) => is(name, version, Why::Rejected),
            State::Nothing | State::Unknown | State::Version(_) => None,
        }));
        lacking.extend(self.flights.carried().into_iter().filter_map(|(name, version)| {
            // What was sent again since, or asked for anew, is told of above.
            let held = self.held.get(name) == State::Version(version);
            held.then(|| is(name, version, Why::Unanswered))?
        }));
        lacking.extend(self.leaving.iter().filter_map(|(name, leaving)| {
            let why = match leaving.now {
                Whereabouts::Gone(_) => Why::Unsent,
                Whereabouts::Removed => Why::Unanswered,
                Whereabouts::Back(_) => return None,
            };
            Some(Lacking { name: Name::clone(name), version: None, why })
        }));
        lacking.sort_unstable();
        Standing { type_url, asked: self.is_open(), meant, lacking }
    }
}
