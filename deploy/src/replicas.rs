//! How replicas tell one another what their proxies have: each that does not lead keeps a ConfigMap in our
//! namespace, and the one that leads, as only it writes statuses, reads them.
//!
//! The API server stands between, so that nobody needs a way to the other, a certificate or a token for it:
//! who may write there is one of us. A replica writes at most once a second, and every few seconds if there is
//! nothing new; one that is not heard of any more is forgotten as a proxy is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::{core::v1::ConfigMap, rbac::v1::PolicyRule};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use proto::Name;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use tokio::{
    sync::{mpsc::Sender, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{progress::Reports, waypoint::FIELD_MANAGER};

/// On the ConfigMap of a replica: the Lease that its replicas have in common.
const LABEL: &str = "portolan.dev/replica-of";
/// The key of it that holds what is told.
const REPORTS: &str = "reports";
/// The key of it that changes whenever it is written.
const BEAT: &str = "beat";
/// How long the end may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// How often a replica writes at most, and how often the leader looks.
    pub look: Duration,
    /// How often a replica writes if there is nothing new.
    pub beat: Duration,
    /// How long one that does not write counts.
    pub patience: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { look: Duration::from_secs(1), beat: Duration::from_secs(4), patience: Duration::from_secs(12) }
    }
}

/// What a replica must be allowed to do in our namespace.
pub fn permissions(namespace: &Name) -> ::watch::Permissions {
    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["configmaps".to_owned()]),
        verbs: ["create", "delete", "list", "patch"].map(str::to_owned).to_vec(),
        ..PolicyRule::default()
    };
    let namespaces = BTreeMap::from([(namespace.clone(), vec![rule])]);
    ::watch::Permissions { namespaces, ..::watch::Permissions::default() }
}

/// A replica, as the others see it.
pub struct Replica {
    api: Api<ConfigMap>,
    lease: Name,
    name: Name,
    rhythm: Rhythm,
    /// Whether our ConfigMap may be there.
    written: Option<Instant>,
    beats: u64,
    /// Those of others: the version that was seen last, and since when.
    seen: BTreeMap<Name, (String, Instant)>,
    /// Whether the loop knows of others.
    told: bool,
    complaint: Option<String>,
}

impl Replica {
    /// One of those that have the Lease of that name in `namespace` in common.
    pub fn new(client: Client, namespace: &str, lease: Name, pod: Option<&str>, rhythm: Rhythm) -> Self {
        let mut mark = [0; 4];
        // It fails where the system has no randomness at all; pods still differ by their names.
        SystemRandom::new().fill(&mut mark).ok();
        let name = format!("{}-{:08x}", pod.unwrap_or(&lease), u32::from_be_bytes(mark));
        Self {
            api: Api::namespaced(client, namespace),
            lease,
            name: name.as_str().into(),
            rhythm,
            written: None,
            beats: 0,
            seen: BTreeMap::new(),
            told: false,
            complaint: None,
        }
    }

    /// Tells others of `reports` while we do not lead, and `others` of theirs while we do, until `stop`.
    pub async fn run(
        mut self,
        leads: watch::Receiver<bool>,
        mut reports: watch::Receiver<Reports>,
        others: Sender<BTreeMap<Name, Reports>>,
        stop: CancellationToken,
    ) {
        loop {
            let turn = async {
                let leads = *leads.borrow();
                let done =
                    if leads { self.listen(&others).await } else { self.speak(&mut reports, &others).await };
                self.complain(done.err());
                sleep(self.rhythm.look).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = turn => {}
            }
        }
        // Our proxies go to others, and count there.
        timeout(FAREWELL, self.withdraw()).await.ok();
    }

    async fn listen(&mut self, others: &Sender<BTreeMap<Name, Reports>>) -> Result<(), kube::Error> {
        self.withdraw().await?;
        let of_ours = ListParams::default().labels(&format!("{LABEL}={}", self.lease));
        let now = Instant::now();
        let (mut there, mut heard) = (BTreeSet::new(), BTreeMap::new());
        for map in self.api.list(&of_ours).await? {
            let Some(name) = map.metadata.name.as_deref().map(Name::from) else { continue };
            let version = map.metadata.resource_version.unwrap_or_default();
            let seen = self.seen.entry(name.clone()).or_insert_with(|| (version.clone(), now));
            if seen.0 != version {
                *seen = (version, now);
            }
            if seen.1 + self.rhythm.patience <= now {
                // Nobody else removes what a replica left that was killed.
                self.api.delete(&name, &DeleteParams::default()).await.ok();
                continue;
            }
            there.insert(name.clone());
            let text = map.data.as_ref().and_then(|data| data.get(REPORTS)).map_or("", String::as_str);
            match serde_json::from_str(text) {
                Ok(reports) => drop(heard.insert(name, reports)),
                // Of another build.
                Err(error) => debug!(replica = %name, "what it tells cannot be read: {error}"),
            }
        }
        self.seen.retain(|name, _| there.contains(name));
        if self.told || !heard.is_empty() {
            self.told = !heard.is_empty();
            // Whoever listened is gone only when everything is about to end.
            others.send(heard).await.ok();
        }
        Ok(())
    }

    async fn speak(
        &mut self,
        reports: &mut watch::Receiver<Reports>,
        others: &Sender<BTreeMap<Name, Reports>>,
    ) -> Result<(), kube::Error> {
        if std::mem::take(&mut self.told) {
            others.send(BTreeMap::new()).await.ok();
        }
        self.seen.clear();
        let is_due = self.written.is_none_or(|at| at.elapsed() >= self.rhythm.beat);
        if !is_due && !reports.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let said = serde_json::to_string(&*reports.borrow_and_update());
        self.beats += 1;
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": *self.name, "labels": {LABEL: *self.lease}},
            "data": {REPORTS: said.unwrap_or_default(), BEAT: self.beats.to_string()},
        });
        // Until it succeeds again, it is due.
        self.written = None;
        self.api.patch(&self.name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&map)).await?;
        self.written = Some(Instant::now());
        Ok(())
    }

    /// Removes what we told.
    async fn withdraw(&mut self) -> Result<(), kube::Error> {
        if self.beats == 0 {
            return Ok(());
        }
        match self.api.delete(&self.name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
        (self.written, self.beats) = (None, 0);
        Ok(())
    }

    fn complain(&mut self, error: Option<kube::Error>) {
        let complaint = error.map(|error| error.to_string());
        if complaint != self.complaint
            && let Some(why) = &complaint
        {
            warn!("replicas cannot tell one another what their proxies have: {why}");
        }
        self.complaint = complaint;
    }
}
