//! The commands of an operator, by a kubeconfig: what they change, what they say, and how they end.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use deploy::cli::Arguments;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{DynamicObject, Patch, PatchParams};
use proto::{Kind, ObjectRef};
use serde_json::{Value, json};
use tests::{cluster::Cluster, until};

use crate::{
    followed::{PATIENCE, permitted},
    manifests::{manifest, reference},
};

/// What a command printed, and its exit code.
pub(crate) struct Told {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command as a shell would.
pub(crate) async fn portolan(kubeconfig: &Path, arguments: &[&str]) -> Result<Told> {
    let kubeconfig = kubeconfig.to_str().context("no text")?;
    let arguments = [&["portolan"], arguments, &["--kubeconfig", kubeconfig]].concat();
    let arguments = Arguments::try_parse_from(arguments)?;
    tokio::task::spawn_blocking(move || {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ended = arguments.run(&mut out, &mut err);
        let mut err = String::from_utf8(err)?;
        let code = match ended {
            Ok(ending) => ending.code(),
            Err(error) => {
                err = format!("{err}error: {error:#}");
                1
            }
        };
        Ok(Told { code, out: String::from_utf8(out)?, err })
    })
    .await?
}

fn gateway(namespace: &str, name: &str) -> ObjectRef {
    reference(Kind::Gateway, namespace, name)
}

async fn read(cluster: &Cluster, object: &ObjectRef) -> Result<DynamicObject> {
    Ok(cluster.objects(object, None)?.get(&object.name).await?)
}

/// Says of the Gateway, as a control plane does, whether it is programmed.
async fn say(cluster: &Cluster, object: &ObjectRef, status: &str, message: &str) -> Result<()> {
    let generation = read(cluster, object).await?.metadata.generation;
    let condition = json!({
        "type": "Programmed", "status": status, "reason": "Said", "message": message,
        "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let patch = json!({"status": {
        "conditions": [condition], "addresses": [{"type": "IPAddress", "value": "10.96.1.1"}],
    }});
    let gateways = cluster.objects(object, None)?;
    gateways.patch_status(&object.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

async fn labels(cluster: &Cluster, namespace: &str) -> Result<Value> {
    let object = ObjectRef { kind: Kind::Namespace, namespace: "".into(), name: namespace.into() };
    Ok(serde_json::to_value(read(cluster, &object).await?.metadata.labels.unwrap_or_default())?)
}

async fn label(cluster: &Cluster, namespace: &str, labels: Value) -> Result<()> {
    let object = ObjectRef { kind: Kind::Namespace, namespace: "".into(), name: namespace.into() };
    let patch = json!({"metadata": {"labels": labels}});
    let namespaces = cluster.objects(&object, None)?;
    namespaces.patch(namespace, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

#[tokio::test]
async fn a_waypoint_is_applied_listed_and_deleted() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let ns = cluster.namespace("commands").await?;
    let admin = cluster.kubeconfig(cluster.admin_token())?;
    let object = gateway(&ns, "front");
    let told = portolan(&admin, &["waypoint", "apply", "-n", &ns, "--name", "front", "--for", "all"]).await?;
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert_eq!(told.out, format!("waypoint {ns}/front applied\n"));
    let live = read(&cluster, &object).await?;
    assert_eq!(live.metadata.labels.unwrap_or_default()["istio.io/waypoint-for"], "all");
    let managers = live.metadata.managed_fields.unwrap_or_default();
    assert_eq!(managers[0].manager.as_deref(), Some("portolan-cli"));

    // What is not said any more is not so any more, and it is listed as whoever reads it understands it.
    portolan(&admin, &["waypoint", "apply", "-n", &ns, "--name", "front", "-r", "canary"]).await?;
    cluster.apply(&manifest(Kind::Gateway, &ns, "other", "a")).await?;
    let mut ingress = manifest(Kind::Gateway, &ns, "ingress", "a");
    ingress["spec"]["gatewayClassName"] = "somebody-elses".into();
    cluster.apply(&ingress).await?;
    say(&cluster, &object, "True", "1 of 1 waypoint proxies have it").await?;
    let told = portolan(&admin, &["waypoint", "list", "-n", &ns, "-o", "json"]).await?;
    let listed: Value = serde_json::from_str(&told.out)?;
    let shown =
        |field: &str| listed.as_array().unwrap().iter().map(|one| one[field].clone()).collect::<Vec<_>>();
    assert_eq!(shown("name"), ["front", "other"]);
    assert_eq!(shown("for"), ["service", "service"]);
    assert_eq!(shown("programmed"), ["True", "Unknown"]);
    assert_eq!(listed[0]["addresses"], json!(["10.96.1.1"]));
    assert_eq!(listed[0]["revision"], "canary");
    let told = portolan(&admin, &["waypoint", "list", "-A"]).await?;
    assert!(told.out.lines().any(|line| line.starts_with(&ns) && line.contains("front")), "{}", told.out);

    // A field that somebody else has set is theirs, unless it is taken.
    let apply = ["waypoint", "apply", "-n", &ns, "--name", "other", "--class", "portolan-waypoint"];
    let told = portolan(&admin, &apply).await?;
    assert!(told.code == 1 && told.err.contains("--overwrite") && told.err.contains("tests"), "{}", told.err);
    let told = portolan(&admin, &[&apply[..], &["--overwrite"]].concat()).await?;
    assert_eq!(told.code, 0, "{}", told.err);
    assert_eq!(
        read(&cluster, &gateway(&ns, "other")).await?.data["spec"]["gatewayClassName"],
        "portolan-waypoint"
    );

    let delete = ["waypoint", "delete", "-n", &ns];
    let told = portolan(&admin, &[&delete[..], &["gone", "ingress", "front"]].concat()).await?;
    assert_eq!(told.code, 1);
    assert_eq!(told.out, format!("waypoint {ns}/front deleted\n"));
    assert!(told.err.contains("gone is not deleted: it is not there"), "{}", told.err);
    assert!(
        told.err.contains("ingress is not deleted: it is a Gateway of the class somebody-elses"),
        "{}",
        told.err
    );
    let told = portolan(&admin, &[&delete[..], &["--revision", "canary"]].concat()).await?;
    assert!(told.code == 0 && told.err.contains("there is no such waypoint"), "{}", told.err);
    let told = portolan(&admin, &[&delete[..], &["--all"]].concat()).await?;
    assert_eq!((told.code, told.out), (0, format!("waypoint {ns}/other deleted\n")));
    read(&cluster, &gateway(&ns, "ingress")).await?;
    Ok(())
}

#[tokio::test]
async fn who_waits_is_told_when_it_is_programmed_and_otherwise_why_not() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let ns = cluster.namespace("waiting").await?;
    let admin = cluster.kubeconfig(cluster.admin_token())?;
    let apply = ["waypoint", "apply", "-n", &ns, "--wait", "--enroll-namespace"];
    let told = portolan(&admin, &[&apply[..], &["--waypoint-timeout", "1s"]].concat()).await?;
    assert_eq!(told.code, 3, "{}", told.err);
    assert!(told.err.contains("nobody has written a status"), "{}", told.err);
    assert!(told.err.contains("istio.io/dataplane-mode=ambient"), "{}", told.err);
    assert_eq!(labels(&cluster, &ns).await?["istio.io/use-waypoint"], Value::Null);

    let object = gateway(&ns, "waypoint");
    say(&cluster, &object, "False", "1 proxy cannot have it").await?;
    let told = portolan(&admin, &["waypoint", "status", "-n", &ns, "--wait=false"]).await?;
    assert!(told.code == 3 && told.out.contains("1 proxy cannot have it"), "{}{}", told.out, told.err);
    label(&cluster, &ns, json!({"istio.io/dataplane-mode": "ambient"})).await?;
    let waiting = portolan(&admin, &apply);
    let programming = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        say(&cluster, &object, "True", "2 of 2 waypoint proxies have it").await
    };
    let (told, programmed) = tokio::join!(waiting, programming);
    programmed?;
    let told = told?;
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    assert!(told.out.contains("is ready\n") && told.out.contains("labeled with"), "{}", told.out);
    assert_eq!(labels(&cluster, &ns).await?["istio.io/use-waypoint"], "waypoint");

    // What was true of what it was is not said of what it is.
    let told = portolan(&admin, &["waypoint", "apply", "-n", &ns, "--class", "portolan-waypoint"]).await?;
    assert_eq!(told.code, 0, "{}", told.err);
    let told = portolan(&admin, &["waypoint", "status", "-n", &ns, "--timeout", "1s", "waypoint"]).await?;
    assert!(told.code == 3 && told.out.contains("said of generation"), "{}", told.out);
    let told = portolan(&admin, &["waypoint", "status", "-n", &ns, "nobody"]).await?;
    assert!(told.code == 1 && told.err.contains("there is no waypoint nobody in"), "{}", told.err);
    Ok(())
}

#[tokio::test]
async fn a_namespace_uses_another_waypoint_only_if_that_is_asked_for() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let ns = cluster.namespace("enrolled").await?;
    label(
        &cluster,
        &ns,
        json!({
            "istio.io/use-waypoint": "theirs", "istio.io/use-waypoint-namespace": "far", "istio.io/dataplane-mode": "ambient",
        }),
    )
    .await?;
    // The namespace is that of the context, if none is named.
    let text = fs::read_to_string(cluster.kubeconfig(cluster.admin_token())?)?;
    let mut config: Value = serde_json::from_str(&text)?;
    config["contexts"][0]["context"]["namespace"] = ns.as_str().into();
    let scratch = tempfile::tempdir()?;
    let admin = scratch.path().join("kubeconfig");
    fs::write(&admin, config.to_string())?;
    let apply = ["waypoint", "apply", "--enroll-namespace"];
    let told = portolan(&admin, &apply).await?;
    assert!(
        told.code == 1 && told.err.contains("uses the waypoint theirs of the namespace far"),
        "{}",
        told.err
    );
    let gateways = cluster.objects(&gateway(&ns, "waypoint"), None)?;
    assert!(
        gateways.get_opt("waypoint").await?.is_none(),
        "it was applied, and the namespace does not use it"
    );
    let told = portolan(&admin, &[&apply[..], &["--overwrite"]].concat()).await?;
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let now = labels(&cluster, &ns).await?;
    assert_eq!(
        (&now["istio.io/use-waypoint"], &now["istio.io/use-waypoint-namespace"]),
        (&json!("waypoint"), &Value::Null)
    );
    let told = portolan(&admin, &["waypoint", "delete", "waypoint"]).await?;
    assert!(told.code == 0 && told.err.contains("still has the label"), "{}", told.err);
    Ok(())
}

