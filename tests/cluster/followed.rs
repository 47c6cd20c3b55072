//! A source that is followed: what it has told so far, and waiting for what it will tell.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use anyhow::{Result, bail};
use parking_lot::Mutex;
use proto::{Object, ObjectRef};
use tests::cluster::{Account, Cluster};
use tokio::{
    sync::mpsc::{Receiver, UnboundedReceiver, channel, unbounded_channel},
    task::JoinHandle,
    time::timeout,
};
use translate::{Change, Missing};
use watch::{ClusterSource, Complaint, Permissions, Source, Update, Wanted};

/// How long something may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A running source and what it told.
pub(crate) struct Followed {
    updates: Receiver<Update>,
    said: Arc<Mutex<Vec<Vec<String>>>>,
    running: JoinHandle<()>,
    /// The objects of which it has told.
    pub(crate) objects: BTreeMap<ObjectRef, Object>,
    /// What it told of each object, in order.
    pub(crate) history: Vec<(ObjectRef, Moved)>,
    /// Why it does not tell of some.
    pub(crate) missing: BTreeMap<ObjectRef, Option<Missing>>,
    pub(crate) ready: bool,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    Set,
    Removed,
}

impl Followed {
    /// Starts one, for a test whose objects are in `namespace`: what is wrong with those of other tests is
    /// left out.
    pub(crate) fn start(client: kube::Client, wanted: Wanted, namespace: &str) -> Self {
        let (_, nobody_asks) = unbounded_channel();
        Self::start_asking(client, wanted, nobody_asks, namespace)
    }

    /// One that follows what it is asked for, too.
    pub(crate) fn start_asking(
        client: kube::Client,
        wanted: Wanted,
        asked: UnboundedReceiver<BTreeMap<ObjectRef, bool>>,
        namespace: &str,
    ) -> Self {
        let (tell, updates) = channel(10_000);
        let said = Arc::new(Mutex::new(Vec::new()));
        let hear = Arc::clone(&said);
        let namespace = namespace.to_owned();
        let source =
            ClusterSource::new(client).wanting(wanted).following(asked).on_complaints(move |complaints| {
                let is_ours = |complaint: &&Complaint| {
                    complaint.object.as_ref().is_none_or(|object| *object.namespace == *namespace)
                };
                let now: Vec<_> = complaints.iter().filter(is_ours).map(Complaint::to_string).collect();
                let mut said = hear.lock();
                if said.last().map_or(&[][..], Vec::as_slice) != now {
                    said.push(now);
                }
            });
        let running = tokio::spawn(async move {
            // It ends with the test, which has hung up by then.
            let _ = source.run(tell).await;
        });
        let (objects, history, missing) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self { updates, said, running, objects, history, missing, ready: false }
    }

    /// Starts one and waits until it is ready.
    pub(crate) async fn ready(client: kube::Client, wanted: Wanted, namespace: &str) -> Result<Self> {
        let mut followed = Self::start(client, wanted, namespace);
        followed.until("the source to be ready", |followed| followed.ready).await?;
        Ok(followed)
    }

    /// What it tells until `wanted` is so.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) -> Result<()> {
        let waiting = async {
            while !wanted(self) {
                // Complaints come by another way, so look again from time to time.
                if let Ok(update) = timeout(Duration::from_millis(20), self.updates.recv()).await {
                    let Some(update) = update else { bail!("the source ended") };
                    self.take(update);
                }
            }
            Ok(())
        };
        match timeout(PATIENCE, waiting).await {
            Ok(outcome) => outcome,
            Err(_) => bail!(
                "waited in vain for {what}; ready: {}; complaints: {:#?}; it told {:?}",
                self.ready,
                self.said(),
                self.history.iter().rev().take(10).collect::<Vec<_>>()
            ),
        }
    }

    /// Whether it told of a change of `object` after the first `skip` things that it told.
    pub(crate) fn told(&self, skip: usize, object: &ObjectRef, moved: Moved) -> bool {
        self.history.iter().skip(skip).any(|told| *told == (object.clone(), moved))
    }

    /// What it told after the first `skip` things, of objects of `namespace`.
    pub(crate) fn since(&self, skip: usize, namespace: &str) -> Vec<(String, Moved)> {
        let since = self.history.iter().skip(skip);
        let of = since.filter(|(object, _)| &*object.namespace == namespace);
        of.map(|(object, moved)| (object.to_string(), *moved)).collect()
    }

    /// Everything that was wrong, each time that it changed.
    pub(crate) fn said(&self) -> Vec<Vec<String>> {
        self.said.lock().clone()
    }

    /// What is wrong now.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.said.lock().last().cloned().unwrap_or_default()
    }

    fn take(&mut self, update: Update) {
        let Update::Changes(changes) = update else {
            self.ready = true;
            return;
        };
        assert!(!changes.is_empty(), "an update that changes nothing");
        for change in changes {
            match change {
                Change::Set(object) => {
                    self.history.push((object.reference(), Moved::Set));
                    self.objects.insert(object.reference(), object);
                }
                Change::Remove(object) => {
                    assert!(self.objects.remove(&object).is_some(), "{object} was removed and not there");
                    self.history.push((object, Moved::Removed));
                }
                Change::Missing(object, missing) => drop(self.missing.insert(object, missing)),
                Change::Keys(..) | Change::Hindered(..) | Change::Seen(_) => panic!("no word of a cluster"),
            }
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// An account of `namespace` with exactly these permissions.
pub(crate) async fn permitted(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    permissions: &Permissions,
) -> Result<Account> {
    let account = cluster.account(namespace, name).await?;
    cluster.grant(&account, &permissions.cluster).await?;
    for (place, rules) in &permissions.namespaces {
        cluster.grant_in(&account, place, rules).await?;
    }
    Ok(account)
}

/// Runs a test with a timeout of its own, so that what hangs is named.
pub(crate) async fn within(test: impl Future<Output = Result<()>>) -> Result<()> {
    timeout(PATIENCE * 4, test).await?
}
