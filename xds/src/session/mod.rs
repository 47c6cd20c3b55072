//! One client's conversation, as a state machine without I/O, clock or tasks.
//!
//! Requests and snapshots go in; responses and observations come out. Whoever drives it calls
//! [`Session::next_response`] until it has nothing more to say, and again after every input.
//!
//! # Order
//!
//! What is on its way is measured by snapshots. A type's *sent* snapshot is the one whose additions
//! have all been sent, its *taken* one the one whose additions the client has all acknowledged or
//! rejected. A listener, scope or route is pushed from the snapshot that the types before it have
//! taken and not from the latest one: so it never names a cluster still on its way, and a constant
//! stream of newer snapshots cannot starve it. A resource is removed once every type has taken a
//! snapshot without it, and after what the later types remove.
//!
//! Endpoints have the name of their cluster, and follow it in the same breath: Envoy keeps a new or
//! changed cluster warming, and its acknowledgement back, until they come.

mod ack;
mod cut;
mod held;
mod outbox;
mod position;
mod standing;
mod subscription;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use proto::{Name, Place, Resource, TypeUrl, envoy::discovery::DeltaDiscoveryRequest};

pub use self::standing::{Lacking, Standing, Why};
use self::{
    ack::Flights,
    cut::Item,
    held::{Held, State},
    outbox::Heading,
    position::Position,
    subscription::{Subscription, WILDCARD},
};
use crate::{Observation, Quarantine, Snapshot, StreamId};

/// One client's conversation.
#[derive(Debug)]
pub struct Session {
    stream: Arc<StreamId>,
    quarantine: Arc<Quarantine>,
    max_names: usize,
    position: Position,
    latest: Option<Arc<Snapshot>>,
    channels: [Channel; TypeUrl::ALL.len()],
    /// What was asked for of types that we do not serve.
    unserved: BTreeMap<String, BTreeSet<String>>,
    /// The last one given out.
    nonce: u64,
    /// Whether anything happened since the client was last reported up to date.
    restless: bool,
    observations: Vec<Observation>,
}

/// One type's part of the conversation.
#[derive(Debug, Default)]
struct Channel {
    /// `None` until the client's first request of the type.
    subscription: Option<Subscription>,
    held: Held,
    /// A new wildcard, which is answered even if there is nothing.
    greet: bool,
    /// Names whose resource the client waits for. They are never held back.
    asked: BTreeSet<Name>,
    /// The answers to them, cut but not sent.
    answers: VecDeque<Item>,
    /// The rest of the push that is being sent.
    push: VecDeque<Item>,
    /// Where that push leads.
    heading: Option<Heading>,
    flights: Flights,
    /// Names that shared a rejected response. They are sent alone until one is accepted.
    suspects: BTreeSet<Name>,
    /// What the client has to lose.
    leaving: BTreeMap<Name, Leaving>,
}

/// Something that the client has, and that a snapshot was without.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// The first revision at which it may have been outdated. What has gone since then may be named
    /// by it, and is not removed before it is removed or replaced.
    stale: u64,
    now: Whereabouts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    /// It is in no snapshot since that revision.
    Gone(u64),
    /// It is gone, and its removal was sent and waits for its answer.
    Removed,
    /// It has come back at that revision, in other form. Once that is taken, all is as if it had
    /// never been away.
    Back(u64),
}

/// What a client did that it must not do. It ends the stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A request without a type.
    #[error("type_url is missing; every request on an aggregated stream must name one")]
    TypeMissing,
    /// Names in the form of the xDS transport protocol of 2021.
    #[error("resource locators are not supported; subscribe by resource_names_subscribe")]
    Locators,
    /// More names than a stream may ask for.
    #[error("the stream asks for more than {limit} names; subscribe to fewer, or by wildcard")]
    TooManyNames {
        /// How many it may.
        limit: usize,
    },
}

impl Session {
    /// A conversation in which nothing was said. `max_names` bounds the names that the client may
    /// subscribe to or claim to hold, all types together.
    pub fn new(stream: Arc<StreamId>, quarantine: Arc<Quarantine>, max_names: usize) -> Self {
        Self {
            stream,
            quarantine,
            max_names,
            position: Position::default(),
            latest: None,
            channels: std::array::from_fn(|_| Channel::default()),
            unserved: BTreeMap::new(),
            nonce: 0,
            restless: true,
            observations: Vec::new(),
        }
    }

