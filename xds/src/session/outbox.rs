//! What is owed to the client, and in which order it leaves.

use std::{collections::VecDeque, sync::Arc};

use prost::Message;
use proto::{Name, Resource, TypeUrl, envoy::discovery::DeltaDiscoveryResponse};

use super::{
    Channel, Leaving, Session, Whereabouts,
    ack::{Flight, Flights},
    cut::{Cut, Item, on_the_wire},
    held::State,
};
use crate::{Observation, Snapshot};

/// Where a push leads.
#[derive(Clone, Debug)]
pub(super) struct Heading {
    /// The snapshot whose resources are sent.
    target: Arc<Snapshot>,
    /// The snapshot that counts as sent when it is done.
    arrives: Option<Arc<Snapshot>>,
}

impl Session {
    /// The next response to send, or `None` until there is other input: answers first, then what
    /// changed in sending order, then removals in reverse.
    pub fn next_response(&mut self) -> Option<DeltaDiscoveryResponse> {
        let latest = Arc::clone(self.latest.as_ref()?);
        let response = self
            .answer_unserved()
            .or_else(|| TypeUrl::ALL.into_iter().find_map(|type_url| self.answer(type_url, &latest)))
            .or_else(|| TypeUrl::ALL.into_iter().find_map(|type_url| self.advance(type_url, &latest)))
            .or_else(|| TypeUrl::ALL.into_iter().rev().find_map(|type_url| self.remove(type_url, &latest)));
        match &response {
            Some(_) => self.restless = true,
            None => self.report_up_to_date(&latest),
        }
        response
    }

    fn answer_unserved(&mut self) -> Option<DeltaDiscoveryResponse> {
        let (type_url, names) = self.unserved.pop_first()?;
        self.nonce += 1;
        let nonce = self.nonce.to_string();
        let removed_resources = names.into_iter().collect();
        Some(DeltaDiscoveryResponse { type_url, removed_resources, nonce, ..Default::default() })
    }

    /// What the client waits for. Nothing holds it back.
    fn answer(&mut self, type_url: TypeUrl, latest: &Arc<Snapshot>) -> Option<DeltaDiscoveryResponse> {
        let channel = &mut self.channels[type_url as usize];
        channel.subscription.as_ref()?;
        let mut nothing = false;
        if std::mem::take(&mut channel.greet) {
            let source = self.sources(type_url, latest).swap_remove(0);
            let all = self.lacking(type_url, &source, latest);
            let channel = &mut self.channels[type_url as usize];
            channel.asked.extend(all.iter().map(|resource| Name::clone(&resource.name)));
            nothing = channel.asked.is_empty();
        }
        self.resolve(type_url, latest);
        let nothing = nothing.then(|| self.respond(type_url, Cut::default(), false, latest));
        nothing.or_else(|| self.cut(type_url, false, latest))
    }

    /// Looks up what was asked for. What does not exist, or was rejected, is answered by a removal:
    /// the client stops waiting, and gets it when it appears.
    fn resolve(&mut self, type_url: TypeUrl, latest: &Arc<Snapshot>) {
        let channel = &mut self.channels[type_url as usize];
        if !channel.answers.is_empty() || channel.asked.is_empty() {
            return;
        }
        let asked = std::mem::take(&mut channel.asked);
        let sources = self.sources(type_url, latest);
        let channel = &mut self.channels[type_url as usize];
        let (mut sets, mut removes) = (Vec::new(), Vec::new());
        for name in asked {
            if !channel.covers(&name) {
                continue;
            }
            let suspect = channel.suspects.contains(&name);
            let found = sources.iter().find_map(|source| source.get(type_url, &name));
            match found.filter(|_| latest.get(type_url, &name).is_some()) {
                Some(found) if self.quarantine.contains(type_url, &name, found.version) => {
                    channel.held.set(&name, State::Rejected(found.version));
                    if !suspect {
                        removes.push(Item::Remove(name));
                    }
                }
                Some(found) => sets.push(Arc::clone(found)),
                // Nobody waits for a suspect, and its removal has its own time.
                None if suspect => {}
                None => removes.push(Item::Remove(name)),
            }
        }
        sets.sort_by(|a, b| (a.wave, &a.name).cmp(&(b.wave, &b.name)));
        channel.answers = sets.into_iter().map(Item::Set).chain(removes).collect();
    }

