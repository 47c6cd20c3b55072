//! The objects that run waypoints: they appear, are repaired, follow what users ask for, and never take
//! over what is somebody else's. And what they say is what a real Envoy takes.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use deploy::{
    deployer::{self, Order},
    waypoint::{AUDIENCE, FIELD_MANAGER, IMAGE, ROOT_CONFIG_MAP, ROOT_KEY, Template},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Service},
    rbac::v1::PolicyRule,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use proto::{Kind, Object, ObjectRef};
use serde_json::{Value, json};
use tests::{cluster::Cluster, envoy_binary, process::Process, until};
use tokio::{
    sync::{
        mpsc::{self, Receiver, UnboundedSender},
        watch,
    },
    task::JoinHandle,
};
use translate::{Change, Mesh, Settings};

const PATIENCE: Duration = Duration::from_mins(1);

/// A mesh whose commits are the orders of a deployer that has no more permissions than it names.
struct Plant {
    mesh: Mesh,
    orders: UnboundedSender<Order>,
    leads: watch::Sender<bool>,
    told: Receiver<Change>,
    task: JoinHandle<()>,
    client: Client,
    namespace: String,
    /// The last order that was given.
    last: Option<Order>,
}

impl Plant {
    async fn start(cluster: &Cluster, base: &str) -> Result<Self> {
        let namespace = cluster.namespace(base).await?;
        Self::start_in(cluster, namespace, "portolan", |_| true).await
    }

    /// One whose deployer has only the verbs that it is given.
    async fn start_in(
        cluster: &Cluster,
        namespace: String,
        name: &str,
        given: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let account = cluster.account(&namespace, name).await?;
        let rule = |permission: deployer::Permission| PolicyRule {
            api_groups: Some(vec![permission.group.to_owned()]),
            resources: Some(vec![permission.resource.to_owned()]),
            verbs: permission
                .verbs
                .iter()
                .filter(|verb| given(verb))
                .map(|verb| (*verb).to_owned())
                .collect(),
            ..PolicyRule::default()
        };
        let rules: Vec<PolicyRule> = deployer::permissions().into_iter().map(rule).collect();
        cluster.grant(&account, &rules).await?;
        let (orders, taken) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::channel(16);
        let (leads, is_leading) = watch::channel(true);
        let task = tokio::spawn(deployer::run(cluster.client_of(&account).await?, taken, is_leading, tell));
        let (mesh, client) = (Mesh::new(Settings::default()), cluster.admin()?);
        Ok(Self { mesh, orders, leads, told, task, client, namespace, last: None })
    }

    /// Applies the Gateway `waypoint`, as users do, and tells the mesh of it as the server has it.
    async fn gateway(&mut self, cluster: &Cluster, more: Value) -> Result<()> {
        let mut manifest = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "waypoint", "namespace": self.namespace},
            "spec": {
                "gatewayClassName": "istio-waypoint",
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            },
        });
        merge(&mut manifest, more);
        cluster.apply(&manifest).await?;
        let live = cluster.objects(&self.reference(), None)?.get("waypoint").await?;
        let object = Object::decode(serde_json::to_value(live)?)?.object;
        self.commit(Change::Set(object))
    }

    fn reference(&self) -> ObjectRef {
        ObjectRef { kind: Kind::Gateway, namespace: self.namespace.as_str().into(), name: "waypoint".into() }
    }

    fn set(&mut self, manifest: Value) -> Result<()> {
        self.commit(Change::Set(Object::decode(manifest)?.object))
    }

    fn commit(&mut self, change: Change) -> Result<()> {
        let template = Template {
            image: IMAGE.to_owned(),
            xds: "portolan.mesh.svc:15010".parse()?,
            audience: AUDIENCE.to_owned(),
        };
        for (gateway, plan) in self.mesh.commit([change]).waypoints {
            let order = Order::of(&gateway, plan.as_ref(), &template);
            self.last = Some(order.clone());
            self.orders.send(order)?;
        }
        Ok(())
    }

    fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until the Deployment is as `check` has it.
    async fn deployment(&self, what: &str, check: impl Fn(&Deployment) -> bool) -> Result<Deployment> {
        until(what, PATIENCE, async || Ok(self.deployments().get_opt("waypoint").await?.filter(&check))).await
    }

    /// What is told next of what hinders.
    async fn hindrances(&mut self) -> Result<Vec<String>> {
        let told = tokio::time::timeout(PATIENCE, self.told.recv()).await?.context("the deployer ended")?;
        let Change::Hindered(_, hindrances) = told else { anyhow::bail!("{told:?}") };
        Ok(hindrances.0.into_iter().collect())
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

fn patches(namespace: &str, name: &str, labels: &Value, data: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels}, "data": data,
    })
}

