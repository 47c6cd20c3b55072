//! Random conversations: whatever is published, answered, lost and subscribed to, the client ends up
//! with the snapshot, was never told of a route before its clusters, and was sent nothing twice.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use proto::{
    Delta, Resource, TypeUrl, Version,
    envoy::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};
use xds::{Cache, Follower, Group, Session, StreamId, Why};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Types that Envoy asks for by wildcard; the others it asks for by name.
const WILDCARDS: [TypeUrl; 3] = [TypeUrl::Cluster, TypeUrl::Listener, TypeUrl::ScopedRoute];

#[test]
fn random_conversations_end_in_the_truth() {
    for seed in 0..600 {
        World::new(seed).live(120);
    }
}

/// Steele and Vigna's splitmix64: enough, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// What the client holds and waits for.
#[derive(Default)]
struct Client {
    held: BTreeMap<(TypeUrl, String), u64>,
    asked: BTreeMap<TypeUrl, BTreeSet<String>>,
    /// Names it asked for, and has no answer for yet.
    waiting: BTreeSet<(TypeUrl, String)>,
    /// Names whose next sending is no waste: asked for, or their response was rejected.
    excused: BTreeSet<(TypeUrl, String)>,
    /// Responses received and not answered.
    unanswered: VecDeque<DeltaDiscoveryResponse>,
}

