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
    /// Whether it asks for all there are. Otherwise it asks by names, or has not asked yet.
    pub wildcard: bool,
    /// Whether it has asked for the type at all.
    pub asked: bool,
    /// What is meant for it.
    pub resources: Vec<Arc<Resource>>,
    /// What of that it has not, or has too much, by name. A resource that is not here is acknowledged.
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
    /// How the client stands, a type at a time in sending order. The cost is that of the resources there
    /// are: who looks asks once, and never for each message.
    pub fn standing(&self) -> Vec<Standing> {
        let Some(latest) = &self.latest else { return Vec::new() };
        let stands = |type_url: TypeUrl| self.channels[type_url as usize].standing(type_url, latest);
        TypeUrl::ALL.into_iter().map(stands).collect()
    }

    /// The snapshot that is meant for the client, if there is one.
    pub fn revision(&self) -> Option<u64> {
        self.latest.as_ref().map(|latest| latest.revision())
    }
}

impl Channel {
    fn standing(&self, type_url: TypeUrl, latest: &Snapshot) -> Standing {
        let table = latest.table(type_url);
        let covered = table.iter().filter(|resource| self.covers(&resource.name));
        let mut resources: Vec<_> = covered.cloned().collect();
        resources.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let carried = self.flights.carried();
        let lacks = |resource: &Arc<Resource>| {
            let why = match self.held.get(&resource.name) {
                State::Rejected(version) if version == resource.version => Why::Rejected,
                State::Version(version) if version == resource.version => {
                    if !carried.contains(&(&resource.name, version)) {
                        return None;
                    }
                    Why::Unanswered
                }
                State::Nothing | State::Unknown | State::Version(_) | State::Rejected(_) => Why::Unsent,
            };
            Some(Lacking { name: Name::clone(&resource.name), version: Some(resource.version), why })
        };
        let mut lacking: Vec<_> = resources.iter().filter_map(lacks).collect();
        lacking.extend(self.leaving.iter().filter_map(|(name, leaving)| {
            let why = match leaving.now {
                Whereabouts::Gone(_) => Why::Unsent,
                Whereabouts::Removed => Why::Unanswered,
                Whereabouts::Back(_) => return None,
            };
            Some(Lacking { name: Name::clone(name), version: None, why })
        }));
        lacking.sort_unstable();
        let wildcard = self.subscription.as_ref().is_some_and(super::Subscription::is_wildcard);
        Standing { type_url, wildcard, asked: self.is_open(), resources, lacking }
    }
}
