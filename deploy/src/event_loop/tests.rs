//! The loop, driven by hand: no source, no network, no clock.

use std::collections::BTreeMap;

use proto::{Kind, Object, ObjectRef, TypeUrl, Version};
use serde_json::json;
use tempfile::TempDir;
use translate::{Hindrances, KeySet, KeySource, Origin, References, Settings, status::Status};
use xds::{Snapshot, StreamId};

use super::*;
use crate::{
    deployer::Order,
    identity::{Authority, Leaves, ServerCertificates, ServerNames},
    waypoint::{AUDIENCE, IMAGE, Template},
};

const LIFETIME: Duration = Duration::from_hours(3);

/// A loop without a source, a network or a clock.
struct Rig {
    event_loop: EventLoop,
    cache: Arc<Cache>,
    ready: oneshot::Receiver<()>,
    start: Moment,
    state: TempDir,
    wished: mpsc::UnboundedReceiver<watch::Wish>,
    ordered: mpsc::UnboundedReceiver<Order>,
    statuses: mpsc::UnboundedReceiver<(ObjectRef, Option<Status>)>,
    wanted: mpsc::UnboundedReceiver<BTreeMap<ObjectRef, bool>>,
    reports: tokio::sync::watch::Receiver<Reports>,
}

impl Rig {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    fn on(state: TempDir) -> Self {
        let start = Moment { time: SystemTime::now(), instant: Instant::now() };
        let settings = Settings { references: References::Followed, ..Settings::default() };
        let authority = Authority::open(state.path(), &settings.trust_domain, start.time).unwrap();
        let server =
            ServerCertificates::issue(&authority, ServerNames::default(), LIFETIME, start.time).unwrap();
        let certificates = Certificates::new(authority, Leaves::open(state.path(), LIFETIME), server);
        let cache = Arc::new(Cache::new());
        let (told, ready) = oneshot::channel();
        let (wish, wished) = mpsc::unbounded_channel();
        let keys = Keys::open(state.path(), wish);
        let template = Template {
            image: IMAGE.to_owned(),
            xds: Template::service("mesh"),
            audience: AUDIENCE.to_owned(),
        };
        let (to, ordered) = mpsc::unbounded_channel();
        let (status, statuses) = mpsc::unbounded_channel();
        let (want, wanted) = mpsc::unbounded_channel();
        let (report, reports) = tokio::sync::watch::channel(Reports::default());
        let outbox = Outbox {
            orders: Some(Orders::new(template, to)),
            statuses: Some(status),
            wanted: Some(want),
            reports: Some(report),
            ..Outbox::default()
        };
        let mesh = Mesh::new(settings);
        let metrics = Metrics::new(None);
        let event_loop = EventLoop::new(mesh, Arc::clone(&cache), certificates, keys, outbox, metrics, told);
        Self { event_loop, cache, ready, start, state, wished, ordered, statuses, wanted, reports }
    }

    /// One whose source has said all of `changes`.
    fn started(changes: Vec<Change>) -> Self {
        let mut rig = Self::new();
        rig.source(Update::Changes(changes));
        rig.source(Update::Ready);
        rig
    }

    fn source(&mut self, update: Update) {
        self.event_loop.step(Event::Source(update), self.start);
    }

    fn keys(&mut self, told: Told) {
        self.event_loop.step(Event::Keys(told), self.start);
    }

    /// What was ordered since the last look: a word for each, and whose it is.
    fn ordered(&mut self) -> Vec<(&'static str, String)> {
        let mut orders = Vec::new();
        while let Ok(order) = self.ordered.try_recv() {
            let (word, gateway) = match order {
                Order::Run(gateway, objects) if objects.is_empty() => ("run nothing", gateway),
                Order::Run(gateway, _) => ("run", gateway),
                Order::Leave(gateway) => ("leave", gateway),
                Order::End(gateway) => ("end", gateway),
                Order::Fail(gateway, _) => ("fail", gateway),
                Order::Roots(_) => continue,
            };
            orders.push((word, gateway.to_string()));
        }
        orders
    }

