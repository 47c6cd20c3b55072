//! The writes themselves: server-side apply of what is ours, and the removal of what is not wanted.

use std::{collections::BTreeMap, fmt};

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde_json::Value;

use super::{
    drift::{self, APPLIED},
    kinds::Made,
    live::{self, Key, owner},
};
use crate::waypoint::{FIELD_MANAGER, MANAGED, MANAGED_LABEL};

/// Why an object is not what it should be.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is there, and somebody else's.
    Foreign,
    /// It belongs to another Gateway, which may be one of the same name that was there before.
    Earlier,
    /// Somebody changed it meanwhile.
    Moved,
    /// The server says no, or nothing.
    Server(Box<kube::Error>),
}

impl From<kube::Error> for Trouble {
    fn from(error: kube::Error) -> Self {
        let moved = matches!(&error, kube::Error::Api(status) if status.code == 409);
        if moved { Self::Moved } else { Self::Server(Box::new(error)) }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => out.write_str(
                "is not ours and is left alone; remove it, or choose another name by the annotation gateway.istio.io/name-override",
            ),
            Self::Earlier => out.write_str(
                "belongs to another Gateway, or to an earlier one of this name, and is waited for to go",
            ),
            Self::Moved => out.write_str("was changed meanwhile"),
            Self::Server(error) => {
                if let kube::Error::Api(status) = &**error {
                    write!(out, "cannot be written: {}", status.message)
                } else {
                    write!(out, "cannot be written: {error}")
                }
            }
        }
    }
}

/// Writes objects, and remembers what the server made of them.
pub(super) struct Writer {
    client: Client,
    versions: BTreeMap<Made, &'static str>,
    /// For each object its mark, and what the server shows where we said something: `500m` is said and
    /// `0.5` may be shown.
    written: BTreeMap<Key, (Value, Value)>,
}

impl Writer {
    pub(super) fn new(client: Client) -> Self {
        Self { client, versions: BTreeMap::new(), written: BTreeMap::new() }
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Sees to it that `object` is there as it is, where `live` is known. What was written, if anything was.
    pub(super) async fn make(
        &mut self,
        object: &Value,
        live: Option<&Value>,
    ) -> Result<Option<Value>, Trouble> {
        let Some(key) = live::key(object) else { return Ok(None) };
        let api = self.api(&key).await?;
        let wanted = drift::marked(object);
        let found = match live {
            Some(live) => Some(live.clone()),
            // What is not labelled as ours is not known here, and may be there all the same.
            None => api.get_opt(&key.name).await?.map(|found| live::value(key.kind, found)),
        };
        if let Some(found) = &found {
            if found["metadata"]["labels"][MANAGED_LABEL] != MANAGED {
                return Err(Trouble::Foreign);
            }
            if owner(found) != owner(object) {
                return Err(if owner(found).is_some() { Trouble::Earlier } else { Trouble::Foreign });
            }
            if self.is_as_wanted(&key, &wanted, found) {
                return Ok(None);
            }
        }
        let written = self.apply(&api, &key, wanted.clone(), found.as_ref()).await?;
        let mark = wanted["metadata"]["annotations"][APPLIED].clone();
        self.written.insert(key, (mark, drift::seen(&wanted, Some(&written))));
        Ok(Some(written))
    }

    fn is_as_wanted(&mut self, key: &Key, wanted: &Value, found: &Value) -> bool {
        let mark = &wanted["metadata"]["annotations"][APPLIED];
        if found["metadata"]["annotations"][APPLIED] != *mark {
            return false;
        }
        let seen = drift::seen(&without_version(wanted), Some(found));
        match self.written.get(key) {
            Some((of, written)) if of == mark => seen == without_version(written),
            Some(_) | None => {
                let as_said = seen == without_version(wanted);
                if as_said {
                    self.written.insert(key.clone(), (mark.clone(), seen));
                }
                as_said
            }
        }
    }

    async fn apply(
        &self,
        api: &Api<DynamicObject>,
        key: &Key,
        mut wanted: Value,
        found: Option<&Value>,
    ) -> Result<Value, Trouble> {
        let mut parameters = PatchParams::apply(FIELD_MANAGER);
        if let Some(version) = self.versions.get(&key.kind) {
            wanted["apiVersion"] = key.kind.resource(version).api_version.into();
        }
        if let Some(found) = found {
            // It is this one that is known to be ours. What it says where we say something is not.
            parameters = parameters.force();
            for field in ["uid", "resourceVersion"] {
                wanted["metadata"][field] = found["metadata"][field].clone();
            }
        }
        // Without force: of an object that somebody made in this moment we do not take a field.
        let written = api.patch(&key.name, &parameters, &Patch::Apply(&wanted)).await?;
        Ok(live::value(key.kind, written))
    }

    /// Forgets what was written of an object that is gone.
    pub(super) fn forget(&mut self, object: &Value) {
        if let Some(key) = live::key(object) {
            self.written.remove(&key);
        }
    }

    /// Takes `object` away, if it is still the one that was seen.
    pub(super) async fn prune(&mut self, key: &Key, object: &Value) -> Result<(), Trouble> {
        let uid = object["metadata"]["uid"].as_str().map(str::to_owned);
        let preconditions = Preconditions { uid, resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        self.written.remove(key);
        match self.api(key).await?.delete(&key.name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn api(&mut self, key: &Key) -> Result<Api<DynamicObject>, Trouble> {
        let version = match self.versions.get(&key.kind) {
            Some(version) => *version,
            None => version(&self.client, key.kind).await?,
        };
        self.versions.insert(key.kind, version);
        Ok(Api::namespaced_with(self.client.clone(), &key.namespace, &key.kind.resource(version)))
    }
}

/// The version of the API says nothing about the object.
fn without_version(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("apiVersion");
    }
    object
}

/// The first of the kind's versions that the server has; if it has none, the first.
pub(super) async fn version(client: &Client, kind: Made) -> Result<&'static str, kube::Error> {
    let first = kind.versions().first().copied().unwrap_or("v1");
    for version in kind.versions() {
        let resource = kind.resource(version);
        if resource.group.is_empty() {
            return Ok(version);
        }
        match client.list_api_group_resources(&resource.api_version).await {
            Ok(list) if list.resources.iter().any(|served| served.name == resource.plural) => {
                return Ok(version);
            }
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(first)
}
