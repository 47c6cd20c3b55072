//! The objects of ours that there are: a list and a watch of each kind, by their label.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use futures::TryStreamExt;
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, WatchEvent, WatchParams},
};
use proto::Name;
use serde_json::Value;
use tokio::{sync::mpsc::Sender, time::sleep};
use tracing::warn;
use translate::Audience;

use super::{kinds::Made, roots, writer};
use crate::waypoint::{GATEWAY_NAME, MANAGED, MANAGED_LABEL};

/// How soon a server that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: Made,
    pub(super) namespace: Name,
    pub(super) name: Name,
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What a follower of a kind has heard.
pub(super) enum News {
    /// These objects are all that there are.
    All(Vec<Value>),
    /// This one is there, new or changed.
    Set(Value),
    /// This one is gone.
    Gone(Value),
}

/// Whom an object is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// One Gateway.
    Gateway(Audience),
    /// Every Gateway of the namespace.
    Namespace(Name),
}

/// What there is.
#[derive(Default)]
pub(super) struct Live {
    objects: BTreeMap<Key, Value>,
    complete: BTreeSet<Made>,
    /// Gateways that were looked at since everything was known.
    seen: BTreeSet<Audience>,
}

/// Which object a manifest is; `None` for one of a kind that we do not make.
pub(super) fn key(object: &Value) -> Option<Key> {
    let metadata = &object["metadata"];
    Some(Key {
        kind: Made::of(object["kind"].as_str()?)?,
        namespace: metadata["namespace"].as_str()?.into(),
        name: metadata["name"].as_str()?.into(),
    })
}

/// The uid of the Gateway that owns it.
pub(super) fn owner(object: &Value) -> Option<&str> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners.iter().find(|owner| owner["kind"] == "Gateway" && owner["controller"] == true)?["uid"].as_str()
}

/// The Gateway that its labels name.
fn gateway(object: &Value) -> Option<Audience> {
    let metadata = &object["metadata"];
    let name = metadata["labels"][GATEWAY_NAME].as_str()?;
    Some(Audience { namespace: metadata["namespace"].as_str()?.into(), name: name.into() })
}

fn about(object: &Value) -> Option<About> {
    let roots = key(object).filter(roots::is).map(|key| About::Namespace(key.namespace));
    roots.or_else(|| gateway(object).map(About::Gateway))
}

impl Live {
    /// Takes the news in; tells whom it is about.
    pub(super) fn take(&mut self, kind: Made, news: News) -> BTreeSet<About> {
        let mut whom = BTreeSet::new();
        match news {
            News::All(objects) => {
                let new: BTreeMap<_, _> =
                    objects.into_iter().filter_map(|object| Some((key(&object)?, object))).collect();
                let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
                let known: BTreeSet<_> =
                    self.objects.keys().filter(|key| key.kind == kind).cloned().collect();
                for key in &known {
                    let Some(old) = self.objects.remove(key) else { continue };
                    if new.get(key).map(version) != Some(version(&old)) {
                        whom.extend(about(&old));
                    }
                }
                let unknown = new.iter().filter(|(key, _)| !known.contains(*key));
                whom.extend(unknown.filter_map(|(_, object)| about(object)));
                self.objects.extend(new);
                self.complete.insert(kind);
            }
            News::Set(object) => {
                whom.extend(about(&object));
                if let Some(key) = key(&object) {
                    self.objects.insert(key, object);
                }
            }
            News::Gone(object) => {
                whom.extend(about(&object));
                if let Some(key) = key(&object) {
                    self.objects.remove(&key);
                }
            }
        }
        whom
    }

    /// Whether everything there is is known.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.len() == Made::ALL.len()
    }

    /// Whether the Gateway was never looked at since; it is from now on.
    pub(super) fn is_news_to(&mut self, gateway: &Audience) -> bool {
        self.seen.insert(gateway.clone())
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    pub(super) fn put(&mut self, key: Key, object: Value) {
        self.objects.insert(key, object);
    }

    pub(super) fn forget(&mut self, key: &Key) {
        self.objects.remove(key);
    }

    /// The objects whose labels name the Gateway.
    pub(super) fn of(&self, wanted: &Audience) -> Vec<(Key, Value)> {
        let objects = self.objects.iter().filter(|(_, object)| gateway(object).as_ref() == Some(wanted));
        objects.map(|(key, object)| (key.clone(), object.clone())).collect()
    }
}

/// Tells what there is of a kind, for ever. Where the watch ends, for whatever reason, it is listed again.
pub(super) async fn follow(client: Client, kind: Made, tell: Sender<(Made, News)>) {
    let mut told = None;
    loop {
        if let Err(error) = follow_once(&client, kind, &tell).await {
            let error = error.to_string();
            if told.as_ref() != Some(&error) {
                warn!(%kind, error, "objects of waypoints cannot be followed");
            }
            told = Some(error);
        } else {
            told = None;
        }
        if tell.is_closed() {
            return;
        }
        sleep(AGAIN).await;
    }
}

async fn follow_once(client: &Client, kind: Made, tell: &Sender<(Made, News)>) -> Result<(), kube::Error> {
    let version = writer::version(client, kind).await?;
    let api = Api::<DynamicObject>::all_with(client.clone(), &kind.resource(version));
    let ours = format!("{MANAGED_LABEL}={MANAGED}");
    let list = api.list(&ListParams::default().labels(&ours)).await?;
    let start = list.metadata.resource_version.clone().unwrap_or_default();
    let objects = list.items.into_iter().map(|object| value(kind, object)).collect();
    if tell.send((kind, News::All(objects))).await.is_err() {
        return Ok(());
    }
    let events = api.watch(&WatchParams::default().labels(&ours), &start).await?;
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.try_next().await? {
        let news = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => News::Set(value(kind, object)),
            WatchEvent::Deleted(object) => News::Gone(value(kind, object)),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        };
        if tell.send((kind, news)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// As a manifest. Items of a list do not say what they are, and who wrote which field is much and not needed.
pub(super) fn value(kind: Made, mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    let mut value = serde_json::to_value(&object).unwrap_or_default();
    value["kind"] = kind.name().into();
    value
}
