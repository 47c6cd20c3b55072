//! A waypoint proxy without a network: it asks for what Envoy asks for, takes whatever comes, and counts it.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::AddAssign,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::FutureExt;
use prost::Message;
use proto::{
    TypeUrl,
    envoy::{
        Cluster, ScopedRouteConfiguration,
        cluster::cluster::{ClusterDiscoveryType, DiscoveryType},
        discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    },
};
use tokio::task::unconstrained;
use xds::{Cache, Follower, Group, Limits, Session, StreamId};

/// A proxy, and our side of its stream.
#[derive(Debug)]
pub(super) struct Proxy {
    follower: Follower,
    session: Session,
    /// What it has asked for by name.
    asked: BTreeSet<(TypeUrl, String)>,
    /// What our side has taken since the proxy last listened. What the proxy takes is not ours.
    busy: Duration,
}

/// What a proxy was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// Resources set and removed.
    pub(super) resources: usize,
    /// Of encoded DeltaDiscoveryResponses.
    pub(super) bytes: usize,
    /// The time our side of the stream needed to make them, acknowledgements included.
    pub(super) busy: Duration,
}

impl Proxy {
    /// Opens a stream and asks for the types that Envoy asks for first.
    pub(super) fn connect(cache: &Cache, group: &Group, number: u64) -> Result<Self> {
        let stream = StreamId { group: group.clone(), client: "proxy".into(), number };
        let follower = cache.follow(group);
        let session = Session::new(Arc::new(stream), follower.quarantine(), Limits::default().names);
        let mut proxy = Self { follower, session, asked: BTreeSet::new(), busy: Duration::ZERO };
        for type_url in [TypeUrl::Cluster, TypeUrl::Listener] {
            proxy.ours(|session| session.on_request(request(type_url)))?;
        }
        Ok(proxy)
    }

    /// Reads and acknowledges until there is nothing more. It is a long way away: its answers arrive,
    /// one after another, when everything that could be sent without them has been.
    pub(super) fn listen(&mut self) -> Result<Heard> {
        // A task that only polls and never yields is soon refused by tokio's budget for tasks, and
        // would take that for silence.
        let news = unconstrained(self.follower.changed()).now_or_never();
        // A stream that is not woken does nothing, and costs nothing.
        let Some(snapshot) = news else { return Ok(Heard::default()) };
        self.busy = Duration::ZERO;
        let mut heard = Heard::default();
        self.ours(|session| session.on_snapshot(snapshot));
        let mut answers = VecDeque::new();
        loop {
            while let Some(response) = self.ours(Session::next_response) {
                heard.resources += response.resources.len() + response.removed_resources.len();
                heard.bytes += response.encoded_len();
                answers.extend(self.answers(&response)?);
            }
            // As the server does after each answer: what it says is told, and what follows is sent.
            self.ours(|session| drop(session.take_observations()));
            let Some(answer) = answers.pop_front() else { break };
            self.ours(|session| session.on_request(answer))?;
        }
        heard.busy = self.busy;
        Ok(heard)
    }

    /// Does something that is our side's work.
    fn ours<T>(&mut self, work: impl FnOnce(&mut Session) -> T) -> T {
        let start = Instant::now();
        let done = work(&mut self.session);
        self.busy += start.elapsed();
        done
    }

    /// The acknowledgement, and a request for what the response makes Envoy ask for.
    fn answers(&mut self, response: &DeltaDiscoveryResponse) -> Result<Vec<DeltaDiscoveryRequest>> {
        let acknowledgement = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        let mut answers = vec![acknowledgement];
        let bodies = response.resources.iter().filter_map(|resource| resource.resource.as_ref());
        match TypeUrl::parse(&response.type_url) {
            Some(TypeUrl::Cluster) => {
                let clusters = bodies.map(|body| Cluster::decode(body.value.as_slice()));
                let clusters = clusters.collect::<Result<Vec<_>, _>>()?;
                let names = clusters.into_iter().filter(has_endpoints).map(|cluster| cluster.name);
                answers.extend(self.ask(TypeUrl::Endpoint, names));
            }
            // The connection managers of the listeners name the scopes, all of them the same, and a filter.
            Some(TypeUrl::Listener) => {
                answers.extend(self.ask(TypeUrl::Extension, ["trusted".to_owned()]));
                if self.asked.insert((TypeUrl::ScopedRoute, "*".to_owned())) {
                    answers.push(request(TypeUrl::ScopedRoute));
                }
            }
            Some(TypeUrl::ScopedRoute) => {
                let scopes = bodies.map(|body| ScopedRouteConfiguration::decode(body.value.as_slice()));
                let scopes = scopes.collect::<Result<Vec<_>, _>>()?;
                let names = scopes.into_iter().map(|scope| scope.route_configuration_name);
                answers.extend(self.ask(TypeUrl::Route, names));
            }
            Some(TypeUrl::Secret | TypeUrl::Extension | TypeUrl::Endpoint | TypeUrl::Route) | None => {}
        }
        Ok(answers)
    }

    fn ask(
        &mut self,
        type_url: TypeUrl,
        names: impl IntoIterator<Item = String>,
    ) -> Option<DeltaDiscoveryRequest> {
        let new = names.into_iter().filter(|name| self.asked.insert((type_url, name.clone())));
        let resource_names_subscribe: Vec<String> = new.collect();
        let asks = !resource_names_subscribe.is_empty();
        asks.then(|| DeltaDiscoveryRequest { resource_names_subscribe, ..request(type_url) })
    }
}

impl AddAssign for Heard {
    fn add_assign(&mut self, other: Self) {
        let Self { resources, bytes, busy } = other;
        self.resources += resources;
        self.bytes += bytes;
        self.busy += busy;
    }
}

fn request(type_url: TypeUrl) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: type_url.as_str().to_owned(), ..DeltaDiscoveryRequest::default() }
}

fn has_endpoints(cluster: &Cluster) -> bool {
    cluster.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()))
}
