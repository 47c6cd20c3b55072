//! A whole mesh on one machine: manifests, control plane, a waypoint Envoy per Gateway, backends, callers.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{
    Authority, Caller, Identity, Loopback,
    backend::Backend,
    catalog::{Catalog, Pod},
    envoy_binary, hbone,
    identity::spiffe,
    process::{Envoy, Objects, Options, Portolan, tail},
};

/// The last number of the addresses of callers that are no pod of the manifests.
pub const STRANGER: u8 = 250;

/// What to start a lab with.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Setup {
    /// Directories of manifests, written for the placeholder block of [`Loopback`].
    pub directories: Vec<PathBuf>,
    /// More manifests, as file name and contents.
    pub files: Vec<(String, String)>,
    /// More arguments of `portolan serve`.
    pub arguments: Vec<String>,
    /// More of its environment.
    pub environment: Vec<(String, String)>,
    /// More arguments of `portolan bootstrap`, for every waypoint.
    pub bootstrap: Vec<String>,
    /// An Envoy to use instead of what [`envoy_binary::find`] finds.
    pub envoy: Option<PathBuf>,
    /// Captured pods, as `namespace/name`, that show a certificate with another SPIFFE identity.
    pub impostors: BTreeMap<String, String>,
}

/// A running mesh. Everything in it ends when it is dropped; the order of the fields is the order of that.
#[derive(Debug)]
pub struct Lab {
    /// The waypoint of each Gateway, by `namespace/name`.
    pub envoys: BTreeMap<String, Envoy>,
    /// The control plane.
    pub portolan: Portolan,
    /// The backends of each pod, by `namespace/name` and port.
    pub backends: BTreeMap<String, BTreeMap<u16, Backend>>,
    /// What stands in for the ztunnels of captured pods, by `namespace/name`.
    pub ztunnels: BTreeMap<String, hbone::Server>,
    /// Who is where, as the manifests said at the start.
    pub catalog: Arc<Catalog>,
    /// The mesh's certificate authority.
    pub authority: Arc<Authority>,
    /// The addresses of the lab.
    pub loopback: Loopback,
    scratch: TempDir,
}

impl Setup {
    /// A lab of the manifests below `directory` of the repository, such as `deploy/examples/bookinfo`.
    pub fn example(directory: &str) -> Self {
        Self { directories: vec![repository().join(directory)], ..Self::default() }
    }

    /// A lab of one file of manifests.
    pub fn manifests(yaml: &str) -> Self {
        Self::default().file("manifests.yaml", yaml)
    }

    /// Adds a file of manifests.
    pub fn file(mut self, name: &str, yaml: &str) -> Self {
        self.files.push((name.to_owned(), yaml.to_owned()));
        self
    }

    /// Adds arguments of `portolan serve`.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Adds to the environment of `portolan serve`.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds arguments of `portolan bootstrap`.
    pub fn bootstrap(mut self, arguments: &[&str]) -> Self {
        self.bootstrap.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }
}

impl Lab {
    /// Starts everything and waits until every Envoy has its configuration.
    pub async fn start(setup: &Setup) -> Result<Self> {
        let mut lab = Self::start_without_envoys(setup).await?;
        let envoy = envoy_binary::find(setup.envoy.as_deref()).await?;
        for gateway in lab.catalog.gateways.keys() {
            let bootstrap = lab.portolan.bootstrap(gateway, &setup.bootstrap).await?;
            let directory = lab.scratch.path().join("envoy").join(gateway.replace('/', "-"));
            let started = Envoy::start(gateway, &envoy, &bootstrap, &directory).await?;
            lab.envoys.insert(gateway.clone(), started);
        }
        for envoy in lab.envoys.values_mut() {
            envoy.ready().await?;
        }
        Ok(lab)
    }

    /// Starts everything but the waypoints, for tests that are about how an Envoy is let in.
    pub async fn start_without_envoys(setup: &Setup) -> Result<Self> {
        let loopback = Loopback::claim()?;
        let scratch = tempfile::Builder::new().prefix("portolan-lab-").tempdir()?;
        let manifests = scratch.path().join("manifests");
        fs::create_dir(&manifests)?;
        for directory in &setup.directories {
            loopback.copy(directory, &manifests)?;
        }
        for (name, yaml) in &setup.files {
            fs::write(manifests.join(name), loopback.localize(yaml))?;
        }
        let catalog = Arc::new(Catalog::read(&manifests)?);
        let options = Options {
            objects: Objects::Directory(manifests),
            state: scratch.path().join("state"),
            scratch: scratch.path().join("portolan"),
            arguments: setup.arguments.clone(),
            environment: setup.environment.clone(),
        };
        let portolan = Portolan::start(options).await?;
        let authority = Arc::new(Authority::of_state(portolan.state())?);
        let mut lab = Self {
            envoys: BTreeMap::new(),
            portolan,
            backends: BTreeMap::new(),
            ztunnels: BTreeMap::new(),
            catalog: Arc::clone(&catalog),
            authority,
            loopback,
            scratch,
        };
        for (key, pod) in &catalog.pods {
            lab.start_pod(key, pod, setup).await?;
        }
        Ok(lab)
    }