struct World {
    seed: u64,
    random: Random,
    cache: Cache,
    group: Group,
    follower: Follower,
    session: Session,
    client: Client,
    /// Everything there is.
    truth: BTreeMap<(TypeUrl, String), u64>,
    /// What a version of a route names: the clusters of its commit, at their versions.
    names: BTreeMap<u64, BTreeSet<String>>,
    /// Versions that every client rejects.
    bad: BTreeSet<u64>,
    version: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let (cache, group) = (Cache::new(), Group("ns/gateway".into()));
        let follower = cache.follow(&group);
        let session = session(&follower, &group);
        Self {
            seed,
            random: Random(seed),
            cache,
            group,
            follower,
            session,
            client: Client::default(),
            truth: BTreeMap::new(),
            names: BTreeMap::new(),
            bad: BTreeSet::new(),
            version: 0,
        }
    }

    fn live(&mut self, steps: usize) {
        self.publish();
        self.connect();
        for _ in 0..steps {
            match self.random.below(12) {
                0..4 => self.publish(),
                4 => self.resubscribe(),
                5 if self.random.chance(20) => self.connect(),
                6 => self.read(1),
                7 => self.read(usize::MAX),
                _ => self.answer(),
            }
        }
        self.calm();
        self.check_truth();
        self.check_lacking();
        // And once it is calm, a reconnect moves nothing: only the absent is answered as absent.
        self.connect();
        self.read(usize::MAX);
        for response in &self.client.unanswered {
            assert!(response.resources.is_empty(), "{}: a reconnect sent {response:?}", self.seed);
        }
    }

    /// One commit: a few resources set, a few removed. Routes name clusters that exist in it.
    fn publish(&mut self) {
        let mut delta = Delta::default();
        for _ in 0..=self.random.below(4) {
            let key = (self.random.pick(&TypeUrl::ALL), self.random.pick(&NAMES).to_owned());
            let touched = delta.set.iter().any(|set| (set.type_url, &*set.name) == (key.0, &key.1))
                || delta.removed.iter().any(|(type_url, name)| (*type_url, &**name) == (key.0, &key.1));
            if touched {
                continue;
            }
            if self.random.chance(25) {
                self.truth.remove(&key);
                delta.removed.push((key.0, key.1.as_str().into()));
            } else {
                self.set(&mut delta, &key);
            }
        }
        // A route that names a cluster no longer there is moved by the same commit, as a mesh does.
        let clusters = self.clusters();
        let dangling = self.truth.iter().filter(|((type_url, _), version)| {
            *type_url == TypeUrl::Route && !self.names[version].is_subset(&clusters)
        });
        for (key, _) in dangling.map(|(key, version)| (key.clone(), *version)).collect::<Vec<_>>() {
            delta.set.retain(|set| (set.type_url, &*set.name) != (key.0, &key.1));
            self.set(&mut delta, &key);
        }
        // The names of a commit's routes are settled once its clusters are.
        for route in delta.set.iter().filter(|set| set.type_url == TypeUrl::Route) {
            let named = clusters.iter().filter(|_| self.random.chance(40)).cloned().collect();
            self.names.insert(route.version.0, named);
        }
        self.cache.publish(&self.group, &delta);
        if let Some(snapshot) = self.cache.snapshot(&self.group) {
            self.session.on_snapshot(snapshot);
        }
    }

    fn set(&mut self, delta: &mut Delta, key: &(TypeUrl, String)) {
        self.version += 1;
        // Of a cluster that was rejected, or a route whose successor was, nothing can be said of order.
        if !matches!(key.0, TypeUrl::Cluster | TypeUrl::Route) && self.random.chance(10) {
            self.bad.insert(self.version);
        }
        self.truth.insert(key.clone(), self.version);
        self.names.insert(self.version, BTreeSet::new());
        let (name, version) = (key.1.as_str().into(), Version(self.version));
        let resource = Resource { type_url: key.0, name, version, wave: 0, body: Vec::new().into() };
        delta.set.push(Arc::new(resource));
    }

    fn clusters(&self) -> BTreeSet<String> {
        let clusters = self.truth.keys().filter(|(type_url, _)| *type_url == TypeUrl::Cluster);
        clusters.map(|(_, name)| name.clone()).collect()
    }

    /// A new stream, as Envoy opens it: every type with what it holds.
    fn connect(&mut self) {
        self.session = session(&self.follower, &self.group);
        self.client.unanswered.clear();
        self.client.excused.clear();
        self.client.waiting.clear();
        if let Some(snapshot) = self.cache.snapshot(&self.group) {
            self.session.on_snapshot(snapshot);
        }
        for type_url in TypeUrl::ALL {
            let held = self.client.held.iter().filter(|((held, _), _)| *held == type_url);
            let claims: Vec<_> =
                held.map(|((_, name), version)| (name.clone(), Version(*version).to_string())).collect();
            let mut request = request(type_url);
            if !WILDCARDS.contains(&type_url) {
                let names = self.client.asked.entry(type_url).or_insert_with(|| [NAMES[0].to_owned()].into());
                if names.is_empty() {
                    names.insert(NAMES[1].to_owned());
                }
                let held = claims.iter().map(|(name, _)| name.clone()).collect();
                for name in names.difference(&held) {
                    self.client.waiting.insert((type_url, name.clone()));
                    self.client.excused.insert((type_url, name.clone()));
                }
                request.resource_names_subscribe = names.iter().cloned().collect();
            }
            request.initial_resource_versions = claims.into_iter().collect();
            self.session.on_request(request).unwrap();
        }
    }

    /// Subscribes to a name, again or for the first time, or drops one.
    fn resubscribe(&mut self) {
        let type_url = self.random.pick(&[TypeUrl::Secret, TypeUrl::Endpoint, TypeUrl::Route]);
        let name = self.random.pick(&NAMES).to_owned();
        let mut request = request(type_url);
        let names = self.client.asked.entry(type_url).or_default();
        let key = (type_url, name.clone());
        if names.len() > 1 && self.random.chance(30) {
            names.remove(&name);
            self.client.held.remove(&key);
            self.client.waiting.remove(&key);
            request.resource_names_unsubscribe.push(name);
        } else {
            names.insert(name.clone());
            self.client.waiting.insert(key.clone());
            self.client.excused.insert(key);
            request.resource_names_subscribe.push(name);
        }
        self.session.on_request(request).unwrap();
    }

    /// Takes up to `count` responses off the stream.
    fn read(&mut self, count: usize) {
        for _ in 0..count {
            let Some(response) = self.session.next_response() else { break };
            self.apply(&response);
            self.client.unanswered.push_back(response);
        }
    }

    /// Answers the oldest response: rejects it if anything in it is bad.
    fn answer(&mut self) {
        let Some(response) = self.client.unanswered.pop_front() else { return self.read(1) };
        let mut request = request(TypeUrl::parse(&response.type_url).unwrap());
        request.response_nonce.clone_from(&response.nonce);
        if response.resources.iter().any(|resource| self.bad.contains(&version(&resource.version))) {
            "bad".clone_into(&mut request.error_detail.get_or_insert_default().message);
        }
        self.session.on_request(request).unwrap();
        self.check_standing();
    }

    /// What Envoy does with a response, and what must be true of it.
    fn apply(&mut self, response: &DeltaDiscoveryResponse) {
        let type_url = TypeUrl::parse(&response.type_url).unwrap();
        let rejected =
            response.resources.iter().any(|resource| self.bad.contains(&version(&resource.version)));
        let alone = response.resources.len() == 1;
        for resource in &response.resources {
            let (key, version) = ((type_url, resource.name.clone()), version(&resource.version));
            let excused = self.client.excused.remove(&key);
            let waste = self.client.held.get(&key) == Some(&version);
            assert!(!waste || excused, "{}: {key:?}@{version} was sent again for no reason", self.seed);
            self.client.waiting.remove(&key);
            if rejected {
                if !alone {
                    self.client.excused.insert(key);
                }
                continue;
            }
            // Not even a cluster on its way holds back what was asked for.
            if !excused {
                self.check_route(type_url, version);
            }
            if type_url == TypeUrl::Cluster {
                self.client.excused.insert((TypeUrl::Endpoint, resource.name.clone()));
            }
            if self.client.asked.get(&type_url).is_none_or(|names| names.contains(&resource.name)) {
                self.client.held.insert(key, version);
            }
        }
        for name in &response.removed_resources {
            let key = (type_url, name.clone());
            self.client.waiting.remove(&key);
            self.client.held.remove(&key);
            self.check_removal(type_url, name);
        }
        if matches!(type_url, TypeUrl::Route | TypeUrl::ScopedRoute) {
            assert!(response.resources.len() <= 1, "{}: routes travel alone", self.seed);
        }
    }

    /// Every cluster that a route names is with the client before the route is.
    fn check_route(&self, type_url: TypeUrl, version: u64) {
        if type_url != TypeUrl::Route {
            return;
        }
        for cluster in &self.names[&version] {
            let key = (TypeUrl::Cluster, cluster.clone());
            assert!(
                self.client.held.contains_key(&key) || !self.clusters().contains(cluster),
                "{}: route @{version} names {cluster}, which is still on its way",
                self.seed
            );
        }
    }

    /// No route that the client holds names a cluster that is taken away from it.
    fn check_removal(&self, type_url: TypeUrl, name: &str) {
        let routes = self.client.held.iter().filter(|((held, _), _)| *held == TypeUrl::Route);
        for ((_, route), version) in routes {
            assert!(
                type_url != TypeUrl::Cluster || !self.names[version].contains(name),
                "{}: cluster {name} was removed from under route {route}@{version}",
                self.seed
            );
        }
    }

    /// Lets everything arrive.
    fn calm(&mut self) {
        for _ in 0..1_000 {
            self.read(usize::MAX);
            if self.client.unanswered.is_empty() {
                return;
            }
            self.answer();
        }
        panic!("{}: the conversation does not end", self.seed);
    }

    /// The client holds exactly what it asked for and is good.
    fn check_truth(&self) {
        let asked = |type_url: &TypeUrl, name: &String| {
            WILDCARDS.contains(type_url)
                || self.client.asked.get(type_url).is_some_and(|names| names.contains(name))
        };
        for ((type_url, name), version) in &self.truth {
            let held = self.client.held.get(&(*type_url, name.clone()));
            if asked(type_url, name) && !self.bad.contains(version) {
                assert_eq!(held, Some(version), "{}: {type_url} {name}", self.seed);
            } else {
                assert_ne!(held, Some(version), "{}: {type_url} {name}", self.seed);
            }
        }
        for key in self.client.held.keys() {
            assert!(self.truth.contains_key(key), "{}: {key:?} was never removed", self.seed);
        }
        assert!(self.client.waiting.is_empty(), "{}: {:?}", self.seed, self.client.waiting);
    }

    /// Whoever looks is told of nothing as acknowledged that the client does not hold.
    fn check_standing(&self) {
        for standing in self.session.standing() {
            let lacking: BTreeSet<_> = standing.lacking.iter().map(|lacking| &lacking.name).collect();
            let meant = self.session.meant(standing.type_url);
            assert_eq!(meant.len(), standing.meant, "{}: {}", self.seed, standing.type_url);
            for resource in meant.iter().filter(|resource| !lacking.contains(&resource.name)) {
                let key = (standing.type_url, resource.name.to_string());
                assert_eq!(self.client.held.get(&key), Some(&resource.version.0), "{}: {key:?}", self.seed);
            }
        }
    }

    /// And when everything has arrived, of nothing as lacking but what it has rejected.
    fn check_lacking(&self) {
        for standing in self.session.standing() {
            for lacking in &standing.lacking {
                let rejected = lacking.version.is_some_and(|version| self.bad.contains(&version.0));
                assert!(lacking.why == Why::Rejected && rejected, "{}: {lacking:?}", self.seed);
            }
            let meant = self.session.meant(standing.type_url);
            let bad = meant.iter().filter(|resource| self.bad.contains(&resource.version.0));
            assert_eq!(bad.count(), standing.lacking.len(), "{}: {}", self.seed, standing.type_url);
        }
        self.check_standing();
    }
}

fn session(follower: &Follower, group: &Group) -> Session {
    let stream = StreamId { group: group.clone(), client: "client".into(), number: 1 };
    Session::new(Arc::new(stream), follower.quarantine(), 1_000)
}

fn request(type_url: TypeUrl) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: type_url.as_str().to_owned(), ..Default::default() }
}

fn version(text: &str) -> u64 {
    Version::parse(text).unwrap().0
}
