//! What was sent and not answered yet, and what an answer means.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proto::{Name, Resource, TypeUrl, Version};

use super::{Session, held::State};
use crate::{Observation, Snapshot, redact::redact};

/// A response that the client has neither taken nor rejected.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) sets: Vec<Arc<Resource>>,
    pub(super) removes: Vec<Name>,
    /// It was sent of our own accord, not because the client waits for it.
    pub(super) push: bool,
}

/// The responses of one type that are on their way, and how far the client has come.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_nonce: BTreeMap<u64, Flight>,
    /// How many of them are part of a push. It is asked for after every answer, when thousands of
    /// others may be on their way.
    pushes: usize,
    /// The snapshot whose additions have all been sent.
    sent: Option<Arc<Snapshot>>,
    /// The snapshot that is taken once everything up to that nonce has been answered.
    fence: Option<(u64, Arc<Snapshot>)>,
    /// The snapshot whose additions have all been taken or rejected.
    taken: Option<Arc<Snapshot>>,
}

impl Flights {
    pub(super) fn launch(&mut self, nonce: u64, flight: Flight) {
        self.pushes += usize::from(flight.push);
        self.by_nonce.insert(nonce, flight);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_nonce.is_empty()
    }

    /// Whether a push is on its way: there is at most one.
    pub(super) fn pushing(&self) -> bool {
        self.pushes > 0
    }

    /// Whether that resource is on its way.
    fn carry(&self, resource: &Arc<Resource>) -> bool {
        self.by_nonce.values().flat_map(|flight| &flight.sets).any(|set| Arc::ptr_eq(set, resource))
    }

    /// What was sent and not answered.
    pub(super) fn carried(&self) -> BTreeSet<(&Name, Version)> {
        let sets = self.by_nonce.values().flat_map(|flight| &flight.sets);
        sets.map(|resource| (&resource.name, resource.version)).collect()
    }

    pub(super) fn sent(&self) -> Option<&Arc<Snapshot>> {
        self.sent.as_ref()
    }

    pub(super) fn taken(&self) -> Option<&Arc<Snapshot>> {
        self.taken.as_ref()
    }

    /// The type has sent all that `snapshot` adds.
    pub(super) fn arrive(&mut self, snapshot: Option<Arc<Snapshot>>) {
        self.sent = snapshot;
    }

    /// Moves `taken` as far as the answers allow; `nonce` is the last one that was given out.
    ///
    /// The fence is what lets `taken` advance although new responses keep leaving: it waits for
    /// those that were on their way when it was set, and for no later ones.
    pub(super) fn settle(&mut self, nonce: u64) {
        loop {
            if self.fence.is_none()
                && let Some(sent) = &self.sent
                && self.taken.as_ref().is_none_or(|taken| taken.revision() != sent.revision())
            {
                self.fence = Some((nonce, Arc::clone(sent)));
            }
            let oldest = self.by_nonce.keys().next();
            let Some((_, snapshot)) =
                self.fence.take_if(|(last, _)| oldest.is_none_or(|oldest| oldest > last))
            else {
                return;
            };
            self.taken = Some(snapshot);
        }
    }

    fn land(&mut self, nonce: &str) -> Option<Flight> {
        let flight = self.by_nonce.remove(&nonce.parse().ok()?)?;
        self.pushes -= usize::from(flight.push);
        Some(flight)
    }
}

impl Session {
    /// Applies an acknowledgement, or a rejection if there is an `error`. A nonce that is not on its
    /// way is stale: the client answers something that another answer has settled, or another stream.
    pub(super) fn on_answer(&mut self, type_url: TypeUrl, nonce: &str, error: Option<&str>) {
        let Some(flight) = self.channels[type_url as usize].flights.land(nonce) else { return };
        match error {
            None => self.accepted(type_url, flight),
            Some(message) => self.rejected(type_url, &flight, message),
        }
    }

    fn accepted(&mut self, type_url: TypeUrl, flight: Flight) {
        let channel = &mut self.channels[type_url as usize];
        for resource in &flight.sets {
            channel.suspects.remove(&resource.name);
        }
        for name in &flight.removes {
            channel.left(name);
        }
        self.observations.push(Observation::Acked {
            stream: Arc::clone(&self.stream),
            type_url,
            resources: named(&flight.sets),
            removed: flight.removes,
        });
    }

    /// Some of a rejected response may have been applied, so none of it is known any more. A lone
    /// resource is the culprit; of several, each is sent again alone, which finds it.
    fn rejected(&mut self, type_url: TypeUrl, flight: &Flight, message: &str) {
        let channel = &mut self.channels[type_url as usize];
        let alone = flight.sets.len() == 1;
        for resource in &flight.sets {
            let name = &resource.name;
            if alone {
                self.quarantine.insert(type_url, name, resource.version);
                channel.suspects.remove(name);
            }
            // What was sent again since then, or is no longer asked for, is not touched by this answer.
            let held = channel.held.get(name) == State::Version(resource.version);
            if !channel.covers(name) || !held || channel.flights.carry(resource) {
                continue;
            }
            if alone {
                channel.held.set(name, State::Rejected(resource.version));
            } else {
                channel.held.set(name, State::Unknown);
                channel.suspects.insert(Name::clone(name));
                channel.asked.insert(Name::clone(name));
            }
        }
        // A removal cannot be bad. Sending it again would only repeat the quarrel.
        for name in &flight.removes {
            channel.left(name);
        }
        if !channel.asked.is_empty() {
            channel.flights.fence = None;
        }
        self.observations.push(Observation::Rejected {
            stream: Arc::clone(&self.stream),
            type_url,
            resources: named(&flight.sets),
            quarantined: alone,
            message: redact(message),
        });
    }
}

fn named(resources: &[Arc<Resource>]) -> Vec<(Name, Version)> {
    resources.iter().map(|resource| (Name::clone(&resource.name), resource.version)).collect()
}