#[tokio::test]
async fn a_gateway_is_run_by_objects_that_it_owns_and_nothing_is_written_twice() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut plant = Plant::start(&cluster, "deployed").await?;
    plant.gateway(&cluster, json!({})).await?;
    let deployment = plant.deployment("the Deployment", |_| true).await?;
    let gateway = cluster.objects(&plant.reference(), None)?.get("waypoint").await?;
    let owner = deployment.metadata.owner_references.context("nobody owns it")?.remove(0);
    assert_eq!((owner.kind.as_str(), Some(owner.uid)), ("Gateway", gateway.metadata.uid));
    let managers = deployment.metadata.managed_fields.unwrap_or_default();
    assert!(managers.iter().all(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER)), "{managers:?}");
    // The disruption budget is written last.
    let budgets =
        format!("/apis/policy/v1beta1/namespaces/{}/poddisruptionbudgets/waypoint", plant.namespace);
    let budget = async || {
        let request = http::Request::get(&budgets).body(Vec::new())?;
        Ok(plant.client.request::<Value>(request).await.ok())
    };
    until("the disruption budget", PATIENCE, budget).await?;
    // Its end, so that it does not make the Service again.
    plant.task.abort();
    let ended = (&mut plant.task).await;
    ensure!(ended.is_err_and(|error| error.is_cancelled()), "the deployer ended by itself");
    plant.services().delete("waypoint", &DeleteParams::default()).await?;
    // Somebody who knows nothing of what was written before, and may only look: what it would write is
    // what it says that it cannot.
    let looks = |verb: &str| ["get", "list", "watch"].contains(&verb);
    let mut reader = Plant::start_in(&cluster, plant.namespace.clone(), "reader", looks).await?;
    reader.orders.send(plant.last.clone().context("nothing was ordered")?)?;
    let told = reader.hindrances().await?;
    assert!(matches!(told.as_slice(), [one] if one.starts_with("Service ")), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn what_others_change_is_put_right_and_what_they_add_stays() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut plant = Plant::start(&cluster, "drift").await?;
    plant.gateway(&cluster, json!({})).await?;
    plant.deployment("the Deployment", |_| true).await?;
    let image = |deployment: &Deployment| {
        let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
        pod.containers.first()?.image.clone()
    };
    let drifted = json!({
        "metadata": {"annotations": {"theirs": "stays"}},
        "spec": {"replicas": 4, "template": {"spec": {"containers": [{"name": "istio-proxy", "image": "other"}]}}},
    });
    plant.deployments().patch("waypoint", &PatchParams::default(), &Patch::Strategic(&drifted)).await?;
    let repaired = plant.deployment("its image", |it| image(it).as_deref() == Some(IMAGE)).await?;
    assert_eq!(repaired.metadata.annotations.unwrap_or_default()["theirs"], "stays");
    assert_eq!(repaired.spec.and_then(|spec| spec.replicas), Some(4), "how many is not our word");
    Ok(())
}

#[tokio::test]
async fn defaults_of_a_class_change_what_runs_and_take_away_what_is_not_wanted() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut plant = Plant::start(&cluster, "defaults").await?;
    plant.gateway(&cluster, json!({})).await?;
    plant.deployment("the Deployment", |_| true).await?;
    let label = json!({"gateway.istio.io/defaults-for-class": "istio-waypoint"});
    let grace = |seconds: u32| json!({"deployment": format!("spec: {{template: {{spec: {{terminationGracePeriodSeconds: {seconds}}}}}}}")});
    let has_grace = |seconds: i64| {
        move |it: &Deployment| {
            let pod = it.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
            pod.and_then(|pod| pod.termination_grace_period_seconds) == Some(seconds)
        }
    };
    plant.set(patches("istio-system", "d", &label, &grace(70)))?;
    plant.deployment("the class's grace", has_grace(70)).await?;
    plant.set(patches("istio-system", "d", &label, &json!({"horizontalPodAutoscaler": "$patch: delete"})))?;
    plant.deployment("its own grace again", has_grace(300)).await?;
    let scalers =
        format!("/apis/autoscaling/v1/namespaces/{}/horizontalpodautoscalers/waypoint", plant.namespace);
    until("the autoscaler to go", PATIENCE, async || {
        let request = http::Request::get(&scalers).body(Vec::new())?;
        Ok(plant.client.request::<Value>(request).await.is_err().then_some(()))
    })
    .await
}

