//! A writer of statuses with the mesh of one namespace behind it: what the server has is what it says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use ::watch::{ClusterSource, Source, Update, Wanted};
use anyhow::{Context, Result};
use deploy::{
    deployer::Permission,
    events::{self, Recorder},
    status::{self, Inbox, Options, Timing},
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::Client;
use proto::{Kind, Name, ObjectRef, TypeUrl, Version};
use serde_json::{Value, json};
use tests::{cluster::Cluster, until};
use tokio::{
    sync::{
        Mutex,
        mpsc::{self, UnboundedReceiver, UnboundedSender},
        oneshot, watch,
    },
    task::JoinSet,
    time::timeout,
};
use translate::{Audience, Change, Classes, Commit, Mesh, Proxies, Seen, Settings, Taken, status::Status};

use crate::{
    followed::PATIENCE,
    manifests::{manifest, reference},
};

/// Everything that writes statuses in a namespace, and nothing else of us.
pub(crate) struct Scribe {
    /// Whether it leads.
    pub(crate) leads: watch::Sender<bool>,
    /// What its proxies do.
    tell: UnboundedSender<Tell>,
    complete: watch::Receiver<bool>,
    _tasks: JoinSet<()>,
}

/// How a scribe is.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) classes: Classes,
    /// Whether it leads from the start.
    pub(crate) leads: bool,
    /// Whether it is given objects without a namespace; the tests share those.
    pub(crate) sees_classes: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { classes: Classes::Replace, leads: true, sees_classes: false }
    }
}

/// A server that these tests have for themselves: whatever serves a whole cluster in another test writes
/// statuses too.
pub(crate) async fn cluster() -> Result<Arc<Cluster>> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(cluster) = shared.upgrade() {
        return Ok(cluster);
    }
    let cluster = Arc::new(Cluster::start(Kind::ALL).await?);
    *shared = Arc::downgrade(&cluster);
    Ok(cluster)
}

/// A client with the permissions of whoever writes statuses and tells Events, without those whose resource
/// is in `without`.
pub(crate) async fn writer(cluster: &Cluster, namespace: &str, without: &[&str]) -> Result<Client> {
    let account = cluster.account(namespace, "portolan").await?;
    let given = status::permissions().into_iter().chain(events::permissions());
    let given = given.filter(|permission| !without.contains(&permission.resource));
    cluster.grant(&account, &given.map(rule).collect::<Vec<_>>()).await?;
    cluster.client_of(&account).await
}