    /// The statuses that were sent since the last look, of that object, as text.
    fn statuses_of(&mut self, object: &ObjectRef) -> Vec<Option<String>> {
        let mut seen = Vec::new();
        while let Ok((of, status)) = self.statuses.try_recv() {
            if of == *object {
                seen.push(status.map(|status| format!("{status:?}")));
            }
        }
        seen
    }

    fn due_after(&mut self, time: Duration) {
        let now = Moment { time: self.start.time + time, ..self.start };
        self.event_loop.step(Event::CertificatesDue, now);
    }

    fn snapshot(&self, gateway: &str) -> Option<Arc<Snapshot>> {
        self.cache.snapshot(&Group(gateway.into()))
    }

    fn versions(&self, gateway: &str) -> BTreeMap<(TypeUrl, String), Version> {
        let snapshot = self.snapshot(gateway).unwrap();
        let resources = snapshot.resources().into_iter();
        resources.map(|it| ((it.type_url, it.name.to_string()), it.version)).collect()
    }
}

fn waypoint(name: &str) -> Change {
    waypoint_with(name, &json!({}))
}

fn waypoint_with(name: &str, infrastructure: &serde_json::Value) -> Change {
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": "default", "labels": {"istio.io/waypoint-for": "service"}},
        "spec": {
            "gatewayClassName": "istio-waypoint",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            "infrastructure": infrastructure,
        },
    });
    Change::Set(Object::decode(gateway).unwrap().object)
}

fn reference(name: &str) -> ObjectRef {
    ObjectRef { kind: Kind::Gateway, namespace: "default".into(), name: name.into() }
}

fn removal(name: &str) -> Change {
    Change::Remove(reference(name))
}

fn secret(name: &str) -> (TypeUrl, String) {
    (TypeUrl::Secret, name.to_owned())
}

#[test]
fn nothing_is_published_before_the_source_is_complete() {
    let mut rig = Rig::new();
    rig.source(Update::Changes(vec![waypoint("one")]));
    rig.due_after(LIFETIME);
    rig.source(Update::Changes(vec![waypoint("two")]));
    assert!(rig.snapshot("default/one").is_none());
    rig.ready.try_recv().unwrap_err();
    rig.source(Update::Ready);
    assert!(rig.snapshot("default/one").is_some() && rig.snapshot("default/two").is_some());
    rig.ready.try_recv().unwrap();
    assert_eq!(rig.event_loop.revision, Revision(1), "all of it is one commit");
}

#[test]
fn the_first_publish_of_a_waypoint_holds_its_secrets() {
    let rig = Rig::started(vec![waypoint("one")]);
    let first = rig.snapshot("default/one").unwrap().revision();
    assert_eq!(first, 1, "there was one publish");
    let versions = rig.versions("default/one");
    assert!(["default", "CALLERS", "ROOTCA"].iter().all(|name| versions.contains_key(&secret(name))));
}

#[test]
fn a_waypoint_that_comes_later_has_its_secrets_too() {
    let mut rig = Rig::started(vec![]);
    rig.source(Update::Changes(vec![waypoint("late")]));
    assert!(rig.versions("default/late").contains_key(&secret("default")));
}

#[test]
fn a_change_that_changes_nothing_publishes_nothing() {
    let mut rig = Rig::started(vec![waypoint("one")]);
    let before = rig.snapshot("default/one").unwrap().revision();
    rig.source(Update::Changes(vec![waypoint("one")]));
    assert_eq!(rig.snapshot("default/one").unwrap().revision(), before);
}

