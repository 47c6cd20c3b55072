//! What the process tells of itself over HTTP, to kubelets and to Prometheus.
//!
//! ```text
//!   GET /healthz   200 while the event loop answers
//!       /readyz    200 once everything is read and proxies are served; else what is missing
//!       /metrics   OpenMetrics
//! ```
//!
//! Nothing here is secret and nothing changes anything: a kubelet asks without proving who it is. What is known
//! of proxies has a listener of its own, on loopback.

pub mod debug;

mod health;
mod question;
mod server;

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context;
use http::{Method, StatusCode, request::Parts};
use tokio::{net::TcpListener, sync::mpsc};
use tracing::{error, info};
use xds::Cache;

pub(crate) use self::{
    health::Health,
    server::{Answer, serve},
};
pub use question::Question;

use crate::{
    metrics::{CONTENT_TYPE, Metrics, Requests},
    state::{StateDirectory, write_address},
    tasks::Tasks,
};

/// Where we tell of ourselves; with port 0 the system chooses one.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// To probes and to Prometheus, if anywhere.
    pub probes: Option<SocketAddr>,
    /// To `proxy-status` and `proxy-config`; on loopback.
    pub debug: SocketAddr,
}

/// Begins to count, to tell what is known of the proxies that follow `cache`, and, if there is an address for
/// it, to answer probes and Prometheus: also while what we need is waited for. Where that is, files in `state`
/// say. Gives what is answered, to be filled in, and what the event loop will be asked.
pub(crate) async fn start(
    tasks: &mut Tasks,
    addresses: Addresses,
    state: &StateDirectory,
    cache: &Arc<Cache>,
    requests: Option<&Requests>,
) -> anyhow::Result<(Pages, mpsc::Receiver<Question>)> {
    let (health, questions) = Health::new();
    let pages = Pages { health, metrics: Metrics::new(requests) };
    if let Some(address) = addresses.probes {
        listen(tasks, address, &state.admin_address_file(), pages.clone()).await?;
    }
    debug::start(tasks, addresses.debug, &state.debug_address_file(), Arc::clone(cache)).await?;
    Ok((pages, questions))
}

async fn listen(tasks: &mut Tasks, address: SocketAddr, told: &Path, pages: Pages) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    write_address(told, address)?;
    info!(%address, "probes and metrics");
    tasks.spawn_forever("admin endpoint", async move {
        match serve(listener, move |asked| pages.clone().answer(asked)).await {}
    });
    Ok(())
}

/// What is served to probes and to Prometheus.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
}

impl Pages {
    /// The answer to one request.
    pub(crate) async fn answer(self, asked: Parts) -> Answer {
        if asked.method != Method::GET && asked.method != Method::HEAD {
            return Answer::text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
        }
        match asked.uri.path() {
            "/healthz" => match self.health.alive().await {
                Ok(()) => Answer::text(StatusCode::OK, "ok"),
                Err(why) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, why),
            },
            "/readyz" => match self.health.ready() {
                Ok(()) => Answer::text(StatusCode::OK, "ready"),
                Err(missing) => Answer::text(StatusCode::SERVICE_UNAVAILABLE, missing),
            },
            "/metrics" => match self.metrics.page() {
                Ok(page) => Answer { status: StatusCode::OK, content_type: CONTENT_TYPE, body: page },
                Err(problem) => {
                    error!("the metrics cannot be written: {problem}");
                    Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written")
                }
            },
            _ => Answer::text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics"),
        }
    }
}
