//! What replicas tell one another of their proxies: the one that leads hears of all others, for as long as
//! they are there.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use deploy::{
    progress::{Report, Reports},
    replicas::{self, Replica, Rhythm},
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, api::ListParams};
use proto::Name;
use tests::{cluster::Cluster, until};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::followed::{PATIENCE, permitted};

const RHYTHM: Rhythm = Rhythm {
    look: Duration::from_millis(100),
    beat: Duration::from_millis(500),
    patience: Duration::from_secs(4),
};

/// A replica that runs.
struct Running {
    leads: watch::Sender<bool>,
    reports: watch::Sender<Reports>,
    others: mpsc::Receiver<BTreeMap<Name, Reports>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(client: Client, namespace: &str, pod: &str, leading: bool) -> Self {
        let (leads, is_leading) = watch::channel(leading);
        let (reports, reported) = watch::channel(Reports::new());
        let (hear, others) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let replica = Replica::new(client, namespace, "portolan".into(), Some(pod), RHYTHM);
        let task = tokio::spawn(replica.run(is_leading, reported, hear, stop.clone()));
        Self { leads, reports, others, stop, task }
    }

    fn tell(&self, ready: u32) {
        let report = Report { published: u64::MAX - 1, ready, ..Report::default() };
        self.reports.send_replace(BTreeMap::from([("default/waypoint".to_owned(), report)]));
    }

    /// Waits until it hears of replicas with so many proxies each.
    async fn hears(&mut self, wanted: &[(&str, u32)]) -> Result<()> {
        let hearing = async {
            while let Some(others) = self.others.recv().await {
                let of = |(name, reports): (&Name, &Reports)| {
                    let ready = reports.values().map(|report| report.ready).sum::<u32>();
                    (name.split('-').next().unwrap_or_default().to_owned(), ready)
                };
                let heard: Vec<(String, u32)> = others.iter().map(of).collect();
                if heard.iter().map(|(name, ready)| (name.as_str(), *ready)).eq(wanted.iter().copied()) {
                    return Ok(());
                }
            }
            bail!("it ended")
        };
        timeout(PATIENCE, hearing).await.with_context(|| format!("{wanted:?} in vain"))?
    }
}

#[tokio::test]
async fn the_one_that_leads_hears_of_the_others_while_they_are_there() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let namespace = cluster.namespace("replicas").await?;
    let account =
        permitted(&cluster, &namespace, "portolan", &replicas::permissions(&namespace.as_str().into()))
            .await?;
    let client = cluster.client_of(&account).await?;
    let mut one = Running::start(client.clone(), &namespace, "one", true);
    let mut two = Running::start(client.clone(), &namespace, "two", false);
    let three = Running::start(client, &namespace, "three", false);
    two.tell(2);
    three.tell(3);
    one.hears(&[("three", 3), ("two", 2)]).await?;
    two.tell(4);
    one.hears(&[("three", 3), ("two", 4)]).await?;

    // It ends in order, and its proxies go to others.
    three.stop.cancel();
    timeout(PATIENCE, three.task).await??;
    one.hears(&[("two", 4)]).await?;

    // Another one leads: who led before tells, and hears of nobody.
    one.tell(1);
    one.leads.send_replace(false);
    one.hears(&[]).await?;
    two.leads.send_replace(true);
    two.hears(&[("one", 1)]).await?;

    // It is killed, and forgotten when it was not heard of for a while.
    one.task.abort();
    two.hears(&[]).await?;
    let maps = Api::<ConfigMap>::namespaced(cluster.admin()?, &namespace);
    until("what it left to be removed", PATIENCE, async || {
        let left = maps.list(&ListParams::default().labels("portolan.dev/replica-of")).await?;
        Ok(left.items.is_empty().then_some(()))
    })
    .await
}
