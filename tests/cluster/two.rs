//! Two replicas of `portolan serve`: both serve, one writes and says what the proxies of both have, and the
//! other goes on when it is killed.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use deploy::permissions::permissions;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use kube::{Api, api::DeleteParams};
use proto::Kind;
use serde_json::{Value, json};
use tests::{
    Loopback,
    cluster::{Cluster, WaypointPod},
    process::{Objects, Options, Portolan},
    until,
};
use translate::Settings;

use crate::{
    followed::{PATIENCE, permitted},
    manifests::{manifest, reference},
};

/// How many policies there is something to say of.
const POLICIES: u32 = 40;

async fn replica(kubeconfig: &Path, scratch: &Path, name: &str, namespace: &str) -> Result<Portolan> {
    let scratch = scratch.join(name);
    let arguments = ["--root-namespace", namespace, "--namespace", namespace, "--lease-duration", "4s"];
    Portolan::start(Options {
        objects: Objects::Kubeconfig(kubeconfig.to_owned()),
        state: scratch.join("state"),
        scratch,
        arguments: arguments.map(str::to_owned).to_vec(),
        environment: vec![("POD_NAME".to_owned(), name.to_owned())],
    })
    .await
}

/// Whether the last thing that it said of writing is that it does.
fn writes(portolan: &Portolan) -> Result<bool> {
    let events = portolan.events()?;
    let said = events.iter().rev().filter_map(|event| event["message"].as_str());
    let mut said = said.filter(|text| text.starts_with("this replica "));
    Ok(said.next() == Some("this replica writes"))
}

#[tokio::test]
async fn one_of_two_says_what_the_proxies_of_both_have_and_the_other_goes_on_without_it() -> Result<()> {
    // One of its own: whoever deploys does so in all namespaces.
    let cluster = Cluster::start(Kind::ALL).await?;
    let namespace = cluster.namespace("two").await?;
    let ns = namespace.as_str();
    let settings = Settings { root_namespace: ns.into(), ..Settings::default() };
    let account = permitted(&cluster, ns, "portolan", &permissions(&ns.into(), &settings, None)).await?;
    let token = cluster.token(&account, None, Duration::from_hours(1)).await?;
    let (kubeconfig, scratch) = (cluster.kubeconfig(&token)?, tempfile::tempdir()?);
    let (one, two) = tokio::try_join!(
        replica(&kubeconfig, scratch.path(), "one", ns),
        replica(&kubeconfig, scratch.path(), "two", ns)
    )?;
    let one_writes = until("one of them to write", PATIENCE, async || {
        Ok(match (writes(&one)?, writes(&two)?) {
            (true, true) => bail!("both write"),
            (false, false) => None,
            (one, _) => Some(one),
        })
    })
    .await?;
    let (mut leader, other) = if one_writes { (one, two) } else { (two, one) };

    cluster.apply(&manifest(Kind::Gateway, ns, "waypoint", "a")).await?;
    let deployments = Api::<Deployment>::namespaced(cluster.admin()?, ns);
    until("the Deployment", PATIENCE, async || Ok(deployments.get_opt("waypoint").await?)).await?;
    let loopback = Loopback::claim()?;
    let xds = other.address();
    let mut pod = WaypointPod::start(&cluster, ns, "waypoint", loopback.address(1), xds, None).await?;
    pod.ready().await?;
    let says = |event: &Value, text: &str| {
        event["object"].as_str().is_some_and(|object| object.contains("waypoint"))
            && event["programmed"].as_str().is_some_and(|programmed| programmed.contains(text))
    };
    let counted = leader.event("a proxy of the other one", 0, |event| says(event, "1 of 1")).await;
    counted.with_context(|| pod.last_lines())?;
    let served = leader.events()?.iter().any(|event| event["message"] == "connected");
    assert!(!served, "it serves the proxy itself");

    let status = async |kind: Kind, name: &str| -> Result<Value> {
        let live = cluster.objects(&reference(kind, ns, name), None)?.get(name).await?;
        Ok(live.data["status"]["conditions"].clone())
    };
    until("the Gateway to say so", PATIENCE, async || {
        let said = status(Kind::Gateway, "waypoint").await?;
        let is_so = |condition: &Value| {
            condition["type"] == "Programmed"
                && condition["status"] == "True"
                && condition["message"].as_str().is_some_and(|message| message.contains("1 of 1"))
        };
        Ok(said.as_array().is_some_and(|all| all.iter().any(is_so)).then_some(()))
    })
    .await?;

    // It is killed while it writes what there is to say of these.
    let name = |number: u32| format!("policy-{number}");
    for number in 0..POLICIES {
        if number == POLICIES / 2 {
            leader.kill()?;
        }
        let mut policy = manifest(Kind::AuthorizationPolicy, ns, &name(number), "a");
        policy["spec"]["targetRefs"] =
            json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint"}]);
        cluster.apply(&policy).await?;
    }
    for number in 0..POLICIES {
        until("a policy's status", PATIENCE, async || {
            let said = status(Kind::AuthorizationPolicy, &name(number)).await?;
            let is_true =
                |condition: &Value| condition["type"] == "Programmed" && condition["status"] == "True";
            Ok(said.as_array().is_some_and(|all| all.iter().any(is_true)).then_some(()))
        })
        .await?;
    }

    let services = Api::<Service>::namespaced(cluster.admin()?, ns);
    services.delete("waypoint", &DeleteParams::default()).await?;
    until("the Service to be made again", PATIENCE, async || Ok(services.get_opt("waypoint").await?)).await?;
    assert!(writes(&other)?);
    Ok(())
}
