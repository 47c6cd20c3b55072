//! A real API server with its etcd, on loopback, with the kinds that we read and clients of any account.
//!
//! ```text
//!   Cluster::shared()  one server for all tests of a binary; a namespace for each of them
//!   Cluster::start()   a server of one's own, for a test that takes it away or changes its kinds
//! ```
//!
//! There is no kubelet and no controller: pods and endpoints are what a test says that they are, and
//! nothing is collected. Everything ends with the process, even when it is killed.

mod account;
mod assets;
mod credentials;
mod gate;
mod kinds;
mod node;
mod pod;
mod server;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams, TypeMeta},
};
use proto::{Kind, ObjectRef};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use tokio::sync::Mutex;

pub use account::Account;
pub use assets::find as find_assets;
pub use gate::Gate;
pub use node::Node;
pub use pod::WaypointPod;
use server::Server;

/// A running API server.
#[derive(Debug)]
pub struct Cluster {
    server: Server,
    namespaces: AtomicU32,
}

impl Cluster {
    /// The server that the tests of this process share, with every kind. Whoever comes first starts it, and
    /// it ends with the last who has it.
    pub async fn shared() -> Result<Arc<Self>> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(cluster) = shared.upgrade() {
            return Ok(cluster);
        }
        let cluster = Arc::new(Self::start(Kind::ALL).await?);
        *shared = Arc::downgrade(&cluster);
        Ok(cluster)
    }

    /// A server of one's own, with `kinds` and those that it has by itself.
    pub async fn start(kinds: &[Kind]) -> Result<Self> {
        let cluster = Self { server: Server::start().await?, namespaces: AtomicU32::new(0) };
        let admin = cluster.admin()?;
        for kind in kinds {
            if !kinds::serves(&admin, *kind, kind.versions()[0]).await? {
                kinds::install(&admin, *kind).await.with_context(|| format!("installing {}", kind.name()))?;
            }
        }
        Ok(cluster)
    }

    /// A client that may do everything. A client belongs to the runtime that it is made in, so every
    /// test makes its own.
    pub fn admin(&self) -> Result<Client> {
        self.client(&self.server.credentials.admin)
    }

    /// A client with the bearer token `token`.
    pub fn client(&self, token: &str) -> Result<Client> {
        Ok(Client::try_from(self.server.credentials.client(&self.server.url(), token)?)?)
    }

    /// A client with the bearer token `token` that comes through a gate of its own.
    pub async fn gated_client(&self, token: &str) -> Result<(Client, Gate)> {
        let gate = self.gate().await?;
        Ok((Client::try_from(self.server.credentials.client(&gate.url(), token)?)?, gate))
    }

    /// A kubeconfig with the bearer token `token` that leads through a gate of its own.
    pub async fn gated_kubeconfig(&self, token: &str) -> Result<(PathBuf, Gate)> {
        let gate = self.gate().await?;
        Ok((self.write_kubeconfig(&gate.url(), token)?, gate))
    }

    async fn gate(&self) -> Result<Gate> {
        Gate::start(self.server.address()).await
    }

    /// A kubeconfig with the bearer token `token`; a file that ends with the server.
    pub fn kubeconfig(&self, token: &str) -> Result<PathBuf> {
        self.write_kubeconfig(&self.server.url(), token)
    }

    fn write_kubeconfig(&self, url: &str, token: &str) -> Result<PathBuf> {
        let path = self.server.folder().join(format!("kubeconfig-{}", random()));
        fs::write(&path, self.server.credentials.kubeconfig(url, token))?;
        Ok(path)
    }

    /// The bearer token of who may do everything.
    pub fn admin_token(&self) -> &str {
        &self.server.credentials.admin
    }

    /// Where it is, as in `https://127.80.3.2:6443`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// A namespace that nobody else has, its name beginning with `base`.
    pub async fn namespace(&self, base: &str) -> Result<String> {
        let name = format!("{base}-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        Api::all(self.admin()?).create(&PostParams::default(), &namespace).await?;
        Ok(name)
    }

    /// Kills the API server. What it knows stays.
    pub fn kill(&self) -> Result<()> {
        self.server.kill()
    }

    /// Starts the API server again after [`kill`](Self::kill), at the same place, with all that it knew.
    pub async fn resume(&self) -> Result<()> {
        self.server.resume().await
    }

    /// Installs the custom resource definition of `kind`.
    pub async fn install(&self, kind: Kind) -> Result<()> {
        kinds::install(&self.admin()?, kind).await
    }

    /// Removes the custom resource definition of `kind`, and every object of it.
    pub async fn uninstall(&self, kind: Kind) -> Result<()> {
        kinds::uninstall(&self.admin()?, kind).await
    }

    /// Applies a manifest of a kind that we read, as `kubectl apply --server-side --force-conflicts` does, with
    /// its status if it has one.
    pub async fn apply(&self, manifest: &Value) -> Result<()> {
        let object = ObjectRef::of_manifest(manifest).context("not a manifest of a kind that we read")?;
        let api = self.objects(&object, manifest["apiVersion"].as_str())?;
        let parameters = PatchParams::apply("tests").force();
        let mut manifest = manifest.clone();
        if object.kind.group().is_empty() {
            name_protocols(&mut manifest);
        }
        let applied = api.patch(&object.name, &parameters, &Patch::Apply(&manifest)).await;
        applied.with_context(|| format!("applying {object}"))?;
        if !manifest["status"].is_null() && object.kind != Kind::EndpointSlice {
            if let Some(fields) = manifest.as_object_mut() {
                fields.remove("spec");
            }
            let applied = api.patch_status(&object.name, &parameters, &Patch::Apply(&manifest)).await;
            applied.with_context(|| format!("applying the status of {object}"))?;
        }
        Ok(())
    }

    /// Deletes an object of a kind that we read, at once. Nobody collects what belongs to a namespace, so
    /// one that still holds something stays.
    pub async fn delete(&self, object: &ObjectRef) -> Result<()> {
        let api = self.objects(object, None)?;
        api.delete(&object.name, &DeleteParams::default().grace_period(0)).await?;
        if object.kind == Kind::Namespace {
            // As the controller of namespaces does when nothing is left in one.
            let finalized = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": &*object.name},
                "spec": {"finalizers": []},
            });
            let path = format!("/api/v1/namespaces/{}/finalize", object.name);
            let request = http::Request::put(path).body(serde_json::to_vec(&finalized)?)?;
            self.admin()?.request::<Value>(request).await?;
        }
        Ok(())
    }

    /// What an object of `kind` says that it is, in its first version.
    pub fn types(&self, kind: Kind) -> TypeMeta {
        let ApiResource { api_version, kind, .. } = resource(kind, None);
        TypeMeta { api_version, kind }
    }

    /// The objects of `kind` in all namespaces, in its first version.
    pub fn everywhere(&self, kind: Kind) -> Result<Api<DynamicObject>> {
        Ok(Api::all_with(self.admin()?, &resource(kind, None)))
    }

    /// The objects of the kind and namespace of `object`, in the version that a manifest says, or in the first.
    pub fn objects(&self, object: &ObjectRef, api_version: Option<&str>) -> Result<Api<DynamicObject>> {
        let (kind, admin) = (object.kind, self.admin()?);
        let resource = resource(kind, api_version);
        Ok(if kind.namespaced() {
            Api::namespaced_with(admin, &object.namespace, &resource)
        } else {
            Api::all_with(admin, &resource)
        })
    }
}