    async fn start_pod(&mut self, key: &str, pod: &Pod, setup: &Setup) -> Result<()> {
        let mut backends = BTreeMap::new();
        for (&port, &protocol) in &pod.ports {
            // A captured pod can be reached through its ztunnel only, so a plain connection must fail.
            let listen = if pod.captured { 0 } else { port };
            let address = SocketAddr::new(pod.address, listen);
            backends.insert(port, Backend::start(&pod.name, protocol, address).await?);
        }
        if pod.captured {
            let identity = match setup.impostors.get(key) {
                Some(uri) => self.authority.mint(&[uri])?,
                None => self.authority.workload(&pod.namespace, &pod.account)?,
            };
            let ports = backends.iter().map(|(port, backend)| (*port, backend.address)).collect();
            let server = hbone::Server::start(pod.address, &identity, &self.authority, ports)?;
            self.ztunnels.insert(key.to_owned(), server);
        }
        self.backends.insert(key.to_owned(), backends);
        Ok(())
    }

    /// A caller with the identity of a service account. It calls from the address of a pod that has the
    /// account, if the manifests have one.
    pub fn client(&self, namespace: &str, account: &str) -> Result<Caller> {
        let (catalog, trust) = (Arc::clone(&self.catalog), Arc::clone(&self.authority));
        Caller::workload(catalog, trust, namespace, account, self.loopback.address(STRANGER).into())
    }

    /// A caller with any certificate, or none.
    pub fn stranger(&self, identity: Option<Identity>) -> Caller {
        let (catalog, trust) = (Arc::clone(&self.catalog), Arc::clone(&self.authority));
        Caller::new(catalog, trust, identity, self.loopback.address(STRANGER).into(), String::new())
    }

    /// The waypoint of a Gateway, such as `webapp/waypoint`.
    pub fn envoy(&self, gateway: &str) -> Result<&Envoy> {
        self.envoys.get(gateway).with_context(|| format!("no waypoint of {gateway} in this lab"))
    }

    /// The backend of a pod, such as `webapp/web-v1`, on a port.
    pub fn backend(&self, pod: &str, port: u16) -> Result<&Backend> {
        let backend = self.backends.get(pod).and_then(|ports| ports.get(&port));
        backend.with_context(|| format!("no backend on port {port} of {pod} in this lab"))
    }

    /// Writes a file of manifests, in one step as `kubectl apply` or a volume's swap has it.
    pub fn write(&self, name: &str, yaml: &str) -> Result<()> {
        let staged = self.scratch.path().join("staged");
        fs::write(&staged, self.loopback.localize(yaml))?;
        Ok(fs::rename(staged, self.manifests().join(name))?)
    }

    /// Replaces `old`, which must be there, by `new` in a file of manifests.
    pub fn edit(&self, name: &str, old: &str, new: &str) -> Result<()> {
        let text =
            fs::read_to_string(self.manifests().join(name)).with_context(|| format!("reading {name}"))?;
        let (old, new) = (self.loopback.localize(old), self.loopback.localize(new));
        ensure!(text.contains(&old), "{name} does not contain {old:?}");
        self.write(name, &text.replace(&old, &new))
    }

    /// Removes a file of manifests.
    pub fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.manifests().join(name)).with_context(|| format!("removing {name}"))
    }

    /// The directory of manifests that the control plane watches.
    pub fn manifests(&self) -> PathBuf {
        self.scratch.path().join("manifests")
    }

    /// What each Envoy rejected, as `gateway: counter`; empty if nothing was.
    pub async fn rejections(&self) -> Result<BTreeMap<String, u64>> {
        let mut all = BTreeMap::new();
        for (gateway, envoy) in &self.envoys {
            let rejected = envoy.rejections().await?;
            all.extend(rejected.into_iter().map(|(name, count)| (format!("{gateway}: {name}"), count)));
        }
        Ok(all)
    }

    /// The last lines of every log, for whoever has to find out what went wrong.
    pub fn last_lines(&self) -> String {
        let portolan = self.scratch.path().join("portolan/portolan.log");
        let mut texts = vec![format!("--- portolan\n{}", tail(&portolan, 30))];
        for gateway in self.envoys.keys() {
            let log = self.scratch.path().join("envoy").join(gateway.replace('/', "-")).join("envoy.log");
            texts.push(format!("--- Envoy of {gateway}\n{}", tail(&log, 20)));
        }
        texts.join("\n")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.last_lines());
        }
    }
}

/// The repository this was built from.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Runs a test in a lab of `setup`. If it fails, the last lines of every log are printed; whether it
/// fails or not, no resource may have been rejected by any Envoy unless the test says which may.
pub fn test(setup: &Setup, body: impl AsyncFnOnce(&mut Lab) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut lab = Lab::start(setup).await?;
        let outcome = body(&mut lab).await;
        let outcome = match outcome {
            Ok(()) => lab.rejections().await.and_then(|rejected| {
                ensure!(rejected.is_empty(), "Envoy rejected resources: {rejected:?}");
                Ok(())
            }),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            eprintln!("{}", lab.last_lines());
        }
        outcome
    })
}

/// The name of the waypoint's certificate, for tests that look at who called a pod.
pub fn waypoint_identity(gateway: &str) -> String {
    let (namespace, name) = gateway.split_once('/').unwrap_or(("", gateway));
    spiffe(namespace, name)
}
