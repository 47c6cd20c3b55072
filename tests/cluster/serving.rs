//! `portolan serve` on a cluster: it begins when the cluster answers, and goes on when it does not.

use std::time::Duration;

use anyhow::{Result, ensure};
use deploy::{ca_secret, objects};
use proto::Kind;
use serde_json::{Value, json};
use tests::{
    cluster::Cluster,
    process::{Objects, Options, Portolan, probe},
    until,
};
use tokio::net::TcpStream;
use translate::Settings;
use watch::{Permissions, permissions};

use crate::{
    followed::{PATIENCE, permitted, within},
    manifests::manifest,
};

/// What serving needs where `namespace` is ours, and the root namespace.
fn needed(namespace: &str) -> Permissions {
    let settings = Settings { root_namespace: namespace.into(), ..Settings::default() };
    let mut needed = permissions(&objects::wanted(&settings));
    for (namespace, rules) in ca_secret::permissions(&namespace.into(), None).namespaces {
        needed.namespaces.entry(namespace).or_default().extend(rules);
    }
    needed
}

#[tokio::test]
async fn it_begins_when_the_cluster_answers_and_goes_on_when_it_does_not() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace("serving").await?;
        let ns = namespace.as_str();
        cluster.apply(&manifest(Kind::Gateway, ns, "waypoint", "a")).await?;
        let mut service = manifest(Kind::Service, ns, "web", "a");
        service["metadata"]["labels"]["istio.io/use-waypoint"] = "waypoint".into();
        cluster.apply(&service).await?;

        let account = permitted(&cluster, ns, "portolan", &needed(ns)).await?;
        let token = cluster.token(&account, None, Duration::from_hours(1)).await?;
        let (kubeconfig, gate) = cluster.gated_kubeconfig(&token).await?;
        gate.shut();
        let scratch = tempfile::tempdir()?;
        let log = scratch.path().join("portolan.log");
        let starting = Portolan::start(Options {
            objects: Objects::Kubeconfig(kubeconfig),
            state: scratch.path().join("state"),
            scratch: scratch.path().to_owned(),
            arguments: ["--root-namespace", ns, "--namespace", ns].map(str::to_owned).to_vec(),
            environment: Vec::new(),
        });
        let opening = async {
            until("it to say that nothing is served", PATIENCE * 2, async || {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                Ok(text.contains("nothing is served before").then_some(()))
            })
            .await?;
            ensure!(!scratch.path().join("ready").exists(), "ready, and the cluster does not answer");
            let state = scratch.path().join("state");
            let (alive, ready) = (probe(&state, "/healthz").await?, probe(&state, "/readyz").await?);
            ensure!(alive.status == 200, "to start again would not help: {alive:?}");
            ensure!(ready.status == 503 && ready.text().contains("does not give"), "{ready:?}");
            gate.open();
            Ok(())
        };
        let (portolan, opened) = tokio::join!(starting, opening);
        opened?;
        let portolan = portolan?;
        let group = format!("{ns}/waypoint");
        let published = |event: &Value| event["message"] == "published" && event["group"] == group.as_str();
        portolan.event("what the waypoint needs", 0, published).await?;

        let skip = portolan.events()?.len();
        let mut policy = manifest(Kind::AuthorizationPolicy, ns, "nobody", "a");
        policy["spec"]["targetRefs"] = json!([{"group": "", "kind": "Service", "name": "web"}]);
        cluster.apply(&policy).await?;
        let told = portolan.event("the policy", skip, published).await?;
        assert_eq!((&told["set"], &told["removed"]), (&json!(1), &json!(0)), "{told}");

        let skip = portolan.events()?.len();
        gate.shut();
        let says =
            |event: &Value, text: &str| event["message"].as_str().is_some_and(|said| said.contains(text));
        portolan.event("a complaint", skip, |event| says(event, "what is served stays as it is")).await?;
        TcpStream::connect(portolan.address()).await?;
        gate.open();
        portolan.event("that it is over", skip, |event| says(event, "put right")).await?;
        let events = portolan.events()?;
        let moved: Vec<_> = events.iter().skip(skip).filter(|event| published(event)).collect();
        assert!(moved.is_empty(), "{moved:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_missing_is_named_kind_by_kind_until_it_is_there() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace("missing").await?;
        let (mut less, all) = (needed(&namespace), needed(&namespace));
        less.cluster.retain(|rule| rule.api_groups.as_deref() != Some(&["security.istio.io".to_owned()]));
        let account = permitted(&cluster, &namespace, "portolan", &less).await?;
        let scratch = tempfile::tempdir()?;
        let state = scratch.path().join("state");
        let token = cluster.token(&account, None, Duration::from_hours(1)).await?;
        let starting = Portolan::start(Options {
            objects: Objects::Kubeconfig(cluster.kubeconfig(&token)?),
            state: state.clone(),
            scratch: scratch.path().to_owned(),
            arguments: ["--root-namespace", &namespace, "--namespace", &namespace]
                .map(str::to_owned)
                .to_vec(),
            environment: Vec::new(),
        });
        let granting = async {
            let missing = "missing: authorizationpolicies.security.istio.io\n\
                           missing: requestauthentications.security.istio.io\n\
                           wrong: authorizationpolicies.security.istio.io cannot be read";
            until("the policies to be all that is missing", PATIENCE * 2, async || {
                let Ok(ready) = probe(&state, "/readyz").await else { return Ok(None) };
                ensure!(ready.status == 503, "ready without policies: {ready:?}");
                Ok(ready.text().contains(missing).then_some(()))
            })
            .await?;
            let rest = all.cluster.iter().filter(|rule| !less.cluster.contains(rule)).cloned();
            cluster.grant_more(&account, &rest.collect::<Vec<_>>()).await
        };
        let (portolan, granted) = tokio::join!(starting, granting);
        granted?;
        let portolan = portolan?;
        ensure!(portolan.probe("/readyz").await?.status == 200, "serving and not ready");
        let lists = "portolan_api_requests_total{verb=\"list\",resource=\"pods\",code=\"200\"}";
        portolan.counts(lists, |count| count >= 1).await
    })
    .await
}