/// Ports without a protocol are TCP, and a server-side apply of 1.20 does not know that.
fn name_protocols(manifest: &mut Value) {
    let Some(spec) = manifest.get_mut("spec") else { return };
    let mut ports: Vec<&mut Value> = match spec.get_mut("containers") {
        Some(containers) => {
            let containers = containers.as_array_mut().into_iter().flatten();
            containers.filter_map(|container| container.get_mut("ports")).collect()
        }
        None => spec.get_mut("ports").into_iter().collect(),
    };
    for port in ports.iter_mut().filter_map(|ports| ports.as_array_mut()).flatten() {
        if let Some(port) = port.as_object_mut().filter(|port| !port.contains_key("protocol")) {
            port.insert("protocol".to_owned(), "TCP".into());
        }
    }
}

fn resource(kind: Kind, api_version: Option<&str>) -> ApiResource {
    let version = api_version.and_then(|version| version.rsplit('/').next()).unwrap_or(kind.versions()[0]);
    let group = kind.group();
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.name().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

/// Letters and digits that nobody can guess.
fn random() -> String {
    let mut bytes = [0; 16];
    // It fails only where the system has no randomness at all, and the names still differ by their place.
    let _ = SystemRandom::new().fill(&mut bytes);
    format!("{:032x}", u128::from_be_bytes(bytes))
}