    /// Where a resource that was asked for is taken from, best first: from the snapshot that the
    /// types before it have taken, so that it names nothing that is still on its way; failing that,
    /// from one that they are at; failing that, from the latest.
    fn sources(&self, type_url: TypeUrl, latest: &Arc<Snapshot>) -> Vec<Arc<Snapshot>> {
        let earlier = match type_url {
            TypeUrl::Secret | TypeUrl::Extension | TypeUrl::Cluster | TypeUrl::Endpoint => [].as_slice(),
            TypeUrl::Listener => &[TypeUrl::Cluster],
            TypeUrl::ScopedRoute => &[TypeUrl::Listener, TypeUrl::Cluster],
            TypeUrl::Route => &[TypeUrl::ScopedRoute, TypeUrl::Listener, TypeUrl::Cluster],
        };
        let flights = earlier.iter().map(|earlier| &self.channels[*earlier as usize].flights);
        let at = flights.flat_map(|flights| [flights.taken(), flights.sent()]).flatten();
        at.chain([latest]).cloned().collect()
    }

    /// Pushes what changed, as far as the types before allow it.
    fn advance(&mut self, type_url: TypeUrl, latest: &Arc<Snapshot>) -> Option<DeltaDiscoveryResponse> {
        self.channels[type_url as usize].subscription.as_ref()?;
        loop {
            if let Some(response) = self.cut(type_url, true, latest) {
                return Some(response);
            }
            let channel = &mut self.channels[type_url as usize];
            if let Some(Heading { target, arrives }) = channel.heading.take() {
                let Channel { held, subscription, flights, .. } = channel;
                held.rebase(target.table(type_url), |name| {
                    subscription.as_ref().is_some_and(|subscription| subscription.covers(name))
                });
                flights.arrive(arrives);
            }
            if channel.flights.pushing() {
                break;
            }
            let Some(heading) = self.heading(type_url, latest) else { break };
            let push: VecDeque<_> =
                self.lacking(type_url, &heading.target, latest).into_iter().map(Item::Set).collect();
            let done = push.is_empty();
            let channel = &mut self.channels[type_url as usize];
            channel.push = push;
            if done && channel.is_at(type_url, &heading) {
                break;
            }
            channel.heading = Some(heading);
        }
        self.channels[type_url as usize].settle(self.nonce);
        None
    }

    /// Where the type may go next; `None` while the types before it have taken nothing.
    fn heading(&self, type_url: TypeUrl, latest: &Arc<Snapshot>) -> Option<Heading> {
        let flights = |type_url: TypeUrl| {
            let channel = &self.channels[type_url as usize];
            channel.is_open().then_some(&channel.flights)
        };
        let clusters = flights(TypeUrl::Cluster);
        // The older of the two. Endpoints are only ever at a snapshot that clusters have been at.
        let both = || match (clusters, flights(TypeUrl::Endpoint)) {
            (None, None) => Some(latest),
            (Some(one), None) | (None, Some(one)) => one.taken(),
            (Some(clusters), Some(endpoints)) => {
                let (clusters, endpoints) = (clusters.taken()?, endpoints.taken()?);
                Some(if endpoints.revision() < clusters.revision() { endpoints } else { clusters })
            }
        };
        let listeners = || flights(TypeUrl::Listener).map_or_else(both, Flights::taken);
        let scopes = || flights(TypeUrl::ScopedRoute).map_or_else(listeners, Flights::taken);
        let (target, arrives) = match type_url {
            TypeUrl::Secret | TypeUrl::Extension | TypeUrl::Cluster => (latest, Some(latest)),
            // Endpoints wait for nobody, but what they have covered is what their clusters are at.
            TypeUrl::Endpoint => (latest, clusters.map_or(Some(latest), Flights::sent)),
            TypeUrl::Listener => (both()?, both()),
            TypeUrl::ScopedRoute => (listeners()?, listeners()),
            TypeUrl::Route => (scopes()?, scopes()),
        };
        Some(Heading { target: Arc::clone(target), arrives: arrives.cloned() })
    }

