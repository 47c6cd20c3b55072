//! What a kubelet does with the pod of a waypoint, played: it mounts what the pod template says and starts Envoy.
//!
//! Of what the template and the ConfigMaps say, only this is rewritten, because there is no mount namespace,
//! no network namespace and no cluster DNS:
//! - paths below a volume's `mountPath` lie below a folder of the test;
//! - an address of the pod's own, `::` or `127.0.0.1`, is the loopback address that stands for the pod; not so
//!   the port for tunnels, whose address comes by xDS: that one Envoy opens on every address of this machine.
//!   So there is one such pod at a time, and others wait;
//! - the host name and port of the control plane are those where it listens;
//! - `$(NAME)` in the arguments is what the downward API would give.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{ConfigMap, Pod, PodSpec, ServiceAccount, Volume},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use super::Cluster;
use crate::{
    envoy_binary,
    exchange::{Request, Session, Version},
    process::Process,
    until,
};

const PATIENCE: Duration = Duration::from_mins(1);
/// Who listens there has the port for tunnels on all addresses. Nothing else does: it cannot be left behind.
const TURN: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 15098);

/// A pod of a waypoint. Its Envoy ends when this is dropped.
pub struct WaypointPod {
    /// What it is called.
    pub name: String,
    client: Client,
    namespace: String,
    address: Ipv4Addr,
    spec: PodSpec,
    process: Process,
    /// Held as long as it has the port for tunnels.
    _turn: TcpListener,
    /// Where its volumes are, by their names.
    folder: TempDir,
}

impl WaypointPod {
    /// Makes a pod of the Deployment, and starts what it says. `token` stands for the first token that is
    /// projected; without it, it is that of the pod. The control plane is at `xds`.
    pub async fn start(
        cluster: &Cluster,
        namespace: &str,
        deployment: &str,
        address: Ipv4Addr,
        xds: SocketAddr,
        token: Option<&str>,
    ) -> Result<Self> {
        let turn = until("another pod to end", PATIENCE * 3, async || Ok(TcpListener::bind(TURN).await.ok()))
            .await?;
        let (client, name) = (cluster.admin()?, format!("{deployment}-1"));
        let deployments = Api::<Deployment>::namespaced(client.clone(), namespace);
        let template = deployments.get(deployment).await?.spec.context("no spec")?.template;
        let metadata = ObjectMeta { name: Some(name.clone()), ..template.metadata.unwrap_or_default() };
        let mut spec = template.spec.context("no pod")?;
        spec.node_name = Some("node-1".to_owned());
        let pod = Pod { metadata, spec: Some(spec.clone()), status: None };
        Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &pod).await?;

