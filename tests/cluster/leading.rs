//! Of several replicas one leads: by a Lease, and never two at a time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use deploy::lease::{self, Candidate, Timing};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{Api, Client, api::PostParams};
use tests::{
    cluster::{Account, Cluster},
    until,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::followed::{PATIENCE, permitted};

/// A Lease that is not given back lasts longer than the test waits.
const LONG: Timing = Timing {
    duration: Duration::from_mins(10),
    deadline: Duration::from_mins(5),
    retry: Duration::from_millis(100),
};

/// A candidate that runs, and ends with this.
struct Running {
    leads: watch::Receiver<bool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(client: Client, namespace: &str, pod: &str, timing: Timing) -> Self {
        let (tell, leads) = watch::channel(false);
        let stop = CancellationToken::new();
        let candidate = Candidate::new(client, namespace, lease::lease_name(None), Some(pod), timing);
        let task = tokio::spawn(candidate.run(tell, stop.clone()));
        Self { leads, stop, task }
    }

    async fn until(&mut self, leads: bool) -> Result<Instant> {
        timeout(PATIENCE, self.leads.wait_for(|now| *now == leads)).await.context("leadership")??;
        Ok(Instant::now())
    }

    /// Ends it as a pod ends.
    async fn stop(self) -> Result<()> {
        let Self { leads, stop, task } = self;
        stop.cancel();
        drop(leads);
        Ok(timeout(PATIENCE, task).await??)
    }
}

async fn account(cluster: &Cluster, namespace: &str) -> Result<Account> {
    let permissions = lease::permissions(&namespace.into(), &lease::lease_name(None));
    permitted(cluster, namespace, "portolan", &permissions).await
}

async fn spec(cluster: &Cluster, namespace: &str) -> Result<LeaseSpec> {
    let leases = Api::<Lease>::namespaced(cluster.admin()?, namespace);
    leases.get("portolan").await?.spec.context("an empty Lease")
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_at_once_when_it_ends() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let namespace = cluster.namespace("leading").await?;
    let account = account(&cluster, &namespace).await?;
    let client = cluster.client_of(&account).await?;
    let mut first = Running::start(client.clone(), &namespace, "one", LONG);
    first.until(true).await?;
    let held = spec(&cluster, &namespace).await?;
    ensure!(held.holder_identity.as_deref().is_some_and(|holder| holder.starts_with("one_")), "{held:?}");
    let mut second = Running::start(client, &namespace, "two", LONG);
    let mut renewals = vec![held.renew_time];
    until("some renewals", PATIENCE, async || {
        let renewed = spec(&cluster, &namespace).await?.renew_time;
        if renewals.last() != Some(&renewed) {
            renewals.push(renewed);
        }
        Ok((renewals.len() > 4).then_some(()))
    })
    .await?;
    assert_eq!((*first.leads.borrow(), *second.leads.borrow()), (true, false));
    assert_eq!(spec(&cluster, &namespace).await?.lease_transitions, Some(0));
    first.stop().await?;
    second.until(true).await?;
    assert_eq!(spec(&cluster, &namespace).await?.lease_transitions, Some(1));
    second.stop().await?;
    assert_eq!(spec(&cluster, &namespace).await?.holder_identity.as_deref(), Some(""));
    Ok(())
}

#[tokio::test]
async fn who_is_cut_off_stops_before_another_begins() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let namespace = cluster.namespace("cut-off").await?;
    let account = account(&cluster, &namespace).await?;
    let timing = Timing { retry: Duration::from_millis(100), ..Timing::of(Duration::from_secs(3)) };
    let token = cluster.token(&account, None, Duration::from_hours(1)).await?;
    let (gated, gate) = cluster.gated_client(&token).await?;
    let mut first = Running::start(gated, &namespace, "one", timing);
    first.until(true).await?;
    let mut second = Running::start(cluster.client_of(&account).await?, &namespace, "two", timing);
    gate.shut();
    let (ended, began) = tokio::try_join!(first.until(false), second.until(true))?;
    assert!(ended < began, "both led for {:?}", ended - began);
    gate.open();
    second.stop().await?;
    first.until(true).await?;
    Ok(())
}

#[tokio::test]
async fn a_lease_that_nobody_renews_is_taken_when_it_has_been_so_for_its_duration() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let namespace = cluster.namespace("left").await?;
    let account = account(&cluster, &namespace).await?;
    // A clock that is far ahead of ours, and a duration that is not ours.
    let lease: Lease = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "portolan"},
        "spec": {
            "holderIdentity": "somebody", "leaseDurationSeconds": 2, "leaseTransitions": 4,
            "renewTime": "2200-01-01T00:00:00.000000Z",
        },
    }))?;
    Api::namespaced(cluster.admin()?, &namespace).create(&PostParams::default(), &lease).await?;
    let start = Instant::now();
    let mut one = Running::start(cluster.client_of(&account).await?, &namespace, "one", LONG);
    let began = one.until(true).await?;
    assert!(began - start >= Duration::from_secs(2), "{:?}", began - start);
    assert_eq!(spec(&cluster, &namespace).await?.lease_transitions, Some(5));
    Ok(())
}
