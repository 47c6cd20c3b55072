//! The oracle: however the inputs were reached, the outputs are those of a fresh start.
//!
//! The objects are the corpus's own. Cases disagree on what `web` looks like, and that is the point:
//! a random walk over them is a mesh in which everything changes into everything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZero,
    sync::atomic::{AtomicU64, Ordering},
};

use proto::{Object, ObjectRef, TypeUrl, Version, envoy, render_any};
use tests::case;
use translate::{
    Audience, Change, Fetched, Hindrances, KeySource, Mesh, Missing, Proxies, Seen, Taken,
    status::{Status, Truth},
};

use crate::{
    mesh_state::{ResourceKey, State},
    root, settings,
};

/// Xorshift: the walk of a seed is the same for ever.
pub(crate) struct Walk(pub(crate) u64);

impl Walk {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// Everything that was told and still holds.
#[derive(Clone, Default)]
struct World {
    objects: BTreeMap<ObjectRef, Object>,
    keys: BTreeMap<KeySource, Fetched>,
    hindrances: BTreeMap<Audience, Hindrances>,
    missing: BTreeMap<ObjectRef, Missing>,
    proxies: BTreeMap<Audience, Proxies>,
    taken: BTreeMap<ResourceKey, Taken>,
}

impl World {
    fn of(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut world = Self::default();
        for change in changes {
            world.apply(change);
        }
        world
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Set(object) => drop(self.objects.insert(object.reference(), object)),
            Change::Remove(reference) => drop(self.objects.remove(&reference)),
            Change::Keys(source, Some(fetched)) => drop(self.keys.insert(source, fetched)),
            Change::Keys(source, None) => drop(self.keys.remove(&source)),
            Change::Hindered(gateway, hindrances) => drop(self.hindrances.insert(gateway, hindrances)),
            Change::Missing(object, Some(missing)) => drop(self.missing.insert(object, missing)),
            Change::Missing(object, None) => drop(self.missing.remove(&object)),
            Change::Seen(Seen::Proxies(waypoint, Some(proxies))) => {
                self.proxies.insert(waypoint, proxies);
            }
            Change::Seen(Seen::Proxies(waypoint, None)) => {
                self.proxies.remove(&waypoint);
            }
            Change::Seen(Seen::Taken(waypoint, type_url, name, taken)) => {
                let key = (waypoint, type_url, name);
                match taken {
                    Some(taken) => drop(self.taken.insert(key, taken)),
                    None => drop(self.taken.remove(&key)),
                }
            }
        }
    }

    fn changes(&self) -> Vec<Change> {
        let keys = self.keys.iter().map(|(source, keys)| Change::Keys(source.clone(), Some(keys.clone())));
        let hindered =
            self.hindrances.iter().map(|(gateway, why)| Change::Hindered(gateway.clone(), why.clone()));
        let missing =
            self.missing.iter().map(|(object, why)| Change::Missing(object.clone(), Some(why.clone())));
        let proxies = self.proxies.iter();
        let proxies = proxies.map(|(waypoint, proxies)| Seen::Proxies(waypoint.clone(), Some(*proxies)));
        let taken = self.taken.iter().map(|((waypoint, type_url, name), taken)| {
            Seen::Taken(waypoint.clone(), *type_url, name.clone(), Some(taken.clone()))
        });
        let seen = proxies.chain(taken).map(Change::Seen);
        self.objects
            .values()
            .cloned()
            .map(Change::Set)
            .chain(keys)
            .chain(hindered)
            .chain(missing)
            .chain(seen)
            .collect()
    }
}

/// Everything that any case sets.
fn corpus() -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for case in case::all(root()).unwrap() {
        let edits = case.defaults.into_iter().chain(case.steps.into_iter().flat_map(|step| step.edits));
        for edit in edits {
            let sets =
                matches!(edit.change, Change::Set(_) | Change::Keys(_, Some(_)) | Change::Hindered(..));
            if sets && !changes.contains(&edit.change) {
                changes.push(edit.change);
            }
        }
    }
    changes
}

fn fresh(world: &World) -> State {
    let mut state = State::default();
    state.apply(&Mesh::new(settings()).commit(world.changes()));
    state
}

/// How many walks there are, and how many steps each has.
const WALKS: u64 = 100;
const STEPS: usize = 40;

/// What a walk came by.
#[derive(Clone, Copy, Default)]
struct Walked {
    moves: usize,
    programmed: usize,
}

