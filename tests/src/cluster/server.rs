//! The processes of an API server: its etcd and itself, stopped and started on the same data.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use http::Request;
use kube::Client;
use parking_lot::Mutex;
use tempfile::TempDir;

use super::{assets, credentials::Credentials};
use crate::{loopback::Loopback, process::Process, until};

/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The hosts of etcd and of the API server in their block of addresses. The block is ours alone, so
/// the ports can be the usual ones, and the same again after a restart.
const ETCD: u8 = 1;
const SERVER: u8 = 2;

/// The port of the API server.
const PORT: u16 = 6443;

/// An API server and what belongs to it. All of it ends when this is dropped, or with the process.
#[derive(Debug)]
pub(super) struct Server {
    assets: PathBuf,
    pub(super) credentials: Credentials,
    loopback: Loopback,
    /// `None` while it is away.
    running: Mutex<Option<Process>>,
    _etcd: Process,
    /// Last, so that it is removed when nobody writes to it any more.
    folder: TempDir,
}

impl Server {
    /// Starts one and waits until it is ready.
    pub(super) async fn start() -> Result<Self> {
        let assets = assets::find().await?;
        let folder = tempfile::tempdir()?;
        let loopback = Loopback::claim()?;
        let credentials = Credentials::create(folder.path(), loopback.address(SERVER))?;
        let etcd = start_etcd(&assets, folder.path(), loopback.address(ETCD))?;
        let server = Self { assets, credentials, loopback, running: Mutex::default(), _etcd: etcd, folder };
        server.resume().await?;
        Ok(server)
    }

    /// Kills the API server. What it knows stays.
    pub(super) fn kill(&self) -> Result<()> {
        let mut process = self.running.lock().take().context("the API server is not running")?;
        process.kill()
    }

    /// Starts the API server again after [`kill`](Self::kill), on the same address and data, and waits
    /// until it is ready.
    pub(super) async fn resume(&self) -> Result<()> {
        let mut process = self.launch()?;
        let client = Client::try_from(self.credentials.client(&self.url(), &self.credentials.admin)?)?;
        until("the API server to be ready", PATIENCE, async || {
            process.must_run()?;
            let ready = client.request_text(Request::get("/readyz").body(Vec::new())?).await;
            Ok(ready.is_ok().then_some(()))
        })
        .await
        .with_context(|| format!("its last lines:\n{}", process.tail(20)))?;
        *self.running.lock() = Some(process);
        Ok(())
    }

    /// Where it is.
    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address())
    }

    /// The same as a socket has it.
    pub(super) fn address(&self) -> SocketAddr {
        (self.loopback.address(SERVER), PORT).into()
    }

    /// A folder that ends with it.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn launch(&self) -> Result<Process> {
        let address = self.loopback.address(SERVER);
        let file = |name| self.credentials.file(name);
        let mut arguments = vec![
            format!("--etcd-servers=http://{}:2379", self.loopback.address(ETCD)),
            format!("--bind-address={address}"),
            format!("--advertise-address={address}"),
            format!("--secure-port={PORT}"),
            // Nobody here dials the Service `kubernetes`, and a loopback address cannot be its endpoint.
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--tls-cert-file={}", file("server.pem")),
            format!("--tls-private-key-file={}", file("server-key.pem")),
            format!("--client-ca-file={}", file("ca.pem")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("accounts.pem")),
            format!("--service-account-signing-key-file={}", file("accounts-key.pem")),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            // There is no controller that makes the default accounts which this plugin asks pods for.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--allow-privileged=true".to_owned(),
        ];
        if !serves_endpoint_slices(&self.assets)? {
            // The group's only version then comes from a CRD of ours.
            arguments.push("--runtime-config=discovery.k8s.io/v1beta1=false".to_owned());
        }
        let log = self.folder.path().join("kube-apiserver.log");
        Process::start("kube-apiserver", &self.assets.join("kube-apiserver"), &arguments, &log)
    }
}

fn start_etcd(assets: &Path, folder: &Path, address: Ipv4Addr) -> Result<Process> {
    let (client, peer) = (format!("http://{address}:2379"), format!("http://{address}:2380"));
    let arguments = [
        "--name=test".to_owned(),
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=test={peer}"),
    ];
    Process::start("etcd", &assets.join("etcd"), &arguments, &folder.join("etcd.log"))
}

/// Whether the server has `discovery.k8s.io/v1` itself: since 1.21.
fn serves_endpoint_slices(assets: &Path) -> Result<bool> {
    let output = Command::new(assets.join("kube-apiserver")).arg("--version").output();
    let output = output.context("kube-apiserver does not start")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let minor = text.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let minor = minor.with_context(|| format!("kube-apiserver prints no version but {text:?}"))?;
    Ok(minor >= 21)
}
