//! `portolan proxy-status` and `proxy-config` in a cluster: every replica is asked through the API server.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::rbac::v1::PolicyRule;
use proto::Kind;
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, Node},
    process::{Objects, Options, Portolan},
};

use crate::{commands::portolan, manifests::manifest};

/// Serves the Gateways of these names from a directory.
async fn serving(folder: &std::path::Path, gateways: &[&str]) -> Result<(Portolan, SocketAddr)> {
    let manifests = folder.join("manifests");
    fs::create_dir_all(&manifests)?;
    for name in gateways {
        let gateway = manifest(Kind::Gateway, "shop", name, "a");
        fs::write(manifests.join(format!("{name}.yaml")), gateway.to_string())?;
    }
    let portolan = Portolan::start(Options {
        objects: Objects::Directory(manifests),
        state: folder.join("state"),
        scratch: folder.to_owned(),
        arguments: Vec::new(),
        environment: Vec::new(),
    })
    .await?;
    let address = portolan.debug_address()?.parse()?;
    Ok((portolan, address))
}

#[tokio::test]
async fn every_replica_is_asked_and_who_does_not_answer_is_named() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let ns = cluster.namespace("replicas").await?;
    let scratch = tempfile::tempdir()?;
    let (_one, first) = serving(&scratch.path().join("one"), &["front", "both"]).await?;
    let (mut two, second) = serving(&scratch.path().join("two"), &["back", "both"]).await?;
    let node = Node::start(&cluster, "node-of-replicas").await?;
    let labels = json!({"app.kubernetes.io/name": "portolan"});
    node.run(&cluster, &ns, "portolan-a", labels.clone(), first).await?;
    node.run(&cluster, &ns, "portolan-b", labels, second).await?;
    node.run(&cluster, &ns, "another", json!({"only-in": &ns}), second).await?;

    // By whoever may list pods and forward ports there, and nothing else.
    let account = cluster.account(&ns, "operator").await?;
    let rule = |resource: &str, verbs: &[&str]| PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    };
    let rules = [rule("pods/portforward", &["create", "get"]), rule("pods", &["list"])];
    cluster.grant_in(&account, &ns, &rules).await?;
    let token = cluster.token(&account, None, Duration::from_hours(1)).await?;
    let kubeconfig = cluster.kubeconfig(&token)?;
    let status = ["proxy-status", "--control-plane-namespace", &ns, "-o", "json"];

    let told = portolan(&kubeconfig, &status).await?;
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let said: Value = serde_json::from_str(&told.out)?;
    let waypoints = said["waypoints"].as_array().context("no waypoints")?;
    let names: Vec<_> = waypoints.iter().map(|one| one["waypoint"].clone()).collect();
    assert_eq!(names, ["shop/back", "shop/both", "shop/front"]);
    let config = ["proxy-config", "shop/both", "listeners", "--control-plane-namespace", &ns, "-o", "json"];
    let told = portolan(&kubeconfig, &config).await?;
    let said: Value = serde_json::from_str(&told.out)?;
    let resources = said["waypoints"][0]["resources"].as_array().context("no resources")?;
    let names: Vec<_> = resources.iter().map(|one| one["name"].as_str().unwrap_or_default()).collect();
    let mut once = names.clone();
    once.dedup();
    assert!(names.contains(&"connect_terminate") && names == once, "both have the same: {names:?}");

    // Wherever it is, for who may list all pods.
    let selector = format!("only-in={ns}");
    let anywhere = ["proxy-status", "--selector", &selector, "-o", "json"];
    let told = portolan(&kubeconfig, &anywhere).await?;
    assert!(told.code == 1 && told.err.contains("--control-plane-namespace says where"), "{}", told.err);
    let told = portolan(&cluster.kubeconfig(cluster.admin_token())?, &anywhere).await?;
    assert_eq!((told.code, told.err.as_str()), (0, ""));

    two.kill()?;
    let told = portolan(&kubeconfig, &status).await?;
    assert_eq!(told.code, 4, "{}", told.err);
    assert!(told.err.contains("portolan-b does not answer") && told.err.contains("15014"), "{}", told.err);
    let said: Value = serde_json::from_str(&told.out)?;
    assert_eq!(said["waypoints"][0]["waypoint"], "shop/both");
    assert!(said["unanswered"]["portolan-b"].is_string(), "{said}");

    let nobody = ["proxy-status", "--control-plane-namespace", &ns, "--selector", "app=nobody"];
    let told = portolan(&kubeconfig, &nobody).await?;
    assert!(told.code == 1 && told.err.contains("there is no pod app=nobody"), "{}", told.err);
    Ok(())
}