        let folder = tempfile::Builder::new().prefix("portolan-pod-").tempdir()?;
        let container = spec.containers.first().context("no container")?;
        ensure!(container.command == Some(vec!["envoy".to_owned()]), "{:?}", container.command);
        let mut mounts = BTreeMap::new();
        for mount in container.volume_mounts.iter().flatten() {
            mounts.insert(mount.mount_path.clone(), folder.path().join(&mount.name).display().to_string());
        }
        let expand = |argument: &String| {
            let values = [("$(POD_NAME)", &*name), ("$(NODE_NAME)", "node-1"), ("$(CPU_LIMIT)", "2")];
            values.iter().fold(argument.clone(), |text, (name, value)| text.replace(name, value))
        };
        let args = container.args.iter().flatten().map(|argument| moved(&expand(argument), &mounts));
        let args: Vec<String> = args.collect();
        let rewrite = |text: &str| rewritten(&moved(text, &mounts), address, xds);
        for volume in spec.volumes.iter().flatten() {
            if let Some(name) = volume.config_map.as_ref().map(|source| source.name.clone()) {
                let files = config_map(&client, namespace, &name).await?;
                let files = files.iter().map(|(key, text)| (key.clone(), rewrite(text))).collect();
                swap(&folder.path().join(&volume.name), &files)?;
            }
        }
        let log = folder.path().join("envoy.log");
        let identity = identity(&spec)?.clone();
        let files = projected(&client, namespace, &spec, &name, &identity, token).await?;
        swap(&folder.path().join(&identity.name), &files)?;
        let process = Process::start("envoy", &envoy_binary::find(None).await?, &args, &log)?;
        Ok(Self {
            name,
            client,
            namespace: namespace.to_owned(),
            address,
            spec,
            process,
            _turn: turn,
            folder,
        })
    }

    /// Projects the token and the roots anew, as a kubelet does when the token is about to expire. `token`
    /// stands for what the API server would give.
    pub async fn project(&self, token: Option<&str>) -> Result<()> {
        let identity = identity(&self.spec)?;
        let files = projected(&self.client, &self.namespace, &self.spec, &self.name, identity, token).await?;
        swap(&self.folder.path().join(&identity.name), &files)
    }

    /// Waits until the readiness probe succeeds, and says so in the pod's status.
    pub async fn ready(&mut self) -> Result<()> {
        let probe =
            self.spec.containers.first().and_then(|it| it.readiness_probe.as_ref()?.http_get.as_ref());
        let probe = serde_json::to_value(probe.context("no probe")?)?;
        let (path, port) =
            (probe["path"].as_str().context("no path")?, probe["port"].as_u64().context("no port")?);
        let address = SocketAddr::from((self.address, u16::try_from(port)?));
        until("the readiness probe to succeed", PATIENCE, async || {
            self.process.must_run()?;
            let Ok(stream) = TcpStream::connect(address).await else { return Ok(None) };
            let mut session = Session::open(stream, Version::Http1, "kubelet").await?;
            Ok((session.send(Request::get(path)).await?.status == 200).then_some(()))
        })
        .await
        .with_context(|| self.last_lines())?;
        let status = json!({"status": {
            "phase": "Running", "podIP": self.address, "podIPs": [{"ip": self.address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        pods.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        Ok(())
    }

    /// The token that it shows.
    pub fn token(&self) -> Result<String> {
        let volume = identity(&self.spec)?;
        let sources = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
        let mut sources = sources.into_iter().flatten();
        let source = sources.find_map(|source| source.service_account_token.as_ref());
        let path = &source.context("no token is projected")?.path;
        Ok(fs::read_to_string(self.folder.path().join(&volume.name).join(path))?)
    }

    /// What its Envoy said last.
    pub fn last_lines(&self) -> String {
        format!("the last lines of {}:\n{}", self.name, self.process.tail(20))
    }

    /// Makes its Envoy stand still.
    pub fn freeze(&self) -> Result<()> {
        self.process.freeze()
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.process.thaw()
    }
}

/// The volume with the token.
fn identity(spec: &PodSpec) -> Result<&Volume> {
    let projected = spec.volumes.iter().flatten().find(|volume| volume.projected.is_some());
    projected.context("no token is projected")
}

/// The files of a projected volume.
async fn projected(
    client: &Client,
    namespace: &str,
    spec: &PodSpec,
    pod: &str,
    volume: &Volume,
    token: Option<&str>,
) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let sources = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
    for source in sources.into_iter().flatten() {
        if let Some(source) = &source.service_account_token {
            let bound = BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.to_owned()),
                uid: None,
            };
            let asked = TokenRequestSpec {
                audiences: source.audience.iter().cloned().collect(),
                bound_object_ref: Some(bound),
                expiration_seconds: source.expiration_seconds,
            };
            let request = TokenRequest { spec: asked, ..TokenRequest::default() };
            let account = spec.service_account_name.as_deref().context("no service account")?;
            let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
            let content = if let Some(token) = token {
                token.to_owned()
            } else {
                let made = accounts.create_token_request(account, &PostParams::default(), &request).await?;
                made.status.context("no token")?.token
            };
            files.insert(source.path.clone(), content);
        }
        if let Some(source) = &source.config_map {
            let data = config_map(client, namespace, &source.name).await?;
            for item in source.items.iter().flatten() {
                files.insert(item.path.clone(), data.get(&item.key).context("no such key")?.clone());
            }
        }
    }
    Ok(files)
}

/// A kubelet waits for a ConfigMap that is not there yet.
async fn config_map(client: &Client, namespace: &str, name: &str) -> Result<BTreeMap<String, String>> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let map = until(name, PATIENCE, async || Ok(maps.get_opt(name).await?)).await?;
    Ok(map.data.unwrap_or_default())
}

/// Replaces all files of a volume in one step, as a kubelet does: they are links through one link.
fn swap(volume: &Path, files: &BTreeMap<String, String>) -> Result<()> {
    fs::create_dir_all(volume)?;
    let content: PathBuf = tempfile::Builder::new().prefix("..").tempdir_in(volume)?.keep();
    for (name, text) in files {
        fs::write(content.join(name), text)?;
        let link = volume.join(name);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(name), link)?;
        }
    }
    let next = volume.join("..data_tmp");
    symlink(content.file_name().context("no name")?, &next)?;
    Ok(fs::rename(next, volume.join("..data"))?)
}

fn moved(text: &str, mounts: &BTreeMap<String, String>) -> String {
    mounts.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// A file of a ConfigMap with the addresses of this pod.
fn rewritten(text: &str, pod: Ipv4Addr, xds: SocketAddr) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    rewrite(&mut value, pod, xds);
    value.to_string()
}

fn rewrite(value: &mut Value, pod: Ipv4Addr, xds: SocketAddr) {
    match value {
        Value::Object(map) => {
            if let Some(address) = map.get("socket_address").and_then(|it| it["address"].as_str()) {
                if address == "::" || address == "127.0.0.1" {
                    map["socket_address"]["address"] = json!(pod);
                    map["socket_address"]["ipv4_compat"] = json!(false);
                } else if address.strip_suffix(".svc").is_some() {
                    map["socket_address"] = json!({"address": xds.ip(), "port_value": xds.port()});
                }
            }
            map.values_mut().for_each(|value| rewrite(value, pod, xds));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| rewrite(value, pod, xds)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
