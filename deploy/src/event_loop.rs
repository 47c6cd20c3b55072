//! The loop that connects the rooms: everything that can ever happen, one thing at a time.
//!
//! ```text
//!   Source ─► Mesh::commit ──────────► Cache::publish ─► proxies
//!                  │                        ▲               │
//!                  └─► Certificates ────────┤               ▼
//!                  ├─► Keys ─► watch::follow_keys ─► told, a Change like others
//!                  └─► Outbox ─► whoever writes to the cluster ─► Told, a Change like others
//!   CertificatesDue ──────▲                 └── seen ── Proxy ─► "acknowledged"
//!                                                          └─► Progress ─ ProgressDue ─► a Change like others
//! ```

mod outbox;

use std::{
    collections::BTreeMap,
    mem,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use proto::{Delta, Name, Resource};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use translate::{Audience, Change, Commit, Mesh, Revision};
use watch::{Told, Update};
use xds::{Cache, Group, Observation};

pub use outbox::{Orders, Outbox};

use crate::{
    acknowledgements::{Acknowledgements, Publish},
    admin::Question,
    certificates::Certificates,
    identity::Authority,
    journal,
    keys::Keys,
    metrics::Metrics,
    progress::{Progress, Reports},
};

/// Everything that can happen.
#[derive(Debug)]
pub enum Event {
    /// The source of objects says something.
    Source(Update),
    /// Something came of fetching keys.
    Keys(Told),
    /// Whoever writes to the cluster says what became of it.
    Told(Change),
    /// A proxy did something.
    Proxy(Observation),
    /// The other replicas say what their proxies have.
    Others(BTreeMap<Name, Reports>),
    /// What proxies did is to be told to the mesh.
    ProgressDue,
    /// It is time to see whether a certificate has to be renewed.
    CertificatesDue,
    /// Somebody asks what the loop knows.
    Asked(Question),
    /// Another authority is to sign them.
    Authority(Box<Authority>),
}

/// When something happened: for certificates, and for measuring.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the calendar.
    pub time: SystemTime,
    /// By a clock that only goes forward.
    pub instant: Instant,
}

/// What the loop owns.
pub struct EventLoop {
    mesh: Mesh,
    cache: Arc<Cache>,
    certificates: Certificates,
    keys: Keys,
    outbox: Outbox,
    acknowledgements: Acknowledgements,
    progress: Progress,
    gathering: Gathering,
    metrics: Metrics,
    /// The last commit's.
    revision: Revision,
}

/// Whether the source has told us of everything that exists. Before that nothing is committed: a proxy
/// that reconnects would take what is not there yet for what was deleted.
enum Gathering {
    /// No; this is what it has told us of so far, and whom to tell when it is complete.
    Until { seen: Vec<Change>, ready: oneshot::Sender<()> },
    /// Yes.
    Done,
}

/// Where the loop's events come from.
pub struct Inbox {
    /// What the source says.
    pub updates: mpsc::Receiver<Update>,
    /// What proxies did. Without a bound, for an observer must not wait; each entry follows from one
    /// message of a proxy, and the loop does next to nothing with it. With it, when that was.
    pub observations: mpsc::UnboundedReceiver<(Observation, Instant)>,
    /// What came of fetching keys.
    pub keys: mpsc::Receiver<Told>,
    /// What those say whom the outbox leads to; nobody has to.
    pub told: mpsc::Receiver<Change>,
    /// What the other replicas say of their proxies, all of it each time; nobody has to.
    pub others: mpsc::Receiver<BTreeMap<Name, Reports>>,
    /// What it is asked.
    pub questions: mpsc::Receiver<Question>,
    /// What our authority is, each time that it becomes another; nobody has to say.
    pub authorities: mpsc::Receiver<Authority>,
    /// How often to look at the certificates.
    pub renewal_period: Duration,
}

impl EventLoop {
    /// A loop that has heard nothing yet. `ready` is told when the first commit has been published.
    pub fn new(
        mesh: Mesh,
        cache: Arc<Cache>,
        certificates: Certificates,
        keys: Keys,
        outbox: Outbox,
        metrics: Metrics,
        ready: oneshot::Sender<()>,
    ) -> Self {
        let gathering = Gathering::Until { seen: keys.kept(), ready };
        Self {
            mesh,
            cache,
            certificates,
            keys,
            outbox,
            acknowledgements: Acknowledgements::default(),
            progress: Progress::default(),
            gathering,
            metrics,
            revision: Revision::default(),
        }
    }

