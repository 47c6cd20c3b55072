//! The control plane under test: built once, started on a scratch directory, stopped, killed and started again.

use std::{
    env, fs,
    io::{Read, Seek, SeekFrom},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::{net::TcpStream, sync::OnceCell};

use super::{Process, cargo, with_death_signal};
use crate::{
    exchange::{Request, Response, Session, Version},
    until,
};

/// How long a start or an orderly stop may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to start it with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the objects come from.
    pub objects: Objects,
    /// The state directory: CA, proxies' files, the real address.
    pub state: PathBuf,
    /// Where its log and its ready file go.
    pub scratch: PathBuf,
    /// More arguments of `portolan serve`.
    pub arguments: Vec<String>,
    /// More of its environment.
    pub environment: Vec<(String, String)>,
}

/// Where the objects of a mesh come from.
#[derive(Clone, Debug)]
pub enum Objects {
    /// A directory of manifests.
    Directory(PathBuf),
    /// The cluster that a kubeconfig leads to.
    Kubeconfig(PathBuf),
}

/// A `portolan serve`. It ends when dropped.
#[derive(Debug)]
pub struct Portolan {
    binary: PathBuf,
    options: Options,
    process: Option<Process>,
    address: SocketAddr,
}

impl Portolan {
    /// Builds the binary if need be, starts `portolan serve` on a free port and waits until it serves.
    pub async fn start(options: Options) -> Result<Self> {
        let binary = binary().await?;
        fs::create_dir_all(&options.state)?;
        fs::create_dir_all(&options.scratch)?;
        let mut portolan =
            Self { binary, options, process: None, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        portolan.restart().await?;
        Ok(portolan)
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port and state.
    pub async fn restart(&mut self) -> Result<()> {
        let Options { objects, state, scratch, arguments, environment } = &self.options;
        let ready = scratch.join("ready");
        if ready.exists() {
            fs::remove_file(&ready)?;
        }
        let listen = self.address.to_string();
        let mut command = with_death_signal(&self.binary);
        match objects {
            Objects::Directory(path) => command.args(["serve", "--dir"]).arg(path),
            Objects::Kubeconfig(path) => command.args(["serve", "--kubeconfig"]).arg(path),
        };
        command.arg("--state").arg(state);
        // Several run side by side, so each has ports of its own.
        command.args(["--admin", "127.0.0.1:0", "--debug", "127.0.0.1:0", "--listen", &listen]);
        command.args(["--log", "json", "--ready-file"]).arg(&ready).args(arguments);
        // Every response that is sent to a proxy is a line of the log, which is how tests count them.
        command.env("RUST_LOG", "info,deploy::journal=debug");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::run("portolan", command, &self.log())?;
        until("portolan to be ready", PATIENCE, async || {
            process.must_run()?;
            Ok(ready.exists().then_some(()))
        })
        .await
        .with_context(|| format!("portolan's last lines:\n{}", process.tail(20)))?;
        let address = state.join("xds-address");
        let address =
            fs::read_to_string(&address).with_context(|| format!("reading {}", address.display()))?;
        self.address = address.trim().parse()?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it in order, as Kubernetes does.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("portolan is not running") };
        let status = process.terminate(PATIENCE).await?;
        ensure!(status.success(), "portolan ended with {status}; its last lines:\n{}", process.tail(20));
        Ok(())
    }

    /// Kills it without warning.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("portolan is not running") };
        process.kill()
    }

    /// The bootstrap of a proxy of the Gateway `gateway`, as in `webapp/waypoint`, admin on a free port;
    /// `more` are further arguments.
    pub async fn bootstrap(&self, gateway: &str, more: &[String]) -> Result<Value> {
        let xds = self.address.to_string();
        let state = self.options.state.display().to_string();
        let mut arguments = vec!["bootstrap", "--gateway", gateway, "--state", &state, "--xds", &xds];
        arguments.extend(["--admin-port", "0", "-o", "json"]);
        arguments.extend(more.iter().map(String::as_str));
        Ok(serde_json::from_str(&self.run(&arguments).await?)?)
    }