fn rule(permission: Permission) -> PolicyRule {
    let Permission { group, resource, verbs, .. } = permission;
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

impl Scribe {
    /// Starts one that writes by `client`.
    pub(crate) fn start(cluster: &Cluster, client: Client, namespace: &str, manner: Manner) -> Result<Self> {
        let Manner { classes, leads, sees_classes } = manner;
        let mut tasks = JoinSet::new();
        let (recorder, teller) = Recorder::new(client.clone(), "portolan-0");
        tasks.spawn(recorder.run());
        let (look, lives) = mpsc::unbounded_channel();
        let (say, statuses) = mpsc::unbounded_channel();
        let (leads, is_leading) = watch::channel(leads);
        let (complete, is_complete) = watch::channel(false);
        let inbox = Inbox { statuses, lives, leads: is_leading, complete: is_complete.clone() };
        let timing = Timing {
            window: Duration::from_millis(50),
            lasting: Duration::from_millis(500),
            spacing: Duration::from_millis(100),
        };
        let options = Options {
            timing,
            per_second: 1_000,
            burst: 1_000,
            ..Options::new(classes, status::field_manager(None))
        };
        tasks.spawn(async move {
            status::run(client, options, inbox, Some(teller)).await.expect("the writer of statuses ended");
        });

        let place = namespace.to_owned();
        let is_ours = move |object: &ObjectRef| {
            *object.namespace == *place
                || (object.kind == Kind::Namespace && *object.name == *place)
                || (object.kind == Kind::GatewayClass && sees_classes)
        };
        let is_shown = is_ours.clone();
        let source = ClusterSource::new(cluster.admin()?).wanting(Wanted::default());
        let source = source.on_status(&status::field_manager(None), move |object, live| {
            if is_shown(&object) {
                look.send((object, live)).ok();
            }
        });
        let (update, updates) = mpsc::channel(16);
        tasks.spawn(async move {
            source.run(update).await.ok();
        });
        let (tell, told) = mpsc::unbounded_channel();
        let mesh = Mesh::new(Settings { classes, ..Settings::default() });
        let author = Author { mesh, versions: BTreeMap::new(), say, complete, gathered: Some(Vec::new()) };
        tasks.spawn(author.run(is_ours, updates, told));
        Ok(Self { leads, tell, complete: is_complete, _tasks: tasks })
    }

    /// Starts one with all that it needs, in a namespace of its own.
    pub(crate) async fn of(cluster: &Cluster, base: &str) -> Result<(Self, String)> {
        let namespace = cluster.namespace(base).await?;
        let client = writer(cluster, &namespace, &[]).await?;
        Ok((Self::start(cluster, client, &namespace, Manner::default())?, namespace))
    }

    /// Waits until it knows everything that exists.
    pub(crate) async fn complete(&self) -> Result<()> {
        timeout(PATIENCE, self.complete.clone().wait_for(|complete| *complete)).await??;
        Ok(())
    }

    /// Every waypoint has one proxy, and that one has everything; or if `words` are given, it has rejected
    /// all route configurations with them.
    pub(crate) fn take(&self, words: Option<&str>) {
        self.tell.send((words.map(Into::into), None)).expect("the mesh is gone");
    }

    /// The same without a rejection; waits until it is said.
    pub(crate) async fn taken(&self) -> Result<()> {
        let (done, is_done) = oneshot::channel();
        self.tell.send((None, Some(done))).ok().context("the mesh is gone")?;
        Ok(is_done.await?)
    }
}

/// What proxies do: the words of a rejection, and whom to tell when that is said.
type Tell = (Option<Arc<str>>, Option<oneshot::Sender<()>>);

/// What decides what is said.
struct Author {
    mesh: Mesh,
    /// What proxies were given.
    versions: BTreeMap<(Audience, TypeUrl, Name), Version>,
    say: UnboundedSender<(ObjectRef, Option<Status>)>,
    complete: watch::Sender<bool>,
    /// What exists, until all of it is known.
    gathered: Option<Vec<Change>>,
}

impl Author {
    async fn run(
        mut self,
        is_ours: impl Fn(&ObjectRef) -> bool,
        mut updates: mpsc::Receiver<Update>,
        mut told: UnboundedReceiver<Tell>,
    ) {
        loop {
            tokio::select! {
                Some(update) = updates.recv() => match update {
                    Update::Changes(changes) => {
                        let ours = changes.into_iter().filter(|change| match change {
                            Change::Set(object) => is_ours(&object.reference()),
                            Change::Remove(object) => is_ours(object),
                            Change::Keys(..) | Change::Hindered(..) | Change::Seen(_) | Change::Missing(..) => true,
                        });
                        let ours = ours.collect();
                        match &mut self.gathered {
                            Some(gathered) => gathered.extend(ours),
                            None => self.commit(ours),
                        }
                    }
                    Update::Ready => {
                        let all = self.gathered.take().unwrap_or_default();
                        self.commit(all);
                        self.complete.send_replace(true);
                    }
                },
                Some((words, done)) = told.recv() => {
                    self.take(words.as_ref());
                    done.map(|done| done.send(()));
                }
                else => return,
            }
        }
    }

    fn commit(&mut self, changes: Vec<Change>) {
        let Commit { resources, statuses, .. } = self.mesh.commit(changes);
        for (audience, delta) in resources {
            for resource in delta.set {
                let key = (audience.clone(), resource.type_url, resource.name.clone());
                self.versions.insert(key, resource.version);
            }
        }
        for moved in statuses {
            self.say.send(moved).ok();
        }
    }

    fn take(&mut self, words: Option<&Arc<str>>) {
        let mut changes = Vec::new();
        for ((audience, type_url, name), version) in &self.versions {
            let proxies = Proxies { ready: 1, starting: 0 };
            changes.push(Change::Seen(Seen::Proxies(audience.clone(), Some(proxies))));
            if matches!(type_url, TypeUrl::Listener | TypeUrl::Route) {
                let words = words.filter(|_| *type_url == TypeUrl::Route).cloned();
                let rejected = u32::from(words.is_some());
                let taken = Taken { version: *version, waiting: 0, rejected, words };
                let seen = Seen::Taken(audience.clone(), *type_url, name.clone(), Some(taken));
                changes.push(Change::Seen(seen));
            }
        }
        self.commit(changes);
    }
}

/// The Gateway `waypoint`, and the Service `web` that is bound to it.
pub(crate) async fn bound(cluster: &Cluster, namespace: &str) -> Result<()> {
    cluster.apply(&manifest(Kind::Gateway, namespace, "waypoint", "a")).await?;
    let mut service = manifest(Kind::Service, namespace, "web", "a");
    service["metadata"]["labels"]["istio.io/use-waypoint"] = "waypoint".into();
    cluster.apply(&service).await
}

/// An object as the server has it now.
pub(crate) async fn live(cluster: &Cluster, object: &ObjectRef) -> Result<Value> {
    let live = cluster.objects(object, None)?.get_opt(&object.name).await?;
    Ok(serde_json::to_value(live.with_context(|| format!("{object} is not there"))?)?)
}

/// Waits until the object is as `check` has it.
pub(crate) async fn shown(
    cluster: &Cluster,
    object: &ObjectRef,
    what: &str,
    check: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let mut last = Value::Null;
    let found = until(what, PATIENCE, async || {
        last = live(cluster, object).await?;
        Ok(check(&last).then(|| last.clone()))
    });
    let found = found.await;
    found.with_context(|| format!("{object}: {}", json!(last["status"])))
}

/// A condition in a list of conditions; null if it is not there.
pub(crate) fn condition<'v>(holder: &'v Value, kind: &str) -> &'v Value {
    let mut conditions = holder["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// The same of the object as a whole, as its status and its reason.
pub(crate) fn said(object: &Value, kind: &str) -> (String, String) {
    let condition = condition(&object["status"], kind);
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

/// Who an object of the namespace is.
pub(crate) fn of(kind: Kind, namespace: &str, name: &str) -> ObjectRef {
    reference(kind, namespace, name)
}