    /// Runs until it is stopped.
    pub async fn run(mut self, mut inbox: Inbox, stop: CancellationToken) {
        let mut renewals = interval(inbox.renewal_period);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.progress_due();
            let (event, instant) = tokio::select! {
                () = stop.cancelled() => return,
                Some(update) = inbox.updates.recv() => (Event::Source(update), Instant::now()),
                Some(told) = inbox.keys.recv() => (Event::Keys(told), Instant::now()),
                Some(change) = inbox.told.recv() => (Event::Told(change), Instant::now()),
                Some(authority) = inbox.authorities.recv() => (Event::Authority(authority.into()), Instant::now()),
                Some((observation, instant)) = inbox.observations.recv() => (Event::Proxy(observation), instant),
                Some(others) = inbox.others.recv() => (Event::Others(others), Instant::now()),
                () = passed(due) => (Event::ProgressDue, Instant::now()),
                _ = renewals.tick() => (Event::CertificatesDue, Instant::now()),
                Some(question) = inbox.questions.recv() => (Event::Asked(question), Instant::now()),
            };
            let (revision, start) = (self.revision, Instant::now());
            self.step(event, Moment { time: SystemTime::now(), instant });
            if self.revision != revision {
                self.metrics.mesh.committed(start.elapsed());
            }
        }
    }

    /// Does everything that follows from one event.
    pub fn step(&mut self, event: Event, now: Moment) {
        match event {
            Event::Source(Update::Changes(changes)) => {
                self.outbox.show(&changes);
                self.take(changes, now);
            }
            Event::Told(change) => self.take(vec![change], now),
            Event::Source(Update::Ready) => {
                if let Gathering::Until { seen, ready } = mem::replace(&mut self.gathering, Gathering::Done) {
                    self.metrics.outside.complete();
                    self.progress.start(now.instant);
                    self.outbox.trust(self.certificates.roots());
                    self.commit(seen, now);
                    let unwanted = self.keys.forget_unwanted();
                    if !unwanted.is_empty() {
                        self.commit(unwanted, now);
                    }
                    self.outbox.complete();
                    // Whoever waited for this is gone only when everything is about to end.
                    ready.send(()).ok();
                }
            }
            Event::Keys(told) => {
                self.metrics.outside.told(&told);
                if let Some(change) = self.keys.told(told) {
                    self.commit(vec![change], now);
                }
            }
            Event::Proxy(observation) => {
                journal::observed(&observation);
                for acknowledged in self.acknowledgements.observe(&observation, now.instant) {
                    journal::acknowledged(&acknowledged);
                    self.metrics.mesh.acknowledged(acknowledged.after);
                }
                self.metrics.proxies.observe(&observation);
                self.progress.observe(&observation, now.instant);
            }
            Event::ProgressDue => {
                let seen = self.progress.take(now.instant);
                self.outbox.report(self.progress.reports());
                if !seen.is_empty() {
                    self.commit(seen, now);
                }
            }
            Event::Others(others) => self.progress.hear(&others, now.instant),
            // Whoever asked may have gone meanwhile.
            Event::Asked(Question::Alive(answer)) => {
                answer.send(()).ok();
            }
            Event::CertificatesDue => {
                let moved = self.certificates.renew(now.time);
                self.hand_out(moved, now);
            }
            Event::Authority(authority) => {
                let moved = self.certificates.adopt(*authority, now.time);
                self.hand_out(moved, now);
            }
        }
    }

    fn take(&mut self, changes: Vec<Change>, now: Moment) {
        match &mut self.gathering {
            Gathering::Until { seen, .. } => seen.extend(changes),
            Gathering::Done => self.commit(changes, now),
        }
    }

    /// When the mesh is to be told of what proxies did. It knows of none of them before it knows what
    /// exists.
    fn progress_due(&self) -> Option<Instant> {
        match self.gathering {
            Gathering::Until { .. } => None,
            Gathering::Done => self.progress.due(),
        }
    }

    fn commit(&mut self, changes: Vec<Change>, now: Moment) {
        self.metrics.mesh.change(&changes);
        let Commit { revision, mut resources, statuses, waypoints, keys, config_maps } =
            self.mesh.commit(changes);
        self.revision = revision;
        self.keys.want(keys);
        for (object, status) in &statuses {
            journal::status(object, status.as_ref());
            self.metrics.mesh.status(object, status.as_ref());
        }
        self.outbox.post(&waypoints, statuses, config_maps);
        for (gateway, plan) in waypoints {
            if let Some(plan) = plan {
                self.metrics.proxies.want(&group(&gateway));
                // In one publish with what refers to them: a listener without its certificate serves nobody.
                let secrets = self.certificates.want(&gateway, plan, now.time);
                resources.entry(gateway).or_default().set.extend(secrets);
            } else {
                // Its proxies keep what they have until they are stopped. Taking it from them would
                // cut connections, and nobody sends them new ones.
                resources.remove(&gateway);
                self.remove(&gateway, now);
            }
        }
        for (gateway, delta) in resources {
            self.publish(&gateway, &delta, now);
        }
        self.tell_expiry();
    }

    fn hand_out(&mut self, secrets: Vec<(Audience, Vec<Arc<Resource>>)>, now: Moment) {
        if matches!(self.gathering, Gathering::Done) {
            self.outbox.trust(self.certificates.roots());
        }
        for (gateway, set) in secrets {
            self.publish(&gateway, &Delta { set, removed: Vec::new() }, now);
        }
        self.tell_expiry();
    }

    fn tell_expiry(&self) {
        let Self { certificates, metrics, .. } = self;
        metrics.process.expire(certificates.next_expiry(), certificates.authority_expiry());
    }

    fn publish(&mut self, gateway: &Audience, delta: &Delta, now: Moment) {
        let (group, revision) = (group(gateway), self.revision);
        let snapshot = self.cache.publish(&group, delta);
        self.progress.publish(&group, delta, snapshot, now.instant);
        if self.acknowledgements.publish(&group, Publish { revision, snapshot, seen: now.instant }) {
            journal::published(revision, gateway, delta);
        }
    }

    fn remove(&mut self, gateway: &Audience, now: Moment) {
        let group = group(gateway);
        self.certificates.forget(gateway);
        self.cache.remove(&group);
        self.metrics.proxies.forget(&group);
        self.acknowledgements.forget(&group);
        self.progress.forget(&group, now.instant);
        journal::removed(self.revision, gateway);
    }
}

async fn passed(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The clients of a waypoint, as the wire's side names them.
pub(crate) fn group(gateway: &Audience) -> Group {
    Group(gateway.to_string().into())
}

#[cfg(test)]
mod tests;
