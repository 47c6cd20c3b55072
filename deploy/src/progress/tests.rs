//! What is told of proxies, and when.

use std::sync::Arc;

use proto::{Body, Name, Resource, Version};
use translate::{Audience, Proxies, Seen, Taken};
use xds::StreamId;

use super::*;

const NAME: &str = "default/web:80";
const SOON: Duration = Duration::from_secs(1);

/// One waypoint's proxies, and a clock.
struct Rig {
    progress: Progress,
    now: Instant,
    snapshot: u64,
}

impl Rig {
    fn new() -> Self {
        Self { progress: Progress::default(), now: Instant::now(), snapshot: 0 }
    }

    fn group() -> Group {
        Group("default/waypoint".into())
    }

    fn stream(number: u64) -> Arc<StreamId> {
        Arc::new(StreamId { group: Self::group(), client: "waypoint".into(), number })
    }

    fn publish(&mut self, type_url: TypeUrl, name: &str, version: u64) {
        let (version, body) = (Version(version), Body::default());
        let resource = Resource { type_url, name: name.into(), version, wave: 0, body };
        self.snapshot += 1;
        let delta = Delta { set: vec![Arc::new(resource)], removed: Vec::new() };
        self.progress.publish(&Self::group(), &delta, self.snapshot, self.now);
    }

    fn route(&mut self, version: u64) {
        self.publish(TypeUrl::Route, NAME, version);
    }

    fn observe(&mut self, observation: &Observation) {
        self.progress.observe(observation, self.now);
    }

    fn connect(&mut self, number: u64) {
        self.observe(&Observation::Connected { stream: Self::stream(number), address: None });
    }

    fn up_to_date(&mut self, number: u64) {
        let (stream, revision) = (Self::stream(number), self.snapshot);
        self.observe(&Observation::UpToDate { stream, revision, quarantined: Vec::new() });
    }

    fn ready(&mut self, number: u64) {
        self.connect(number);
        self.up_to_date(number);
    }

    fn ack(&mut self, number: u64, version: u64) {
        let resources = vec![(NAME.into(), Version(version))];
        let (stream, type_url) = (Self::stream(number), TypeUrl::Route);
        self.observe(&Observation::Acked { stream, type_url, resources, removed: Vec::new() });
    }

    fn reject(&mut self, number: u64, type_url: TypeUrl, name: &str, version: u64) {
        self.observe(&Observation::Rejected {
            stream: Self::stream(number),
            type_url,
            resources: vec![(name.into(), Version(version))],
            quarantined: true,
            message: "it is bad".to_owned(),
        });
    }

    fn gone(&mut self, number: u64) {
        self.observe(&Observation::Gone { stream: Self::stream(number), reason: String::new() });
    }

    /// What is told once `time` has passed.
    fn told_after(&mut self, time: Duration) -> Vec<Seen> {
        self.now += time;
        let told = self.progress.take(self.now).into_iter();
        told.map(|change| match change {
            Change::Seen(seen) => seen,
            Change::Set(_)
            | Change::Remove(_)
            | Change::Keys(..)
            | Change::Hindered(..)
            | Change::Missing(..) => {
                panic!("not of proxies: {change:?}")
            }
        })
        .collect()
    }
}

fn waypoint() -> Audience {
    Audience { namespace: "default".into(), name: "waypoint".into() }
}

fn proxies(ready: u32, starting: u32) -> Seen {
    Seen::Proxies(waypoint(), Some(Proxies { ready, starting }))
}

fn taken(version: u64, waiting: u32, rejected: u32) -> Seen {
    let words = (rejected > 0).then(|| "it is bad".into());
    let taken = Taken { version: Version(version), waiting, rejected, words };
    Seen::Taken(waypoint(), TypeUrl::Route, NAME.into(), Some(taken))
}

#[test]
fn answers_are_told_when_their_wave_is_over_and_once() {
    let mut rig = Rig::new();
    rig.route(1);
    assert_eq!(
        rig.told_after(Duration::ZERO),
        [proxies(0, 0)],
        "a new waypoint has no proxies, and that is told"
    );
    rig.ready(1);
    rig.ready(2);
    let due = rig.progress.due().unwrap();
    assert_eq!(due, rig.now + WAVE);
    assert_eq!(rig.told_after(WAVE), [proxies(2, 0), taken(1, 0, 0)]);
    rig.route(2);
    assert_eq!(rig.progress.due(), None, "the mesh knows what it has published");
    rig.ack(1, 2);
    assert_eq!(rig.told_after(WAVE), [taken(2, 1, 0)]);
    rig.ack(2, 2);
    rig.up_to_date(2);
    assert_eq!(rig.told_after(WAVE), [taken(2, 0, 0)]);
    rig.up_to_date(1);
    assert_eq!(rig.progress.due(), None);
    assert_eq!(rig.told_after(SOON), []);
}