#[test]
fn renewal_changes_the_certificate_and_nothing_else() {
    let mut rig = Rig::started(vec![waypoint("one")]);
    let before = rig.versions("default/one");
    rig.due_after(LIFETIME / 3);
    assert_eq!(rig.versions("default/one"), before, "it is not due yet");
    rig.due_after(LIFETIME * 2 / 3 + Duration::from_secs(1));
    let after = rig.versions("default/one");
    let changed: Vec<_> = after.iter().filter(|(name, version)| before[*name] != **version).collect();
    assert_eq!(changed.len(), 1);
    assert_eq!(*changed[0].0, secret("default"));
    assert_eq!(after.len(), before.len());
}

#[test]
fn a_restart_publishes_the_same_versions() {
    let rig = Rig::started(vec![waypoint("one")]);
    let before = rig.versions("default/one");
    let mut again = Rig::on(rig.state);
    again.source(Update::Changes(vec![waypoint("one")]));
    again.source(Update::Ready);
    assert_eq!(again.versions("default/one"), before);
}

#[test]
fn a_waypoint_that_is_gone_leaves_nothing_and_may_return() {
    let mut rig = Rig::started(vec![waypoint("one"), waypoint("two")]);
    let before = rig.versions("default/one");
    rig.source(Update::Changes(vec![removal("one")]));
    assert!(rig.snapshot("default/one").is_none());
    assert!(rig.snapshot("default/two").is_some());
    rig.source(Update::Changes(vec![waypoint("one")]));
    let after = rig.versions("default/one");
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert_ne!(after[&secret("default")], before[&secret("default")], "the old certificate is forgotten");
}

#[test]
fn what_proxies_do_needs_no_source() {
    let mut rig = Rig::new();
    let stream =
        Arc::new(StreamId { group: Group("default/one".into()), client: "default/one".into(), number: 1 });
    let seen = Observation::Connected { stream: Arc::clone(&stream), address: None };
    rig.event_loop.step(Event::Proxy(seen), rig.start);
    rig.event_loop.step(Event::Proxy(Observation::Gone { stream, reason: String::new() }), rig.start);
    assert!(rig.snapshot("default/one").is_none());
}

#[test]
fn keys_are_wished_for_and_a_restart_has_them_without_asking() {
    let source = KeySource::Uri("https://keys.example/".into());
    let policy = json!({
        "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
        "metadata": {"name": "tokens", "namespace": "default"},
        "spec": {
            "targetRefs": [{"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "one"}],
            "jwtRules": [{"issuer": "i", "jwksUri": "https://keys.example/"}],
        },
    });
    let changes = || vec![waypoint("one"), Change::Set(Object::decode(policy.clone()).unwrap().object)];
    let mut rig = Rig::started(changes());
    let wish = rig.wished.try_recv().unwrap();
    assert_eq!(wish.keys().collect::<Vec<_>>(), [&source]);
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43)});
    let (keys, _) = KeySet::read(&json!({"keys": [key]}).to_string(), Origin::Published).unwrap();
    rig.keys(Told::Fetched(source.clone(), Ok(keys)));
    let versions = rig.versions("default/one");
    rig.keys(Told::Fetched(source.clone(), Err("down".into())));

    let mut again = Rig::on(rig.state);
    again.source(Update::Changes(changes()));
    again.source(Update::Ready);
    assert_eq!(again.versions("default/one"), versions);
    again.source(Update::Changes(vec![Change::Remove(ObjectRef {
        kind: Kind::RequestAuthentication,
        namespace: "default".into(),
        name: "tokens".into(),
    })]));
    let told = [again.wished.try_recv().unwrap(), again.wished.try_recv().unwrap()];
    assert_eq!(told[1], watch::Wish::from([(source, None)]));
}

