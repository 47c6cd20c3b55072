//! Which of several replicas writes: the one that holds a Lease of `coordination.k8s.io/v1` in our namespace.
//!
//! ```text
//!   look ─► nobody's, ours, or not renewed for its duration ─► take or renew it ─► we lead
//!    ▲                                                            │
//!    └── after a rest ◄── somebody else's ◄───────────────────────┴── not renewed until the deadline
//! ```
//!
//! As client-go's leader election has it, so that its tools read what we write. Times of others are never
//! compared with ours: what counts is for how long we have seen a Lease unchanged.

mod record;

use std::{collections::BTreeMap, time::Duration};

use ::watch::Permissions;
use k8s_openapi::api::{coordination::v1::Lease, rbac::v1::PolicyRule};
use kube::{Api, Client, api::PostParams};
use proto::Name;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::record::Observed;

/// How long a graceful end waits for those who write, and for the Lease to be given back.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long things take. client-go's defaults are ours: 15 s, 10 s and 2 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For how long a Lease that is not renewed is left to its holder. The API counts whole seconds.
    pub duration: Duration,
    /// How long after its last renewal a holder leads. Shorter, so that it has ended when another begins.
    pub deadline: Duration,
    /// The rest between two looks.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self::of(Duration::from_secs(15))
    }
}

impl Timing {
    /// Those that go with a duration, in client-go's proportions.
    pub fn of(duration: Duration) -> Self {
        Self { duration, deadline: duration * 2 / 3, retry: duration * 2 / 15 }
    }
}

/// The Lease of the replicas of one revision.
pub fn lease_name(revision: Option<&str>) -> Name {
    match revision {
        None => "portolan".into(),
        Some(revision) => format!("portolan-{revision}").as_str().into(),
    }
}

/// What a candidate must be allowed to do in `namespace`, which is ours. Nobody can be allowed to make an
/// object of a certain name only.
pub fn permissions(namespace: &Name, lease: &Name) -> Permissions {
    let rule = |verbs: &[&str], names: Option<Vec<String>>| PolicyRule {
        api_groups: Some(vec!["coordination.k8s.io".to_owned()]),
        resources: Some(vec!["leases".to_owned()]),
        resource_names: names,
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        non_resource_urls: None,
    };
    let rules = vec![rule(&["create"], None), rule(&["get", "update"], Some(vec![lease.to_string()]))];
    Permissions { namespaces: BTreeMap::from([(namespace.clone(), rules)]), ..Permissions::default() }
}

/// A replica that would lead.
pub struct Candidate {
    api: Api<Lease>,
    lease: Name,
    identity: String,
    timing: Timing,
    observed: Observed,
    /// The Lease as we wrote it last, while we lead: it is renewed without being read.
    held: Option<Lease>,
    /// When we began to write it.
    renewed: Option<Instant>,
    /// What was last said to be wrong.
    complaint: Option<String>,
}

/// Whose the Lease is.
enum Turn {
    Ours,
    Theirs,
    /// Somebody wrote it while we did.
    Unclear,
}

impl Candidate {
    /// One for the Lease of that name. `pod` is for whoever reads it: each candidate is its own.
    pub fn new(client: Client, namespace: &str, lease: Name, pod: Option<&str>, timing: Timing) -> Self {
        let mut mark = [0; 8];
        // It fails where the system has no randomness at all; pods still differ by their names.
        SystemRandom::new().fill(&mut mark).ok();
        let identity = format!("{}_{:016x}", pod.unwrap_or("portolan"), u64::from_be_bytes(mark));
        Self {
            api: Api::namespaced(client, namespace),
            lease,
            identity,
            timing,
            observed: Observed::default(),
            held: None,
            renewed: None,
            complaint: None,
        }
    }