#[tokio::test]
async fn why_is_answered_by_the_cluster_as_it_is_and_not_without_reading_all_of_it() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let ns = cluster.namespace("asked").await?;
    cluster.apply(&manifest(Kind::Gateway, &ns, "waypoint", "a")).await?;
    let mut service = manifest(Kind::Service, &ns, "web", "a");
    service["metadata"]["labels"]["istio.io/use-waypoint"] = "waypoint".into();
    cluster.apply(&service).await?;
    let wanted = watch::Wanted::by_reference([reference(Kind::ConfigMap, &ns, "istio")]);
    let permissions = watch::permissions(&wanted);
    let account = permitted(&cluster, &ns, "reader", &permissions).await?;
    let token = cluster.token(&account, None, Duration::from_hours(1)).await?;
    let reader = cluster.kubeconfig(&token)?;
    let to = format!("web.{ns}:80");
    let why = ["why", "--from", "a/b", "--to", &to, "--root-namespace", &ns, "GET", "/"];
    let told = portolan(&reader, &why).await?;
    assert!(told.code == 0 && told.out.starts_with("ALLOWED"), "{}{}", told.out, told.err);
    let mut policy = manifest(Kind::AuthorizationPolicy, &ns, "nobody", "a");
    policy["spec"]["targetRefs"] = json!([{"group": "", "kind": "Service", "name": "web"}]);
    cluster.apply(&policy).await?;
    let told = portolan(&reader, &why).await?;
    assert!(told.code == 1 && told.out.contains("AuthorizationPolicy"), "{}{}", told.out, told.err);
    // A policy that may not be read could be the one that denies.
    let blind = cluster.account(&ns, "blind").await?;
    let rules: Vec<PolicyRule> = permissions
        .cluster
        .iter()
        .filter(|rule| rule.api_groups != Some(vec!["security.istio.io".to_owned()]))
        .cloned()
        .collect();
    ensure!(rules.len() + 1 == permissions.cluster.len(), "which rule is about policies?");
    cluster.grant(&blind, &rules).await?;
    cluster.grant_in(&blind, &ns, &permissions.namespaces[ns.as_str()]).await?;
    let kubeconfig = cluster.kubeconfig(&cluster.token(&blind, None, Duration::from_hours(1)).await?)?;
    // The last of the rules may be in force a moment after the others.
    let told = until("every other kind to be readable", PATIENCE, async || {
        let told = portolan(&kubeconfig, &why).await?;
        Ok(told.err.contains("security.istio.io").then_some(told))
    });
    let told = told.await?;
    assert!(told.code == 2 && told.out.is_empty(), "{}", told.err);
    Ok(())
}