    /// Runs another command of the binary and gives what it prints.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.told(arguments).await?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "portolan {} failed: {err}", arguments.join(" "));
        Ok(out.into_owned())
    }

    /// Runs another command of the binary, and gives how it ended too.
    pub async fn told(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.binary);
        command.args(arguments);
        Ok(tokio::task::spawn_blocking(move || command.output()).await??)
    }

    /// Where it tells what it knows of proxies.
    pub fn debug_address(&self) -> Result<String> {
        let path = self.options.state.join("debug-address");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// What it logged, line by line; lines that are not JSON are left out.
    pub fn events(&self) -> Result<Vec<Value>> {
        let log = fs::read_to_string(self.log())?;
        Ok(log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// What it logs from now on.
    pub fn follow(&self) -> Result<Follower> {
        let log = self.log();
        Ok(Follower { read: fs::metadata(&log)?.len(), log })
    }

    /// Waits until `wanted` of the events after the first `skip` is found, and gives it.
    pub async fn event(&self, what: &str, skip: usize, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let found = async || Ok(self.events()?.into_iter().skip(skip).find(|event| wanted(event)));
        until(what, PATIENCE, found).await
    }

    /// The answer of its probes and metrics to a GET, as in `/readyz`.
    pub async fn probe(&self, path: &str) -> Result<Response> {
        probe(&self.options.state, path).await
    }

    /// The count or gauge of a series, as in `portolan_nacks_total{type="Route"}`; nothing if there is none.
    pub async fn metric(&self, series: &str) -> Result<Option<u64>> {
        let page = self.probe("/metrics").await?;
        ensure!(page.status == 200, "/metrics answered {}: {}", page.status, page.text());
        let text = page.text();
        let number = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(number.map(str::parse).transpose()?)
    }

    /// Waits until a series is as `wanted`.
    pub async fn counts(&self, series: &str, wanted: impl Fn(u64) -> bool) -> Result<()> {
        until(series, PATIENCE, async || Ok(self.metric(series).await?.filter(|it| wanted(*it)).map(drop)))
            .await
    }

    /// Where it serves xDS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its state directory.
    pub fn state(&self) -> &Path {
        &self.options.state
    }

    fn log(&self) -> PathBuf {
        self.options.scratch.join("portolan.log")
    }
}

/// The answer to a GET of the process on that state directory, which may not serve proxies yet.
pub async fn probe(state: &Path, path: &str) -> Result<Response> {
    let address = state.join("admin-address");
    let address = fs::read_to_string(&address).with_context(|| format!("reading {}", address.display()))?;
    let stream = TcpStream::connect(address.trim()).await?;
    Session::open(stream, Version::Http1, "admin").await?.send(Request::get(path)).await
}

/// A reader of the log that remembers how far it has read, for tests that make thousands of lines.
#[derive(Clone, Debug)]
pub struct Follower {
    log: PathBuf,
    read: u64,
}

impl Follower {
    /// What was logged since the last look; lines that are not JSON are left out.
    pub fn events(&mut self) -> Result<Vec<Value>> {
        let mut file = fs::File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        // A line that is still being written is read the next time.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        let lines = text[..whole].split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}

/// The path of the binary, built on first use with the cargo, profile and target directory that built us.
async fn binary() -> Result<PathBuf> {
    static BINARY: OnceCell<PathBuf> = OnceCell::const_new();
    let built = BINARY.get_or_try_init(async || tokio::task::spawn_blocking(build).await?);
    built.await.cloned()
}

fn build() -> Result<PathBuf> {
    // Ours is <target>/<profile>/demo or <target>/<profile>/deps/e2e-0123.
    let executable = env::current_exe()?;
    let profile = executable
        .ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps"))
        .context("this program is not in a cargo target directory")?;
    let target = profile.parent().context("this program is not in a cargo target directory")?;
    let profile_name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    eprintln!("building portolan");
    // Together with us, so that what both depend on has the features that it was built with for us.
    let status = cargo()
        .args(["build", "--quiet", "--package", "deploy", "--package", "tests", "--bin", "portolan"])
        .args(["--profile", profile_name, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("running cargo; is it on PATH?")?;
    ensure!(status.success(), "cargo build --package deploy failed with {status}");
    Ok(profile.join(format!("portolan{}", env::consts::EXE_SUFFIX)))
}