    /// Tells `leads` whether we do until `stop`, and then gives the Lease back, once nobody listens to `leads`
    /// any more: whoever writes has ended then.
    pub async fn run(mut self, leads: watch::Sender<bool>, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.turn(&leads) => {}
            }
        }
        leads.send_replace(false);
        if self.renewed.is_some() {
            // Who does not come to an end is not waited for: the next leader takes no harm, as what they
            // write is guarded by what they read.
            timeout(FAREWELL, leads.closed()).await.ok();
            if !matches!(timeout(FAREWELL, self.release()).await, Ok(Ok(()))) {
                info!(lease = %self.lease, "not given back; another replica leads when it has run out");
            }
        }
    }

    /// One look, and the rest after it.
    async fn turn(&mut self, leads: &watch::Sender<bool>) {
        let start = Instant::now();
        let patience = self.timing.deadline / 2;
        match timeout(self.left().map_or(patience, |left| left.min(patience)), self.attempt()).await {
            Ok(Ok(Turn::Ours)) => {
                // From when we asked, and not from when we were answered: others count from in between.
                self.renewed = Some(start);
                self.complaint = None;
                self.say(leads, true);
            }
            Ok(Ok(Turn::Theirs)) => {
                self.renewed = None;
                self.complaint = None;
                self.say(leads, false);
            }
            Ok(Ok(Turn::Unclear)) => {}
            Ok(Err(error)) => self.complain(&format!("{error}; let our account create, get and update it")),
            Err(_) => self.complain("the API server does not answer"),
        }
        sleep(self.left().map_or(self.timing.retry, |left| left.min(self.timing.retry))).await;
        if self.left() == Some(Duration::ZERO) {
            self.renewed = None;
            self.say(leads, false);
        }
    }

    /// How long we still lead without a renewal.
    fn left(&self) -> Option<Duration> {
        self.renewed.map(|at| (at + self.timing.deadline).saturating_duration_since(Instant::now()))
    }

    async fn attempt(&mut self) -> Result<Turn, kube::Error> {
        if let Some(held) = self.held.take()
            && let Some(turn) = self.write(&held).await?
        {
            return Ok(turn);
        }
        let Some(found) = self.api.get_opt(&self.lease).await? else {
            let new = record::new(&self.lease, &self.identity, self.timing.duration);
            return match self.api.create(&PostParams::default(), &new).await {
                Ok(made) => Ok(self.hold(made)),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(Turn::Unclear),
                Err(error) => Err(error),
            };
        };
        self.observed.look(&found, Instant::now());
        if !self.observed.may_be_taken(&self.identity, Instant::now()) {
            return Ok(Turn::Theirs);
        }
        Ok(self.write(&found).await?.unwrap_or(Turn::Unclear))
    }

    /// Writes ourselves into the Lease, if it is still as it was read; else nothing.
    async fn write(&mut self, read: &Lease) -> Result<Option<Turn>, kube::Error> {
        let taken = record::taken(read, &self.identity, self.timing.duration);
        match self.api.replace(&self.lease, &PostParams::default(), &taken).await {
            Ok(written) => Ok(Some(self.hold(written))),
            // Gone, or somebody else's version.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn hold(&mut self, written: Lease) -> Turn {
        self.observed.look(&written, Instant::now());
        self.held = Some(written);
        Turn::Ours
    }

    /// Gives the Lease back, so that the next one need not wait.
    async fn release(&mut self) -> Result<(), kube::Error> {
        loop {
            let Some(found) = self.api.get_opt(&self.lease).await? else { return Ok(()) };
            if record::holder(&found) != Some(&self.identity) {
                return Ok(());
            }
            match self.api.replace(&self.lease, &PostParams::default(), &record::released(&found)).await {
                // A renewal of ours may have been on its way.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                ended => return ended.map(drop),
            }
        }
    }

    fn say(&self, leads: &watch::Sender<bool>, now: bool) {
        if leads.send_replace(now) != now {
            let holder = self.observed.holder().unwrap_or("nobody");
            if now {
                info!(lease = %self.lease, identity = self.identity, "this replica writes");
            } else {
                info!(lease = %self.lease, holder, "this replica does not write any more");
            }
        }
    }

    fn complain(&mut self, why: &str) {
        if self.complaint.as_deref() != Some(why) {
            warn!(lease = %self.lease, "whether this replica writes cannot be settled: {why}");
            self.complaint = Some(why.to_owned());
        }
    }
}