#[tokio::test]
async fn what_a_cluster_becomes_is_printed_with_the_patches_that_its_gateways_refer_to() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let ns = cluster.namespace("printed").await?;
    let admin = cluster.kubeconfig(cluster.admin_token())?;
    let mut gateway = manifest(Kind::Gateway, &ns, "waypoint", "a");
    gateway["spec"]["infrastructure"] =
        json!({"parametersRef": {"group": "", "kind": "ConfigMap", "name": "patches"}});
    cluster.apply(&gateway).await?;
    let name = format!("{ns}/waypoint");
    let more = ["--gateway", &name, "--root-namespace", &ns, "-o", "json"];
    let objects = [&["waypoint", "objects"], &more[..]].concat();
    let told = portolan(&admin, &objects).await?;
    assert!(told.code == 1 && told.out.is_empty(), "{}", told.out);
    assert!(told.err.contains(&format!("there is no ConfigMap {ns}/patches")), "{}", told.err);

    let patches = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "patches", "namespace": ns},
        "data": {"service": "spec: {type: LoadBalancer}"},
    });
    cluster.apply(&patches).await?;
    let told = portolan(&admin, &objects).await?;
    // What others of this server have that cannot be read is told too, and is none of its business.
    assert!(told.out.contains("\"LoadBalancer\""), "{}{}", told.out, told.err);

    let told = portolan(&admin, &[&["translate"], &more[..]].concat()).await?;
    let report: Value = serde_json::from_str(&told.out)?;
    assert_eq!(report["waypoints"][0]["gateway"], name.as_str());
    assert!(report["waypoints"][0]["resources"]["Listener"].is_array(), "{report}");
    Ok(())
}