#[test]
fn what_proxies_have_is_one_commit_and_publishes_nothing() {
    let mut rig = Rig::started(vec![waypoint("one")]);
    let before = rig.snapshot("default/one").unwrap().revision();
    let stream = |number| {
        Arc::new(StreamId { group: Group("default/one".into()), client: "default/one".into(), number })
    };
    for number in [1, 2] {
        let seen = Observation::Connected { stream: stream(number), address: None };
        rig.event_loop.step(Event::Proxy(seen), rig.start);
        let (revision, quarantined) = (before, Vec::new());
        let seen = Observation::UpToDate { stream: stream(number), revision, quarantined };
        rig.event_loop.step(Event::Proxy(seen), rig.start);
    }
    assert_eq!(rig.event_loop.revision, Revision(1), "the wave is not over");
    let due = rig.event_loop.progress_due().unwrap();
    rig.event_loop.step(Event::ProgressDue, Moment { instant: due, ..rig.start });
    assert_eq!(rig.event_loop.revision, Revision(2));
    assert_eq!(rig.snapshot("default/one").unwrap().revision(), before);
    let later = rig.event_loop.progress_due().unwrap();
    assert!(later > due + Duration::from_secs(1), "there is nothing more to tell");
}

#[test]
fn nothing_is_told_of_proxies_before_it_is_known_what_exists() {
    let mut rig = Rig::new();
    let stream =
        Arc::new(StreamId { group: Group("default/one".into()), client: "default/one".into(), number: 1 });
    rig.event_loop.step(Event::Proxy(Observation::Connected { stream, address: None }), rig.start);
    assert_eq!(rig.event_loop.progress_due(), None);
    rig.source(Update::Changes(vec![waypoint("one")]));
    rig.source(Update::Ready);
    assert!(rig.event_loop.progress_due().is_some());
}

#[test]
fn what_is_to_be_written_follows_from_commits_and_not_before_the_source_is_complete() {
    let mut rig = Rig::new();
    rig.source(Update::Changes(vec![waypoint("one")]));
    assert_eq!((rig.ordered(), rig.statuses_of(&reference("one")).len()), (vec![], 0));
    rig.source(Update::Ready);
    let of = |word: &'static str| vec![(word, "default/one".to_owned())];
    assert_eq!(rig.ordered(), of("run"));
    assert_eq!(rig.statuses_of(&reference("one")).len(), 1);
    rig.source(Update::Changes(vec![waypoint("one")]));
    assert_eq!((rig.ordered(), rig.statuses_of(&reference("one")).len()), (vec![], 0), "nothing moved");
    rig.source(Update::Changes(vec![removal("one")]));
    assert_eq!(rig.ordered(), of("end"));
    assert_eq!(rig.statuses_of(&reference("one")), [None]);
}

#[test]
fn what_hinders_a_waypoint_is_said_by_its_gateway_and_waits_for_the_source() {
    let mut rig = Rig::new();
    let gateway = Audience { namespace: "default".into(), name: "one".into() };
    let hindered = |why: &[&str]| {
        let why = why.iter().map(|why| (*why).to_owned()).collect();
        Event::Told(Change::Hindered(gateway.clone(), Hindrances(why)))
    };
    rig.event_loop.step(hindered(&["the quota is used up"]), rig.start);
    rig.source(Update::Changes(vec![waypoint("one")]));
    rig.source(Update::Ready);
    let says = |rig: &mut Rig| -> Vec<bool> {
        let told = rig.statuses_of(&reference("one"));
        told.iter().map(|status| status.as_ref().unwrap().contains("quota")).collect()
    };
    assert_eq!(says(&mut rig), [true]);
    rig.ordered();
    rig.event_loop.step(hindered(&[]), rig.start);
    assert_eq!(says(&mut rig), [false]);
    assert_eq!(rig.ordered(), [], "what is told orders nothing");
}