    /// The resources of `target` that the client lacks and may be sent, in sending order.
    fn lacking(&mut self, type_url: TypeUrl, target: &Snapshot, latest: &Snapshot) -> Vec<Arc<Resource>> {
        let channel = &mut self.channels[type_url as usize];
        let lacking = channel.held.lacks(target.table(type_url), |name| channel.covers(name));
        let mut lacking: Vec<_> = lacking.into_iter().cloned().collect();
        lacking.retain(|resource| {
            let name = &resource.name;
            if self.quarantine.contains(type_url, name, resource.version) {
                channel.held.set(name, State::Rejected(resource.version));
                return false;
            }
            // An answer may have been newer than the push that comes after it.
            let newest = latest.get(type_url, name);
            newest.is_none_or(|newest| channel.held.get(name) != State::Version(newest.version))
        });
        lacking
    }

    /// Removes what every type has done without, after all that the later types remove.
    fn remove(&mut self, type_url: TypeUrl, latest: &Arc<Snapshot>) -> Option<DeltaDiscoveryResponse> {
        let (these, later) = self.channels.split_at_mut(type_url as usize + 1);
        let Channel { leaving, push, flights, .. } = these.last_mut()?;
        if leaving.is_empty() || flights.pushing() || !push.is_empty() {
            return None;
        }
        let first_later =
            later.iter().flat_map(|channel| channel.leaving.values()).map(|leaving| leaving.stale).min();
        let open = self.channels.iter().filter(|channel| channel.is_open());
        let taken = open.map(|channel| channel.flights.taken().map_or(0, |taken| taken.revision())).min()?;
        let ripe = |leaving: &Leaving| match leaving.now {
            Whereabouts::Gone(since) => since <= taken && first_later.is_none_or(|later| since < later),
            Whereabouts::Removed | Whereabouts::Back(_) => false,
        };
        let channel = &mut self.channels[type_url as usize];
        let ripe = channel.leaving.iter().filter(|(_, leaving)| ripe(leaving));
        channel.push = ripe.map(|(name, _)| Item::Remove(Name::clone(name))).collect();
        self.cut(type_url, true, latest)
    }

    /// Cuts one response from the push, or from the answers.
    fn cut(
        &mut self,
        type_url: TypeUrl,
        push: bool,
        latest: &Arc<Snapshot>,
    ) -> Option<DeltaDiscoveryResponse> {
        let channel = &mut self.channels[type_url as usize];
        let mut queue = std::mem::take(if push { &mut channel.push } else { &mut channel.answers });
        let mut cut = Cut::default();
        while let Some(item) = queue.pop_front() {
            if channel.is_stale(&item, push, type_url, latest) {
                continue;
            }
            if let Err(next) = cut.add(item, |resource| channel.sends_alone(type_url, resource)) {
                queue.push_front(next);
                break;
            }
        }
        *(if push { &mut channel.push } else { &mut channel.answers }) = queue;
        (!cut.sets.is_empty() || !cut.removes.is_empty()).then(|| self.respond(type_url, cut, push, latest))
    }