    /// Says where the client stands, before its first request. A client that moves opens another stream.
    pub fn stand_at(&mut self, place: Place) {
        self.position = Position::new(place);
    }

    /// Takes in a request. It may acknowledge, subscribe and unsubscribe at once; the parts do not
    /// depend on one another, so a stale nonce does not spoil a subscription.
    pub fn on_request(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Violation> {
        let DeltaDiscoveryRequest {
            node: _, // checked by the server, and not ours to keep: it is 61 KB
            type_url,
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            resource_locators_subscribe: locators,
            resource_locators_unsubscribe: more_locators,
            initial_resource_versions: claims,
            response_nonce: nonce,
            error_detail: error,
        } = request;
        if type_url.is_empty() {
            return Err(Violation::TypeMissing);
        }
        if !locators.is_empty() || !more_locators.is_empty() {
            return Err(Violation::Locators);
        }
        let names: usize = self.channels.iter().map(Channel::names).sum();
        let names = names + self.unserved.values().map(|names| names.len() + 1).sum::<usize>();
        if names + subscribe.len() + claims.len() > self.max_names {
            return Err(Violation::TooManyNames { limit: self.max_names });
        }
        let Some(known) = TypeUrl::parse(&type_url) else {
            self.on_unserved(type_url, subscribe, nonce.is_empty() && unsubscribe.is_empty());
            return Ok(());
        };
        if !nonce.is_empty() {
            self.on_answer(known, &nonce, error.as_ref().map(|error| error.message.as_str()));
        }
        let subscribe: Vec<Name> = subscribe.iter().map(|name| self.shared_name(known, name)).collect();
        if self.channels[known as usize].subscription.is_none() {
            self.open(known, subscribe, &claims);
        } else {
            for name in &unsubscribe {
                self.unsubscribe(known, name);
            }
            for name in subscribe {
                self.subscribe(known, name);
            }
        }
        self.restless = true;
        Ok(())
    }

    /// Takes in the group's latest snapshot.
    pub fn on_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        for type_url in TypeUrl::ALL {
            let channel = &mut self.channels[type_url as usize];
            match &self.latest {
                Some(previous) => {
                    previous.table(type_url).differences(snapshot.table(type_url), |difference| {
                        match difference.new {
                            Some(resource) => channel.stay(resource, snapshot.revision()),
                            None => channel.leave(difference.name, snapshot.revision()),
                        }
                    });
                }
                None => channel.leave_claimed(&snapshot, type_url),
            }
        }
        self.latest = Some(snapshot);
        self.restless = true;
    }

    /// What has been observed since this was last called.
    pub fn take_observations(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.observations)
    }

    /// Takes in the first request of a type.
    fn open(&mut self, type_url: TypeUrl, names: Vec<Name>, claims: &HashMap<String, String>) {
        // A stream that asks for endpoints and not for clusters was cut while clusters were warming.
        // Until it gets their endpoints, Envoy does not ask for clusters at all, whatever it has.
        let warming = type_url == TypeUrl::Endpoint && !self.channels[TypeUrl::Cluster as usize].is_open();
        let claimed: Vec<(Name, State)> = claims
            .iter()
            .map(|(name, version)| {
                let state = if warming { State::Unknown } else { self.position.claimed(version) };
                (self.shared_name(type_url, name), state)
            })
            .collect();
        let channel = &mut self.channels[type_url as usize];
        let subscription = Subscription::first(names);
        channel.greet = subscription.is_wildcard() && (claims.is_empty() || warming);
        let unclaimed = |name: &&Name| warming || !claims.contains_key(&***name);
        // Endpoints may have been asked for already, by their clusters.
        channel.asked.retain(|name| subscription.covers(name));
        channel.asked.extend(subscription.names().iter().filter(unclaimed).cloned());
        channel.subscription = Some(subscription);
        for (name, state) in &claimed {
            if channel.covers(name) {
                channel.held.set(name, *state);
            }
        }
        if let Some(latest) = &self.latest {
            channel.leave_claimed(latest, type_url);
        }
    }

    fn subscribe(&mut self, type_url: TypeUrl, name: Name) {
        let channel = &mut self.channels[type_url as usize];
        let Some(subscription) = &mut channel.subscription else { return };
        if &*name != WILDCARD {
            if !subscription.covers(&name) {
                channel.held.set(&name, State::Nothing);
            }
            subscription.add(Name::clone(&name));
            channel.asked.insert(name);
        } else if !subscription.is_wildcard() {
            subscription.set_wildcard(true);
            channel.held.narrow(subscription.names());
            channel.greet = true;
        } else if let Some(latest) = &self.latest {
            let all = latest.table(type_url).iter();
            channel.asked.extend(all.map(|resource| Name::clone(&resource.name)));
        }
    }

    fn unsubscribe(&mut self, type_url: TypeUrl, name: &str) {
        let channel = &mut self.channels[type_url as usize];
        let Some(subscription) = &mut channel.subscription else { return };
        if name == WILDCARD {
            subscription.set_wildcard(false);
            channel.greet = false;
            channel.held.narrow(subscription.names());
            channel.asked.retain(|name| subscription.covers(name));
            channel.suspects.retain(|name| subscription.covers(name));
            channel.leaving.retain(|name, _| subscription.covers(name));
        } else if subscription.remove(name) {
            if subscription.is_wildcard() {
                // The client does not know whether the wildcard still gives it the resource.
                channel.asked.insert(name.into());
            } else {
                channel.held.forget(name);
                channel.asked.remove(name);
                channel.suspects.remove(name);
                channel.leaving.remove(name);
            }
        }
    }

    /// Answers for a type that is not served, so that the client does not wait for it. An ACK of
    /// that answer subscribes to nothing, and gets no answer.
    fn on_unserved(&mut self, type_url: String, names: Vec<String>, opening: bool) {
        if !opening && names.is_empty() {
            return;
        }
        self.observations
            .push(Observation::Unserved { stream: Arc::clone(&self.stream), type_url: type_url.clone() });
        self.unserved.entry(type_url).or_default().extend(names);
    }

    /// The name as the snapshot holds it, so that subscriptions share its allocation.
    fn shared_name(&self, type_url: TypeUrl, name: &str) -> Name {
        let known = self.latest.as_ref().and_then(|latest| latest.get(type_url, name));
        known.map_or_else(|| name.into(), |resource| Name::clone(&resource.name))
    }
}