#[test]
fn incremental_equals_from_scratch() {
    let corpus = corpus();
    let seeds = AtomicU64::new(1);
    let next = || Some(seeds.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed <= WALKS);
    // No walk knows of another, and this is the longest of all tests: one thread for each core.
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let walked: Vec<Walked> = std::thread::scope(|scope| {
        let walk = || std::iter::from_fn(next).map(|seed| walked(&corpus, seed)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(walk)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(walked.len() as u64, WALKS);
    let programmed: usize = walked.iter().map(|walked| walked.programmed).sum();
    let moves: usize = walked.iter().map(|walked| walked.moves).sum();
    assert!(programmed > 1_000, "only {programmed} objects were programmed: no proxy takes anything");
    assert!(moves > 10_000, "only {moves} resources moved: the walk does not walk");
}

fn walked(corpus: &[Change], seed: u64) -> Walked {
    let Walked { mut moves, mut programmed } = Walked::default();
    let mut walk = Walk(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut mesh = Mesh::new(settings());
    let mut state = State::default();
    let mut world = World::default();
    for step in 0..STEPS {
        // The first step is a whole small mesh; the others are a few changes at once.
        let size = if step == 0 { corpus.len() / 2 } else { 1 + walk.below(4) };
        let changes: Vec<Change> = (0..size).map(|_| change(&mut walk, corpus, step == 0)).collect();
        for change in &changes {
            world.apply(change.clone());
        }
        let commit = mesh.commit(changes);
        moves += commit.resources.values().map(|delta| delta.set.len() + delta.removed.len()).sum::<usize>();
        state.apply(&commit);
        let fresh = fresh(&world);
        assert_eq!(state.versions(), fresh.versions(), "seed {seed}, step {step}");
        assert_eq!(state.statuses, fresh.statuses, "seed {seed}, step {step}");
        assert_eq!(state.waypoints, fresh.waypoints, "seed {seed}, step {step}");
        assert_eq!(state.config_maps, fresh.config_maps, "seed {seed}, step {step}");
        consistent(&state);

        // What proxies do comes when nothing else does, as it mostly will.
        let taken = seen(&mut walk, &state);
        for change in &taken {
            world.apply(change.clone());
        }
        let commit = mesh.commit(taken);
        assert_eq!((commit.resources.len(), mesh.computed()), (0, 0), "seed {seed}, step {step}");
        state.apply(&commit);
        programmed += commit.statuses.values().flatten().filter(|status| is_programmed(status)).count();
    }
    Walked { moves, programmed }
}

/// What proxies did to some of what is out there: mostly they have it.
fn seen(walk: &mut Walk, state: &State) -> Vec<Change> {
    let waypoints: BTreeSet<&Audience> = state.resources.keys().map(|(waypoint, ..)| waypoint).collect();
    let mut seen = Vec::new();
    for waypoint in waypoints {
        if walk.below(4) != 0 {
            continue;
        }
        let number = |walk: &mut Walk| u32::try_from(walk.below(3)).unwrap();
        if walk.below(2) == 0 {
            let proxies = Proxies { ready: number(walk), starting: number(walk) };
            seen.push(Seen::Proxies(waypoint.clone(), (walk.below(8) != 0).then_some(proxies)));
        }
        let untold = walk.below(4);
        for ((_, type_url, name), (version, _)) in
            state.resources.iter().filter(|(key, _)| key.0 == *waypoint)
        {
            let told = matches!(type_url, TypeUrl::Route | TypeUrl::Listener) && walk.below(4) >= untold;
            let (waiting, rejected) = if walk.below(8) == 0 { (number(walk), number(walk)) } else { (0, 0) };
            if !told && rejected == 0 {
                continue;
            }
            let version = if walk.below(8) == 0 { Version(1) } else { *version };
            let taken = Taken { version, waiting, rejected, words: Some("it is bad".into()) };
            let taken = (walk.below(8) != 0).then_some(taken);
            seen.push(Seen::Taken(waypoint.clone(), *type_url, name.clone(), taken));
        }
    }
    seen.into_iter().map(Change::Seen).collect()
}

fn is_programmed(status: &Status) -> bool {
    let conditions = status.conditions.iter().chain(status.parents.iter().flat_map(|it| &it.conditions));
    conditions.into_iter().any(|it| (it.kind, it.truth) == ("Programmed", Truth::True))
}

fn change(walk: &mut Walk, corpus: &[Change], only_set: bool) -> Change {
    let change = corpus[walk.below(corpus.len())].clone();
    if only_set || walk.below(4) != 0 {
        return change;
    }
    match change {
        Change::Set(object) => Change::Remove(object.reference()),
        Change::Keys(source, _) => Change::Keys(source, None),
        other @ (Change::Remove(_) | Change::Seen(_)) => other,
        Change::Hindered(gateway, _) => Change::Hindered(gateway, Hindrances::default()),
        Change::Missing(object, _) => Change::Missing(object, None),
    }
}

/// The order in which objects arrive leaves no trace.
#[test]
fn any_order_of_the_same_objects_gives_the_same_resources() {
    let world = World::of(corpus());
    let expected = fresh(&world);
    for seed in 1..=20_u64 {
        let mut walk = Walk(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut left = world.changes();
        let mut mesh = Mesh::new(settings());
        let mut state = State::default();
        while !left.is_empty() {
            let take = (1 + walk.below(9)).min(left.len());
            let batch: Vec<Change> = (0..take).map(|_| left.swap_remove(walk.below(left.len()))).collect();
            state.apply(&mesh.commit(batch));
        }
        assert_eq!(state.versions(), expected.versions(), "seed {seed}");
    }
}

/// One version is one content, in every process: the message behind it is the same whenever it is emitted.
#[test]
fn equal_versions_are_equal_messages() {
    let world = World::of(corpus());
    let (one, other) = (fresh(&world), fresh(&world));
    let print = |state: &State| -> BTreeMap<ResourceKey, serde_json::Value> {
        let any = |key: &ResourceKey, body: &[u8]| envoy::Any {
            type_url: key.1.as_str().to_owned(),
            value: body.to_vec(),
        };
        state
            .resources
            .iter()
            .map(|(key, (_, body))| (key.clone(), render_any(&any(key, body)).unwrap()))
            .collect()
    };
    assert_eq!(one.versions(), other.versions());
    assert_eq!(print(&one), print(&other));
}

/// What sources drop of an object before they hand it on is nothing that anybody reads.
#[test]
fn what_sources_drop_is_missed_by_nobody() {
    for case in case::all(root()).unwrap() {
        let mut world = World::default();
        let steps = std::iter::once(&case.defaults).chain(case.steps.iter().map(|step| &step.edits));
        for (step, edits) in steps.enumerate() {
            for edit in edits {
                world.apply(edit.change.clone());
            }
            let objects = world.objects.iter();
            let objects = objects.map(|(key, object)| (key.clone(), watch::trim(object.clone())));
            let trimmed = World { objects: objects.collect(), ..world.clone() };
            let (whole, trimmed) = (fresh(&world), fresh(&trimmed));
            let place = format!("{}/{}, step {step}", case.folder, case.name);
            assert_eq!(trimmed.versions(), whole.versions(), "{place}");
            assert_eq!(trimmed.statuses, whole.statuses, "{place}");
        }
    }
}

/// A write that changes nothing we read moves nothing.
#[test]
fn setting_what_is_there_moves_nothing() {
    let world = World::of(corpus());
    let mut mesh = Mesh::new(settings());
    mesh.commit(world.changes());
    let again = mesh.commit(world.changes());
    assert!(again.resources.is_empty() && again.statuses.is_empty(), "{again:?}");
    assert_eq!(mesh.computed(), 0);
}

/// What a resource names is there: clusters have endpoints, scopes have routes, routes have clusters.
fn consistent(state: &State) {
    let names = |wanted: TypeUrl| -> BTreeSet<_> {
        let keys = state.resources.keys().filter(|(_, type_url, _)| *type_url == wanted);
        keys.map(|(audience, _, name)| (audience.clone(), name.to_string())).collect()
    };
    let (clusters, endpoints) = (names(TypeUrl::Cluster), names(TypeUrl::Endpoint));
    let routes = names(TypeUrl::Route);
    for ((audience, type_url, name), (_, body)) in &state.resources {
        let there = |kind: &BTreeSet<(Audience, String)>, wanted: &str| {
            assert!(
                kind.contains(&(audience.clone(), wanted.to_owned())),
                "{type_url} {name} names {wanted}, which is not there"
            );
        };
        match type_url {
            TypeUrl::Cluster => {
                let cluster: envoy::Cluster = prost::Message::decode(body.as_slice()).unwrap();
                if let Some(eds) = cluster.eds_cluster_config {
                    there(
                        &endpoints,
                        if eds.service_name.is_empty() { &cluster.name } else { &eds.service_name },
                    );
                }
            }
            TypeUrl::ScopedRoute => {
                let scope: envoy::ScopedRouteConfiguration = prost::Message::decode(body.as_slice()).unwrap();
                assert_eq!(scope.name.as_str(), &**name);
                there(&routes, &scope.route_configuration_name);
            }
            TypeUrl::Route => {
                let config: envoy::RouteConfiguration = prost::Message::decode(body.as_slice()).unwrap();
                for wanted in config.virtual_hosts.iter().flat_map(|host| &host.routes).flat_map(clusters_of)
                {
                    there(&clusters, &wanted);
                }
            }
            TypeUrl::Secret | TypeUrl::Extension | TypeUrl::Endpoint | TypeUrl::Listener => {}
        }
    }
}

fn clusters_of(route: &envoy::route::Route) -> Vec<String> {
    use envoy::route::{route::Action, route_action::ClusterSpecifier};
    let Some(Action::Route(action)) = &route.action else { return Vec::new() };
    let names = match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => vec![name.clone()],
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            weighted.clusters.iter().map(|cluster| cluster.name.clone()).collect()
        }
        other => panic!("a route leads nowhere: {other:?}"),
    };
    // The share of a backend that is refused: no cluster has this name, on purpose.
    names.into_iter().filter(|name| name != "refused").collect()
}