    fn respond(
        &mut self,
        type_url: TypeUrl,
        cut: Cut,
        push: bool,
        latest: &Snapshot,
    ) -> DeltaDiscoveryResponse {
        let Cut { sets, removes, .. } = cut;
        self.nonce += 1;
        let channel = &mut self.channels[type_url as usize];
        // What was asked again while its answer waited to be sent is answered by it.
        for resource in &sets {
            channel.asked.remove(&resource.name);
            channel.held.set(&resource.name, State::Version(resource.version));
            if latest.get(type_url, &resource.name).is_none() {
                // It was on its way when it ceased to exist, and others of its snapshot name it.
                channel.leave(&resource.name, latest.revision());
            }
        }
        for name in &removes {
            channel.asked.remove(name);
            channel.held.set(name, State::Nothing);
            if let Some(leaving) = channel.leaving.get_mut(name) {
                leaving.now = Whereabouts::Removed;
            }
        }
        let response = DeltaDiscoveryResponse {
            system_version_info: latest.revision().to_string(),
            resources: sets.iter().map(|resource| on_the_wire(resource, &self.position)).collect(),
            type_url: type_url.as_str().to_owned(),
            removed_resources: removes.iter().map(ToString::to_string).collect(),
            nonce: self.nonce.to_string(),
            ..Default::default()
        };
        self.observations.push(Observation::Sent {
            stream: Arc::clone(&self.stream),
            type_url,
            resources: sets.len(),
            removed: removes.len(),
            bytes: response.encoded_len(),
        });
        if type_url == TypeUrl::Cluster {
            let endpoints = &mut self.channels[TypeUrl::Endpoint as usize];
            // Before the first request for endpoints it is not known which will be asked for.
            let names = sets.iter().map(|cluster| &cluster.name);
            let wanted = names.filter(|name| !endpoints.is_open() || endpoints.covers(name)).cloned();
            let wanted: Vec<Name> = wanted.collect();
            endpoints.asked.extend(wanted);
        }
        self.channels[type_url as usize].flights.launch(self.nonce, Flight { sets, removes, push });
        response
    }

    fn report_up_to_date(&mut self, latest: &Snapshot) {
        let settled = TypeUrl::ALL.into_iter().all(|type_url| {
            let Channel { flights, leaving, .. } = &self.channels[type_url as usize];
            let taken = flights.taken().is_some_and(|taken| taken.revision() == latest.revision());
            if self.channels[type_url as usize].is_open() {
                taken && flights.is_empty() && leaving.is_empty()
            } else {
                latest.table(type_url).is_empty()
            }
        });
        if !settled || !std::mem::take(&mut self.restless) {
            return;
        }
        let quarantined = TypeUrl::ALL.into_iter().flat_map(|type_url| {
            let exceptions = self.channels[type_url as usize].held.exceptions();
            let rejected = exceptions.filter(|(_, state)| matches!(state, State::Rejected(_)));
            rejected.map(move |(name, _)| (type_url, Name::clone(name)))
        });
        self.observations.push(Observation::UpToDate {
            stream: Arc::clone(&self.stream),
            revision: latest.revision(),
            quarantined: quarantined.collect(),
        });
    }
}

impl Channel {
    /// Whether there is nothing left to do for that heading.
    fn is_at(&self, type_url: TypeUrl, heading: &Heading) -> bool {
        let revision = |snapshot: Option<&Arc<Snapshot>>| snapshot.map(|snapshot| snapshot.revision());
        revision(self.flights.sent()) == revision(heading.arrives.as_ref())
            && self.held.is_based_on(heading.target.table(type_url))
    }

    /// Whether an item has become pointless since it was queued.
    fn is_stale(&self, item: &Item, push: bool, type_url: TypeUrl, latest: &Snapshot) -> bool {
        match item {
            Item::Set(resource) => {
                let held = push && self.held.get(&resource.name) == State::Version(resource.version);
                held || !self.covers(&resource.name)
            }
            Item::Remove(name) => (push && latest.get(type_url, name).is_some()) || !self.covers(name),
        }
    }

    /// Which resources must be alone in their response. One bad scope or route would reject all
    /// others in it; a suspect is alone so that it can be told from its neighbours.
    fn sends_alone(&self, type_url: TypeUrl, resource: &Resource) -> bool {
        match type_url {
            TypeUrl::ScopedRoute | TypeUrl::Route => true,
            TypeUrl::Secret
            | TypeUrl::Extension
            | TypeUrl::Cluster
            | TypeUrl::Endpoint
            | TypeUrl::Listener => self.suspects.contains(&resource.name),
        }
    }
}