impl Channel {
    fn is_open(&self) -> bool {
        self.subscription.is_some()
    }

    fn covers(&self, name: &str) -> bool {
        self.subscription.as_ref().is_some_and(|subscription| subscription.covers(name))
    }

    fn names(&self) -> usize {
        self.subscription.as_ref().map_or(0, |subscription| subscription.names().len())
    }

    /// Notes that a name is in no snapshot since `revision`, if the client may have it.
    fn leave(&mut self, name: &Name, revision: u64) {
        if self.covers(name) && self.held.get(name) != State::Nothing {
            // It may have been outdated already when it went; but not in what the client has taken.
            let stale = self.flights.taken().map_or(0, |taken| taken.revision() + 1);
            let stale = self.leaving.get(name).map_or(stale, |leaving| leaving.stale);
            self.leaving.insert(Name::clone(name), Leaving { stale, now: Whereabouts::Gone(revision) });
        }
    }

    /// Notes that a name is in the snapshot of `revision`, perhaps again.
    fn stay(&mut self, resource: &Resource, revision: u64) {
        let held = self.held.get(&resource.name);
        let Some(leaving) = self.leaving.get_mut(&resource.name) else { return };
        if !matches!(leaving.now, Whereabouts::Back(_)) {
            leaving.now = Whereabouts::Back(revision);
        }
        if held == State::Nothing || held == State::Version(resource.version) {
            self.leaving.remove(&resource.name);
        }
    }

    /// Notes what the client says it has and the snapshot has not.
    fn leave_claimed(&mut self, snapshot: &Snapshot, type_url: TypeUrl) {
        let claimed: Vec<Name> = self.held.exceptions().map(|(name, _)| Name::clone(name)).collect();
        for name in claimed.iter().filter(|name| snapshot.get(type_url, name).is_none()) {
            self.leave(name, snapshot.revision());
        }
    }

    /// Notes that a removal was answered.
    fn left(&mut self, name: &Name) {
        if self.leaving.get(name).is_some_and(|leaving| leaving.now == Whereabouts::Removed) {
            self.leaving.remove(name);
        }
    }

    /// Moves what the client has taken as far as its answers allow, and forgets what that settles.
    fn settle(&mut self, nonce: u64) {
        self.flights.settle(nonce);
        if let (Some(taken), false) = (self.flights.taken(), self.leaving.is_empty()) {
            let taken = taken.revision();
            self.leaving.retain(|_, leaving| !matches!(leaving.now, Whereabouts::Back(at) if at <= taken));
        }
    }
}