#[test]
fn a_proxy_counts_from_when_it_has_everything() {
    let mut rig = Rig::new();
    rig.route(1);
    rig.connect(1);
    assert_eq!(rig.told_after(SOON), [proxies(0, 1)]);
    rig.up_to_date(1);
    assert_eq!(rig.told_after(SOON), [proxies(1, 0), taken(1, 0, 0)]);
    rig.connect(2);
    rig.route(2);
    rig.ack(1, 2);
    assert_eq!(rig.told_after(SOON), [proxies(1, 1), taken(2, 0, 0)], "who is not ready is not waited for");
}

#[test]
fn what_was_published_while_a_proxy_became_ready_is_waited_for() {
    let mut rig = Rig::new();
    rig.route(1);
    rig.connect(1);
    let before = rig.snapshot;
    rig.route(2);
    let stream = Rig::stream(1);
    rig.observe(&Observation::UpToDate { stream, revision: before, quarantined: Vec::new() });
    assert_eq!(rig.told_after(SOON), [proxies(1, 0), taken(2, 1, 0)]);
}

#[test]
fn at_a_start_proxies_are_given_time_to_return() {
    let mut rig = Rig::new();
    rig.progress.start(rig.now);
    rig.route(1);
    rig.connect(1);
    assert_eq!(rig.told_after(SOON), [], "nothing is known yet");
    assert_eq!(rig.told_after(RETURN), [proxies(0, 1)]);
    rig.up_to_date(1);
    assert_eq!(rig.told_after(SOON), [proxies(1, 0), taken(1, 0, 0)]);
}

#[test]
fn a_stream_that_comes_back_is_no_news_and_what_it_missed_is_waited_for() {
    let mut rig = Rig::new();
    rig.route(1);
    rig.ready(1);
    rig.told_after(SOON);
    rig.gone(1);
    rig.route(2);
    assert_eq!(rig.told_after(SOON), [], "it is waited for");
    rig.connect(2);
    assert_eq!(rig.told_after(SOON), [proxies(1, 1)]);
    rig.up_to_date(2);
    assert_eq!(rig.told_after(SOON), [proxies(1, 0), taken(2, 0, 0)]);
    assert_eq!(rig.told_after(LINGER), []);
}

#[test]
fn a_proxy_that_does_not_come_back_does_not_count() {
    let mut rig = Rig::new();
    rig.route(1);
    rig.ready(1);
    rig.ready(2);
    rig.told_after(SOON);
    rig.gone(1);
    rig.route(2);
    rig.ack(2, 2);
    assert_eq!(rig.told_after(SOON), [taken(2, 1, 0)]);
    assert_eq!(rig.told_after(LINGER), [proxies(1, 0), taken(2, 0, 0)]);
    rig.gone(2);
    assert_eq!(rig.told_after(LINGER), [proxies(0, 0)]);
}

#[test]
fn a_rejection_is_told_with_its_words_until_the_resource_changes() {
    let mut rig = Rig::new();
    rig.route(1);
    rig.ready(1);
    rig.told_after(SOON);
    rig.route(2);
    rig.reject(1, TypeUrl::Route, NAME, 2);
    assert_eq!(rig.told_after(SOON), [taken(2, 0, 1)]);
    rig.route(3);
    rig.ack(1, 3);
    assert_eq!(rig.told_after(SOON), [taken(3, 0, 0)]);

    let of = |told: &[Seen]| -> Vec<(Name, Option<u32>)> {
        let of = |seen: &Seen| match seen {
            Seen::Taken(_, _, name, taken) => (name.clone(), taken.as_ref().map(|taken| taken.rejected)),
            Seen::Proxies(..) => panic!("no proxy has come or gone"),
        };
        told.iter().map(of).collect()
    };
    rig.publish(TypeUrl::Cluster, "cluster", 1);
    assert_eq!(rig.told_after(SOON), [], "nobody waits for a cluster");
    rig.reject(1, TypeUrl::Cluster, "cluster", 1);
    assert_eq!(of(&rig.told_after(SOON)), [("cluster".into(), Some(1))]);
    rig.publish(TypeUrl::Cluster, "cluster", 2);
    assert_eq!(of(&rig.told_after(SOON)), [("cluster".into(), None)]);
}

#[test]
fn what_one_proxy_rejected_the_others_go_without() {
    let mut rig = Rig::new();
    rig.route(1);
    rig.ready(1);
    rig.ready(2);
    rig.told_after(SOON);
    rig.route(2);
    rig.reject(1, TypeUrl::Route, NAME, 2);
    let (stream, revision) = (Rig::stream(2), rig.snapshot);
    let quarantined = vec![(TypeUrl::Route, NAME.into())];
    rig.observe(&Observation::UpToDate { stream, revision, quarantined });
    assert_eq!(rig.told_after(SOON), [taken(2, 0, 2)]);
}

