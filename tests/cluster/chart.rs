//! The chart: what it renders is what an API server takes, what its values promise, and what its account needs.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use deploy::permissions::permissions;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{DynamicObject, GroupVersionKind, PostParams},
    discovery::pinned_kind,
};
use proto::{Kind, Name, check};
use serde_json::{Value, json};
use tests::{
    chart::{self, Rendering},
    cluster::{Account, Cluster},
    lab,
    process::{Objects, Options, Portolan},
    until,
};
use translate::Settings;

use crate::{
    followed::{PATIENCE, within},
    manifests::manifest,
};

fn every_value() -> PathBuf {
    lab::repository().join("tests/chart/every-value.yaml")
}

fn read(path: &str) -> Value {
    let text = fs::read_to_string(lab::repository().join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// The path of each value that the schema describes.
fn described(schema: &Value, at: &str, paths: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        Some(properties) => {
            for (name, schema) in properties {
                described(schema, &format!("{at}.{name}"), paths);
            }
        }
        None => drop(paths.insert(at.trim_start_matches('.').to_owned())),
    }
}

fn at<'v>(values: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(values, |value, name| value.get(name))
}

#[test]
fn every_value_has_a_default_a_line_in_the_readme_and_another_one_in_the_tests() {
    let mut paths = BTreeSet::new();
    described(&read("deploy/chart/values.schema.json"), "", &mut paths);
    let (defaults, set) = (read("deploy/chart/values.yaml"), read("tests/chart/every-value.yaml"));
    let readme = fs::read_to_string(chart::folder().join("README.md")).unwrap();
    let lines = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let lines: BTreeSet<_> = lines.filter(|name| !name.starts_with("portolan_")).map(str::to_owned).collect();
    // That one is Helm's, not ours; and of resources only `requests` has a default.
    let own: BTreeSet<_> = paths.iter().filter(|path| *path != "global").cloned().collect();
    assert_eq!(lines, own);
    for path in &own {
        let set = at(&set, path);
        assert!(set.is_some(), "tests/chart/every-value.yaml does not set {path}");
        let default = at(&defaults, path);
        assert!(default.is_some() || path.starts_with("resources."), "no default of {path}");
        let on = path.ends_with(".enabled") && set == Some(&json!(true));
        assert!(set != default || on, "{path} is set to its default");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(read("deploy/chart/Chart.yaml")["appVersion"], version);
}

#[tokio::test]
async fn a_value_that_cannot_be_meant_is_refused_with_its_path() -> Result<()> {
    chart::lint().await?;
    for (value, words) in [
        ("log.fromat=text", "log: Additional property fromat"),
        ("replcias=3", "Additional property replcias"),
        ("replicas=0", "replicas: Must be greater than or equal to 1"),
        ("mode=both", "mode: mode must be one of"),
        ("keys.refresh=20min", "keys.refresh: Does not match"),
        ("image.digest=latest", "image.digest: Does not match"),
        ("podDisruptionBudget.maxUnavailable=half", "podDisruptionBudget.maxUnavailable: Does not match"),
        ("extraArgs=--log", "extraArgs: Invalid type"),
    ] {
        let refused = Rendering::default().set(value).objects("mesh").await;
        let error = refused.err().map(|error| format!("{error:#}"));
        ensure!(error.as_ref().is_some_and(|error| error.contains(words)), "{value}: {error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_rendered_is_taken_by_an_api_server_field_by_field() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let admin = cluster.admin()?;
        service_monitors(&admin).await?;
        let every = Rendering::default().values(&every_value());
        for (name, rendering, kinds) in [("defaults", Rendering::default(), 8), ("every-value", every, 10)] {
            let namespace = cluster.namespace(name).await?;
            let objects = rendering.objects(&namespace).await?;
            ensure!(objects.len() == kinds, "{name}: {} objects", objects.len());
            for object in objects {
                let what = format!("{name}: {} {}", object["kind"], object["metadata"]["name"]);
                let unknown = unknown(&object).with_context(|| what.clone())?;
                ensure!(unknown.is_empty(), "{what}: Kubernetes knows no {unknown:?}");
                create(&admin, object).await.with_context(|| what)?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_may_do_nothing_and_is_told_where_it_is() -> Result<()> {
    let objects = Rendering::default().objects("mesh").await?;
    let deployment = of_kind(&objects, "Deployment")?;
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0];
    let expected = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], expected);
    let env = container["env"].as_array().context("an environment")?;
    for name in ["POD_NAMESPACE", "POD_NAME", "POD_IP", "NODE_NAME"] {
        let told = env.iter().any(|env| env["name"] == name && !env["valueFrom"]["fieldRef"].is_null());
        ensure!(told, "{name} is not told");
    }
    assert_eq!(deployment["spec"]["replicas"], 2);
    // Proxies are told this address, whatever the release is called.
    let service = of_kind(&objects, "Service")?;
    assert_eq!(
        (&service["metadata"]["name"], &service["spec"]["ports"][0]["port"]),
        (&json!("portolan"), &json!(15010))
    );
    Ok(())
}

#[tokio::test]
async fn the_account_may_do_what_is_needed_and_nothing_else() -> Result<()> {
    let settings = |revision: Option<&str>| Settings { revision: revision.map(Into::into), ..<_>::default() };
    let secret = Name::from("cacerts");
    for (revision, ca_secret, rendering) in [
        (None, None, Rendering::default()),
        (Some("canary"), None, Rendering::default().set("revision=canary")),
        (None, Some(&secret), Rendering::default().set("certificates.caSecret=cacerts")),
        (Some("canary"), Some(&secret), Rendering::default().values(&every_value())),
    ] {
        let needed = permissions(&"mesh".into(), &settings(revision), ca_secret);
        // By reference, in whatever namespace: a role cannot say that, and what it does say has to be enough.
        ensure!(needed.referred.is_empty(), "no role of the chart's allows {:?}", needed.referred);
        let mut wanted = atoms(None, &needed.cluster);
        for (namespace, rules) in &needed.namespaces {
            wanted.extend(atoms(Some(namespace), rules));
        }
        let objects = rendering.objects("mesh").await?;
        let mut given = BTreeSet::new();
        for object in &objects {
            let rules: Vec<PolicyRule> = serde_json::from_value(object["rules"].clone()).unwrap_or_default();
            match object["kind"].as_str() {
                Some("ClusterRole") => given.extend(atoms(None, &rules)),
                Some("Role") => given.extend(atoms(object["metadata"]["namespace"].as_str(), &rules)),
                _ => {}
            }
        }
        let less: Vec<_> = wanted.difference(&given).collect();
        let more: Vec<_> = given.difference(&wanted).collect();
        ensure!(less.is_empty(), "the chart's roles lack {less:#?}");
        ensure!(more.is_empty(), "the chart's roles have what nothing needs: {more:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn portolan_runs_as_the_account_of_the_chart() -> Result<()> {
    within(async {
        // Of its own: it runs the waypoints of all namespaces, those of other tests too.
        let cluster = Cluster::start(Kind::ALL).await?;
        let admin = cluster.admin()?;
        let namespace = cluster.namespace("installed").await?;
        let objects = Rendering::default().objects(&namespace).await?;
        for object in &objects {
            if object["kind"] != "Deployment" {
                create(&admin, object.clone()).await?;
            }
        }
        let account = Account { namespace: namespace.clone(), name: "portolan".to_owned() };
        let token = cluster.token(&account, None, Duration::from_hours(1)).await?;
        let container = &of_kind(&objects, "Deployment")?["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().context("arguments")?.iter().filter_map(Value::as_str);
        // Where the harness has its own way. The rest is as a pod has it.
        let others = ["serve", "--listen=", "--admin=", "--state=", "--log="];
        let arguments = arguments.filter(|it| !others.iter().any(|other| it.starts_with(other)));
        let scratch = tempfile::tempdir()?;
        let own =
            [("POD_NAMESPACE", namespace.as_str()), ("POD_NAME", "portolan-0"), ("POD_IP", "127.0.0.1")];
        let portolan = Portolan::start(Options {
            objects: Objects::Kubeconfig(cluster.kubeconfig(&token)?),
            state: scratch.path().join("state"),
            scratch: scratch.path().to_owned(),
            arguments: arguments.map(str::to_owned).collect(),
            environment: own.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        })
        .await?;
        portolan.counts("portolan_leader", |leads| leads == 1).await?;

        let mut gateway = manifest(Kind::Gateway, &namespace, "waypoint", "a");
        gateway["spec"]["gatewayClassName"] = "istio-waypoint".into();
        cluster.apply(&gateway).await?;
        let deployments = Api::<Deployment>::namespaced(admin, &namespace);
        until("the waypoint's Deployment", PATIENCE, async || Ok(deployments.get_opt("waypoint").await?))
            .await?;
        let page = portolan.probe("/metrics").await?.text();
        let refused = |line: &&str| line.contains("code=\"403\"") || line.contains("code=\"401\"");
        let refused: Vec<_> = page.lines().filter(refused).collect();
        ensure!(refused.is_empty(), "the account may not do what it tries: {refused:#?}");
        Ok(())
    })
    .await
}

/// What rules allow, one by one: where, of which group and resource, which object, and what.
fn atoms(namespace: Option<&str>, rules: &[PolicyRule]) -> BTreeSet<[String; 5]> {
    let mut atoms = BTreeSet::new();
    for rule in rules {
        let names = rule.resource_names.clone().unwrap_or_else(|| vec!["*".to_owned()]);
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for (name, verb) in
                    names.iter().flat_map(|name| rule.verbs.iter().map(move |verb| (name, verb)))
                {
                    let namespace = namespace.unwrap_or("*").to_owned();
                    atoms.insert([namespace, group.clone(), resource.clone(), name.clone(), verb.clone()]);
                }
            }
        }
    }
    atoms
}

fn of_kind<'o>(objects: &'o [Value], kind: &str) -> Result<&'o Value> {
    objects.iter().find(|object| object["kind"] == kind).with_context(|| format!("no {kind} is rendered"))
}

/// The fields that the object's kind does not have in Kubernetes. A server of 1.20 drops them without a word.
fn unknown(object: &Value) -> Result<Vec<String>> {
    let object = object.clone();
    Ok(match object["kind"].as_str().unwrap_or_default() {
        "ServiceAccount" => check::<ServiceAccount>(object)?,
        "Deployment" => check::<Deployment>(object)?,
        "Service" => check::<Service>(object)?,
        "ClusterRole" => check::<ClusterRole>(object)?,
        "ClusterRoleBinding" => check::<ClusterRoleBinding>(object)?,
        "Role" => check::<Role>(object)?,
        "RoleBinding" => check::<RoleBinding>(object)?,
        "PodDisruptionBudget" => check::<PodDisruptionBudget>(object)?,
        "NetworkPolicy" => check::<NetworkPolicy>(object)?,
        // Its definition is below.
        "ServiceMonitor" => Vec::new(),
        kind => vec![format!("kind {kind}")],
    })
}

async fn create(admin: &Client, mut object: Value) -> Result<()> {
    if object["apiVersion"] == "policy/v1" {
        // 1.21 named it so, with the same fields.
        object["apiVersion"] = "policy/v1beta1".into();
    }
    let parsed: DynamicObject = serde_json::from_value(object.clone())?;
    let types = parsed.types.clone().context("an object has a kind")?;
    let (group, version) = types.api_version.rsplit_once('/').unwrap_or(("", &types.api_version));
    let (resource, _) = pinned_kind(admin, &GroupVersionKind::gvk(group, version, &types.kind)).await?;
    let api = match &parsed.metadata.namespace {
        Some(namespace) => Api::<DynamicObject>::namespaced_with(admin.clone(), namespace, &resource),
        None => Api::all_with(admin.clone(), &resource),
    };
    api.create(&PostParams::default(), &parsed).await?;
    Ok(())
}

/// Defines the operator's kind as far as we use it: a field that is not here is refused.
async fn service_monitors(admin: &Client) -> Result<()> {
    let labels = json!({"type": "object", "properties": {
        "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
    }});
    let endpoint = json!({"type": "object", "properties": {
        "port": {"type": "string"}, "path": {"type": "string"}, "interval": {"type": "string"},
    }});
    let spec = json!({"type": "object", "required": ["endpoints", "selector"], "properties": {
        "selector": labels, "endpoints": {"type": "array", "items": endpoint},
        "namespaceSelector": {"type": "object", "properties": {
            "matchNames": {"type": "array", "items": {"type": "string"}},
        }},
    }});
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": "ServiceMonitor", "plural": "servicemonitors"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
            }],
        },
    }))?;
    Api::all(admin.clone()).create(&PostParams::default(), &definition).await?;
    let kind = GroupVersionKind::gvk("monitoring.coreos.com", "v1", "ServiceMonitor");
    until("the definition of ServiceMonitors", PATIENCE, async || Ok(pinned_kind(admin, &kind).await.ok()))
        .await
        .map(drop)
}