#[tokio::test]
async fn what_is_somebody_elses_is_left_alone_and_said_until_it_is_gone() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut plant = Plant::start(&cluster, "foreign").await?;
    let theirs: Service = serde_json::from_value(json!({
        "metadata": {"name": "waypoint"}, "spec": {"ports": [{"port": 80}], "selector": {"app": "theirs"}},
    }))?;
    plant.services().create(&PostParams::default(), &theirs).await?;
    plant.gateway(&cluster, json!({})).await?;
    let told = plant.hindrances().await?;
    assert!(
        matches!(told.as_slice(), [one] if one.contains("Service") && one.contains("not ours")),
        "{told:?}"
    );
    plant.deployment("the rest", |_| true).await?;
    let left = plant.services().get("waypoint").await?;
    assert_eq!(left.spec.and_then(|spec| spec.selector).unwrap_or_default()["app"], "theirs");
    plant.services().delete("waypoint", &DeleteParams::default()).await?;
    assert_eq!(plant.hindrances().await?, [""; 0], "it is gone, and ours can be made");
    plant.services().get("waypoint").await?;
    Ok(())
}

#[tokio::test]
async fn the_roots_are_in_every_namespace_with_waypoints_and_put_right_and_go_with_the_last() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut plant = Plant::start(&cluster, "roots").await?;
    let maps = Api::<ConfigMap>::namespaced(plant.client.clone(), &plant.namespace);
    let says = async |what: &str, pem: &str| {
        until(what, PATIENCE, async || {
            let map = maps.get_opt(ROOT_CONFIG_MAP).await?;
            Ok(map.filter(|map| map.data.iter().flatten().any(|(key, text)| key == ROOT_KEY && text == pem)))
        })
        .await
    };
    plant.orders.send(Order::Roots("first".to_owned()))?;
    plant.gateway(&cluster, json!({})).await?;
    let map = says("the roots", "first").await?;
    let owners = map.metadata.owner_references.unwrap_or_default();
    assert!(
        matches!(owners.as_slice(), [one] if one.kind == "Gateway" && one.name == "waypoint"),
        "{owners:?}"
    );
    plant.orders.send(Order::Roots("second".to_owned()))?;
    says("the new roots", "second").await?;
    let drifted = json!({"data": {ROOT_KEY: "theirs"}});
    maps.patch(ROOT_CONFIG_MAP, &PatchParams::default(), &Patch::Merge(&drifted)).await?;
    says("what was changed", "second").await?;
    maps.delete(ROOT_CONFIG_MAP, &DeleteParams::default()).await?;
    says("what was deleted", "second").await?;
    plant.gateway(&cluster, json!({"spec": {"gatewayClassName": "somebody-elses"}})).await?;
    until("the roots to go", PATIENCE, async || {
        Ok(maps.get_opt(ROOT_CONFIG_MAP).await?.is_none().then_some(()))
    })
    .await
}

