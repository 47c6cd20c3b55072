//! What is counted, for whoever scrapes it.
//!
//! Everything is counted here and nowhere else: the other rooms tell what happened, and know no metrics.
//! Labels are kinds, types and reasons, which are few, and waypoints, which are as many as there are.

mod mesh;
mod outside;
mod process;
mod proxies;
mod requests;

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family},
    registry::{Metric, Registry},
};

pub use self::requests::Requests;
pub(crate) use self::{mesh::Mesh, outside::Outside, process::Process, proxies::Proxies};

/// What [`Metrics::page`] is: OpenMetrics 1.0, which every Prometheus since 2.5 reads.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    pub(crate) proxies: Arc<Proxies>,
    pub(crate) mesh: Arc<Mesh>,
    pub(crate) outside: Arc<Outside>,
    pub(crate) process: Arc<Process>,
}

impl Metrics {
    /// Nothing counted yet but what `requests` counts, if a cluster is asked.
    pub fn new(requests: Option<&Requests>) -> Self {
        let mut registry = Registry::with_prefix("portolan");
        let page = &mut registry;
        let process = Arc::new(Process::new(page));
        let proxies = Arc::new(Proxies::new(page));
        let mesh = Arc::new(Mesh::new(page));
        let outside = Arc::new(Outside::new(page));
        if let Some(requests) = requests {
            requests.show(page);
        }
        Self { registry: Arc::new(registry), proxies, mesh, outside, process }
    }

    /// All of it as [`CONTENT_TYPE`] has it.
    pub fn page(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A metric that is shown by that name. The full stop of `help` is the library's.
fn shown<M: Metric + Clone>(page: &mut Registry, name: &str, help: &str, metric: M) -> M {
    page.register(name, help, metric.clone());
    metric
}

/// Labels whose whole text is known when we are built.
type Label = [(&'static str, &'static str); 1];

/// A counter for each value of one label, which all begin at zero: what never happened is seen not to have.
fn counters(
    page: &mut Registry,
    name: &str,
    help: &str,
    labels: impl IntoIterator<Item = Label>,
) -> Family<Label, Counter> {
    let family = shown(page, name, help, Family::<Label, Counter>::default());
    for label in labels {
        drop(family.get_or_create(&label));
    }
    family
}

#[cfg(test)]
mod tests;
