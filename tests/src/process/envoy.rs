//! A stock Envoy with a bootstrap of ours, and what its admin interface tells.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::Process;
use crate::{
    exchange::{Request, Session, Version},
    until,
};

/// How long Envoy may take to come up, a first configuration by xDS included, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running Envoy. It ends when dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
}

impl Envoy {
    /// Starts the Envoy `binary` on a bootstrap, with its admin interface on a free port, and waits until
    /// the interface answers. Its files go to `directory`.
    pub async fn start(name: &str, binary: &Path, bootstrap: &Value, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let config = directory.join("bootstrap.json");
        let mut bootstrap = bootstrap.clone();
        bootstrap["admin"] =
            json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}});
        fs::write(&config, serde_json::to_vec_pretty(&bootstrap)?)?;
        let admin_file = directory.join("admin-address");
        let arguments = [
            "--config-path".as_ref(),
            config.as_os_str(),
            "--admin-address-path".as_ref(),
            admin_file.as_os_str(),
            "--concurrency".as_ref(),
            "2".as_ref(),
            "--log-level".as_ref(),
            "warning".as_ref(),
            // Hot restart needs a base id that no other Envoy of the machine has; we never restart hot.
            "--disable-hot-restart".as_ref(),
        ];
        let mut process = Process::start(name, binary, &arguments, &directory.join("envoy.log"))?;
        let what = format!("the admin interface of {name}");
        let admin = until(&what, PATIENCE, async || {
            process.must_run()?;
            Ok(fs::read_to_string(&admin_file).ok().and_then(|address| address.trim().parse().ok()))
        });
        let admin = admin.await?;
        Ok(Self { process, admin })
    }

    /// Waits until Envoy has its first configuration and listens.
    pub async fn ready(&mut self) -> Result<()> {
        until("Envoy to be ready", PATIENCE, async || {
            self.process.must_run()?;
            Ok(self.admin("/ready").await.ok().filter(|text| text.trim() == "LIVE").map(drop))
        })
        .await
        .with_context(|| format!("Envoy is not ready; its last lines:\n{}", self.process.tail(20)))
    }

    /// Asks the admin interface, as in `/stats?filter=x`. Its errors are errors.
    pub async fn admin(&self, path: &str) -> Result<String> {
        let stream = TcpStream::connect(self.admin).await?;
        let mut session = Session::open(stream, Version::Http1, "admin").await?;
        let response = session.send(Request::get(path)).await?;
        ensure!(response.status == 200, "admin {path} answered {}: {}", response.status, response.text());
        Ok(response.text())
    }

    /// The counters and gauges whose names match the regular expression `filter`. Histograms are left out.
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>> {
        let filter = percent_encoded(filter);
        let text = self.admin(&format!("/stats?filter={filter}")).await?;
        let number = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(text.lines().filter_map(number).collect())
    }

    /// One counter or gauge; 0 if Envoy does not have it yet.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        let filter = format!("^{}$", name.replace('.', "\\."));
        Ok(self.stats(&filter).await?.remove(name).unwrap_or(0))
    }

    /// Everything that counts a listener replaced or a connection asked to leave. Equal before and
    /// after a change means that the change drained nothing.
    pub async fn drains(&self) -> Result<BTreeMap<String, u64>> {
        self.stats(
            "^listener_manager\\.(listener_modified|listener_removed|listener_in_place_updated|\
             total_filter_chains_draining|total_listeners_draining)$|^http\\..*\\.downstream_cx_drain_close$",
        )
        .await
    }

    /// How many responses of the control plane it has taken, by the counter of each subscription.
    pub async fn updates(&self) -> Result<BTreeMap<String, u64>> {
        self.stats("\\.update_success$").await
    }

    /// How often a resource was rejected, per kind or resource; empty if never.
    pub async fn rejections(&self) -> Result<BTreeMap<String, u64>> {
        let mut counts = self.stats("(update_rejected|control_plane\\.rejected)$").await?;
        counts.retain(|_, count| *count > 0);
        Ok(counts)
    }

    /// The configuration it runs on.
    pub async fn config_dump(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.admin("/config_dump?include_eds").await?)?)
    }

    /// Version, state and command line.
    pub async fn server_info(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.admin("/server_info").await?)?)
    }

    /// Makes it stand still: its connections stay, and it answers nothing.
    pub fn freeze(&self) -> Result<()> {
        self.process.freeze()
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.process.thaw()
    }

    /// Where its admin interface is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// What it printed: its own log and the access log.
    pub fn output(&self) -> Result<String> {
        self.process.output()
    }
}

/// A regular expression as a query value.
fn percent_encoded(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}