#[test]
fn a_waypoint_that_is_gone_is_forgotten() {
    let mut rig = Rig::new();
    rig.route(1);
    rig.ready(1);
    rig.told_after(SOON);
    rig.progress.forget(&Rig::group(), rig.now);
    let forgotten = Seen::Taken(waypoint(), TypeUrl::Route, NAME.into(), None);
    assert_eq!(rig.told_after(SOON), [Seen::Proxies(waypoint(), None), forgotten]);
    rig.gone(1);
    rig.told_after(LINGER);
    assert!(rig.progress.fleets.is_empty());
}

/// Lets `leader` hear what `other` tells.
fn hears(leader: &mut Rig, other: &Rig) {
    let others = BTreeMap::from([("other".into(), other.progress.reports().clone())]);
    leader.progress.hear(&others, leader.now);
}

#[test]
fn proxies_of_another_replica_count_as_its_own_answers_come() {
    let (mut leader, mut other) = (Rig::new(), Rig::new());
    for rig in [&mut leader, &mut other] {
        rig.route(1);
        rig.ready(1);
    }
    other.ready(2);
    other.connect(3);
    other.told_after(SOON);
    assert_eq!(leader.told_after(SOON), [proxies(1, 0), taken(1, 0, 0)]);
    hears(&mut leader, &other);
    assert_eq!(leader.told_after(SOON), [proxies(3, 1)]);
    hears(&mut leader, &other);
    assert_eq!(leader.progress.due(), None, "nothing new was said");

    leader.route(2);
    leader.ack(1, 2);
    assert_eq!(leader.told_after(SOON), [taken(2, 2, 0)], "they are at the last commit");
    other.route(2);
    other.ack(1, 2);
    other.told_after(SOON);
    hears(&mut leader, &other);
    assert_eq!(leader.told_after(SOON), [taken(2, 1, 0)]);
    other.ack(2, 2);
    other.told_after(SOON);
    hears(&mut leader, &other);
    assert_eq!(leader.told_after(SOON), [taken(2, 0, 0)]);
    leader.progress.hear(&BTreeMap::new(), leader.now);
    assert_eq!(leader.told_after(SOON), [proxies(1, 0)]);
}

#[test]
fn a_rejection_at_another_replica_is_told_in_the_proxys_words() {
    let (mut leader, mut other) = (Rig::new(), Rig::new());
    for rig in [&mut leader, &mut other] {
        rig.route(1);
        rig.publish(TypeUrl::Cluster, "cluster", 1);
    }
    other.ready(1);
    other.told_after(SOON);
    hears(&mut leader, &other);
    leader.told_after(SOON);
    other.reject(1, TypeUrl::Route, NAME, 1);
    other.reject(1, TypeUrl::Cluster, "cluster", 1);
    other.told_after(SOON);
    hears(&mut leader, &other);
    let told = leader.told_after(SOON);
    assert!(told.contains(&taken(1, 0, 1)) && told.len() == 2, "{told:?}");
    for rig in [&mut leader, &mut other] {
        rig.route(2);
        rig.publish(TypeUrl::Cluster, "cluster", 2);
    }
    other.ack(1, 2);
    other.told_after(SOON);
    hears(&mut leader, &other);
    let told = leader.told_after(SOON);
    let gone = Seen::Taken(waypoint(), TypeUrl::Cluster, "cluster".into(), None);
    assert!(told.contains(&taken(2, 0, 0)) && told.contains(&gone), "{told:?}");
}

#[test]
fn a_replica_that_is_ahead_is_understood_when_we_have_published_the_same() {
    let (mut leader, mut other) = (Rig::new(), Rig::new());
    for rig in [&mut leader, &mut other] {
        rig.route(1);
    }
    other.ready(1);
    other.told_after(SOON);
    hears(&mut leader, &other);
    leader.told_after(SOON);
    other.route(2);
    other.ack(1, 2);
    other.told_after(SOON);
    hears(&mut leader, &other);
    assert_eq!(leader.told_after(SOON), [], "nobody here knows what that is");
    leader.route(2);
    hears(&mut leader, &other);
    assert_eq!(leader.told_after(SOON), [taken(2, 0, 0)], "they have it already");
    leader.route(3);
    other.route(3);
    other.ack(1, 3);
    other.told_after(SOON);
    hears(&mut leader, &other);
    assert_eq!(leader.told_after(SOON), [taken(3, 0, 0)]);
}