#[tokio::test]
async fn roots_that_somebody_else_has_put_there_are_left_alone_and_said() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut plant = Plant::start(&cluster, "roots-foreign").await?;
    let maps = Api::<ConfigMap>::namespaced(plant.client.clone(), &plant.namespace);
    let theirs: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": ROOT_CONFIG_MAP}, "data": {ROOT_KEY: "theirs"}}))?;
    maps.create(&PostParams::default(), &theirs).await?;
    plant.orders.send(Order::Roots("ours".to_owned()))?;
    plant.gateway(&cluster, json!({})).await?;
    let told = plant.hindrances().await?;
    assert!(
        matches!(told.as_slice(), [one] if one.contains(ROOT_CONFIG_MAP) && one.contains("not ours")),
        "{told:?}"
    );
    assert_eq!(maps.get(ROOT_CONFIG_MAP).await?.data, theirs.data);
    maps.delete(ROOT_CONFIG_MAP, &DeleteParams::default()).await?;
    assert_eq!(plant.hindrances().await?, [""; 0], "it is gone, and ours can be made");
    assert_eq!(maps.get(ROOT_CONFIG_MAP).await?.data.unwrap_or_default()[ROOT_KEY], "ours");
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_somebody_else_runs_is_hindered_by_nothing_of_ours() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut plant = Plant::start(&cluster, "others").await?;
    let theirs: Service = serde_json::from_value(json!({
        "metadata": {"name": "waypoint", "labels": {"gateway.istio.io/managed": "istio.io-mesh-controller"}},
        "spec": {"ports": [{"port": 15008}]},
    }))?;
    plant.services().create(&PostParams::default(), &theirs).await?;
    plant.gateway(&cluster, json!({})).await?;
    assert_eq!(plant.hindrances().await?.len(), 1, "istiod's is not ours");
    plant
        .gateway(&cluster, json!({"spec": {"addresses": [{"type": "IPAddress", "value": "10.0.0.9"}]}}))
        .await?;
    assert_eq!(plant.hindrances().await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn nothing_is_written_by_who_does_not_lead_and_all_goes_when_it_is_no_waypoint() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut plant = Plant::start(&cluster, "leading").await?;
    plant.leads.send_replace(false);
    plant.gateway(&cluster, json!({})).await?;
    let mut other = Plant::start(&cluster, "leading-too").await?;
    other.gateway(&cluster, json!({})).await?;
    other.deployment("what the other one made meanwhile", |_| true).await?;
    ensure!(plant.deployments().get_opt("waypoint").await?.is_none(), "it was made by who does not lead");
    plant.leads.send_replace(true);
    plant.deployment("the Deployment", |_| true).await?;
    plant.gateway(&cluster, json!({"spec": {"gatewayClassName": "somebody-elses"}})).await?;
    until("the Deployment to go", PATIENCE, async || {
        Ok(plant.deployments().get_opt("waypoint").await?.is_none().then_some(()))
    })
    .await
}

/// What a kubelet does with the pod: it mounts the ConfigMap and runs what the container says.
#[tokio::test]
async fn envoy_takes_what_the_pod_is_started_with_and_what_ends_it() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let mut plant = Plant::start(&cluster, "kubelet").await?;
    plant.gateway(&cluster, json!({})).await?;
    let deployment = plant.deployment("the Deployment", |_| true).await?;
    let account = tests::cluster::Account { namespace: plant.namespace.clone(), name: "waypoint".to_owned() };
    let token = cluster.token(&account, Some(AUDIENCE), Duration::from_mins(10)).await?;
    let folder = tempfile::tempdir()?;
    let (config, identity) = (folder.path().join("config"), folder.path().join("identity"));
    fs::create_dir_all(&config)?;
    fs::create_dir_all(&identity)?;
    fs::write(identity.join("token"), token)?;
    let root = rcgen::generate_simple_self_signed(["root".to_owned()])?.cert.pem();
    fs::write(identity.join("root.pem"), root)?;
    let moved = |text: &str| {
        let text = text.replace("/etc/portolan", &config.display().to_string());
        text.replace("/var/run/secrets/portolan", &identity.display().to_string())
    };
    let maps = Api::<ConfigMap>::namespaced(plant.client.clone(), &plant.namespace);
    for (name, text) in maps.get("waypoint-bootstrap").await?.data.context("an empty ConfigMap")? {
        fs::write(config.join(name), moved(&text))?;
    }
    let pod = deployment.spec.and_then(|spec| spec.template.spec).context("no pod")?;
    let container = pod.containers.into_iter().next().context("no container")?;
    let ending = container.lifecycle.and_then(|it| it.pre_stop?.exec?.command).context("nothing ends it")?;
    assert_eq!(container.command, Some(vec!["envoy".to_owned()]));
    assert_eq!(ending.first().map(String::as_str), Some("envoy"));
    let envoy = envoy_binary::find(None).await?;
    let expand = |text: &String| {
        moved(text)
            .replace("$(POD_NAME)", "waypoint-1")
            .replace("$(NODE_NAME)", "node-1")
            .replace("$(CPU_LIMIT)", "2")
    };
    let runs = [container.args.unwrap_or_default(), ending[1..].to_vec()];
    for (number, arguments) in runs.iter().enumerate() {
        let mut arguments: Vec<_> = arguments.iter().map(expand).collect();
        arguments.extend(["--mode".to_owned(), "validate".to_owned()]);
        let log = folder.path().join(format!("{number}.log"));
        let mut process = Process::start("envoy", &envoy, &arguments, &log)?;
        let status = until("envoy to judge it", PATIENCE, async || process.ended()).await?;
        ensure!(status.success(), "envoy does not take {arguments:?}:\n{}", process.tail(20));
    }
    Ok(())
}