#[test]
fn another_authority_is_trusted_by_proxies_before_it_signs_for_any_of_them() {
    let mut rig = Rig::started(vec![waypoint("a")]);
    let roots = |rig: &mut Rig| {
        let mut said = Vec::new();
        while let Ok(order) = rig.ordered.try_recv() {
            if let Order::Roots(roots) = order {
                said.push(roots.matches("BEGIN CERTIFICATE").count());
            }
        }
        said
    };
    assert_eq!(roots(&mut rig), [1]);
    let secrets = |rig: &Rig| {
        let versions = rig.versions("default/a");
        ["default", "CALLERS", "ROOTCA"].map(|name| versions[&(TypeUrl::Secret, name.to_owned())])
    };
    let [leaf, callers, called] = secrets(&rig);
    let domain = Settings::default().trust_domain;
    let entries = Authority::generate(&domain, rig.start.time).unwrap();
    let next = || Authority::from_entries(&entries, &domain, rig.start.time).unwrap().into();
    rig.event_loop.step(Event::Authority(next()), rig.start);
    let trusted = secrets(&rig);
    assert!(trusted[0] == leaf && trusted[1] != callers && trusted[2] != called);
    rig.event_loop.step(Event::Authority(next()), rig.start);
    assert_eq!(secrets(&rig), trusted, "it is no news");
    assert_eq!(roots(&mut rig), [2], "pods are to trust both");
    rig.due_after(Duration::from_mins(6));
    let signed = secrets(&rig);
    assert!(signed[0] != leaf, "the next one signs");
    rig.due_after(LIFETIME / 3);
    assert_eq!(secrets(&rig), signed, "the old one is still trusted");
}

#[test]
fn a_config_map_that_is_referred_to_is_asked_for_and_nothing_is_made_before_it_is_known() {
    let infrastructure = json!({"parametersRef": {"group": "", "kind": "ConfigMap", "name": "own"}});
    let mut rig = Rig::started(vec![waypoint_with("one", &infrastructure)]);
    let map = ObjectRef { kind: Kind::ConfigMap, ..reference("own") };
    let of = |word: &'static str| vec![(word, "default/one".to_owned())];
    assert_eq!(rig.wanted.try_recv().unwrap(), BTreeMap::from([(map.clone(), true)]));
    assert_eq!(rig.ordered(), of("leave"));
    let patches = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own", "namespace": "default"},
        "data": {"deployment": "spec: {replicas: 4}"},
    });
    rig.source(Update::Changes(vec![Change::Set(Object::decode(patches).unwrap().object)]));
    assert_eq!(rig.ordered(), of("run"));
    rig.source(Update::Changes(vec![waypoint("one")]));
    assert_eq!(rig.wanted.try_recv().unwrap(), BTreeMap::from([(map, false)]));
    rig.wanted.try_recv().unwrap_err();
}

#[test]
fn proxies_of_all_replicas_are_counted_by_the_one_that_hears_of_the_others() {
    let mut rigs = [Rig::started(vec![waypoint("one")]), Rig::started(vec![waypoint("one")])];
    for rig in &mut rigs {
        let revision = rig.snapshot("default/one").unwrap().revision();
        let stream = Arc::new(StreamId {
            group: Group("default/one".into()),
            client: "default/one".into(),
            number: 1,
        });
        let (connected, taken) = (
            Observation::Connected { stream: Arc::clone(&stream), address: None },
            Observation::UpToDate { stream, revision, quarantined: Vec::new() },
        );
        rig.event_loop.step(Event::Proxy(connected), rig.start);
        rig.event_loop.step(Event::Proxy(taken), rig.start);
        let due = rig.event_loop.progress_due().unwrap();
        rig.event_loop.step(Event::ProgressDue, Moment { instant: due, ..rig.start });
    }
    let [mut leader, other] = rigs;
    let says = |rig: &mut Rig| rig.statuses_of(&reference("one")).pop().flatten().unwrap();
    assert!(says(&mut leader).contains("1 of 1 waypoint proxies"));
    let others = BTreeMap::from([("other".into(), other.reports.borrow().clone())]);
    leader.event_loop.step(Event::Others(others), leader.start);
    let due = leader.event_loop.progress_due().unwrap();
    leader.event_loop.step(Event::ProgressDue, Moment { instant: due, ..leader.start });
    assert!(says(&mut leader).contains("2 of 2 waypoint proxies"));
}
