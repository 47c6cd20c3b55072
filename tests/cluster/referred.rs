//! ConfigMaps of patches: those that Gateways refer to are followed one by one while somebody does, and the
//! defaults of classes by their labels. Of others nothing is ever read.

use std::collections::BTreeMap;

use anyhow::Result;
use deploy::objects;
use k8s_openapi::api::rbac::v1::PolicyRule;
use proto::{Kind, ObjectRef};
use serde_json::{Value, json};
use tests::cluster::Cluster;
use tokio::sync::mpsc::unbounded_channel;
use translate::{Missing, Settings};
use watch::permissions;

use crate::{
    followed::{Followed, Moved, permitted, within},
    manifests::reference,
};

fn patches(namespace: &str, name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "data": {"deployment": "spec: {replicas: 4}"},
    })
}

fn settings(root: &str) -> Settings {
    Settings { root_namespace: root.into(), ..Settings::default() }
}

fn asks(object: &ObjectRef, wanted: bool) -> BTreeMap<ObjectRef, bool> {
    BTreeMap::from([(object.clone(), wanted)])
}

#[tokio::test]
async fn one_that_is_asked_for_is_followed_until_nobody_asks_any_more() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let (root, ns) = (cluster.namespace("root").await?, cluster.namespace("user").await?);
        let wanted = objects::wanted(&settings(&root));
        let allowed = permissions(&wanted);
        let account = permitted(&cluster, &root, "portolan", &allowed).await?;
        cluster.grant_in(&account, &ns, &allowed.referred).await?;
        let (ask, asked) = unbounded_channel();
        let client = cluster.client_of(&account).await?;
        let mut followed = Followed::start_asking(client, wanted, asked, &ns);
        followed.until("the source to be ready", |it| it.ready).await?;

        let own = reference(Kind::ConfigMap, &ns, "own");
        cluster.apply(&patches(&ns, "other", &json!({}))).await?;
        ask.send(asks(&own, true))?;
        let absent = |it: &Followed| it.missing.get(&own) == Some(&Some(Missing::Absent));
        followed.until("that it is not there", absent).await?;
        cluster.apply(&patches(&ns, "own", &json!({}))).await?;
        followed.until("it", |it| it.objects.contains_key(&own)).await?;
        assert_eq!(followed.missing.get(&own), Some(&None));
        cluster.delete(&own).await?;
        followed.until("its end", |it| !it.objects.contains_key(&own)).await?;
        assert!(absent(&followed));

        cluster.apply(&patches(&ns, "own", &json!({}))).await?;
        followed.until("it again", |it| it.objects.contains_key(&own)).await?;
        ask.send(asks(&own, false))?;
        followed.until("it to be forgotten", |it| !it.objects.contains_key(&own)).await?;
        ask.send(asks(&own, true))?;
        followed.until("it once more", |it| it.objects.contains_key(&own)).await?;
        assert!(!followed.objects.contains_key(&reference(Kind::ConfigMap, &ns, "other")));
        assert_eq!(followed.wrong(), [""; 0]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn one_that_may_not_be_read_is_said_and_keeps_nothing_from_starting() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let (root, ns) = (cluster.namespace("root").await?, cluster.namespace("user").await?);
        let wanted = objects::wanted(&settings(&root));
        let allowed = permissions(&wanted);
        let account = permitted(&cluster, &root, "portolan", &allowed).await?;
        let (ask, asked) = unbounded_channel();
        let own = reference(Kind::ConfigMap, &ns, "own");
        cluster.apply(&patches(&ns, "own", &json!({}))).await?;
        ask.send(asks(&own, true))?;
        let client = cluster.client_of(&account).await?;
        let mut followed = Followed::start_asking(client, wanted, asked, &ns);
        let refused = |it: &Followed| matches!(it.missing.get(&own), Some(Some(Missing::Unreadable(why))) if why.contains("forbidden"));
        followed.until("why it is not read", refused).await?;
        followed.until("the source to be ready", |it| it.ready).await?;
        let complaint = format!("configmaps/own in the namespace {ns} cannot be read");
        followed.until("a complaint", |it| it.wrong().iter().any(|text| text.starts_with(&complaint))).await?;

        // By its name is enough.
        let named = |rule: &PolicyRule| PolicyRule {
            resource_names: Some(vec!["own".to_owned()]),
            ..rule.clone()
        };
        let named: Vec<_> = allowed.referred.iter().map(named).collect();
        cluster.grant_in(&account, &ns, &named).await?;
        followed.until("it", |it| it.objects.contains_key(&own)).await?;
        followed.until("nothing to be wrong", |it| it.wrong().is_empty()).await
    })
    .await
}

#[tokio::test]
async fn defaults_of_classes_are_found_by_their_labels_and_may_be_referred_to_as_well() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let root = cluster.namespace("root").await?;
        let istio = json!({"gateway.istio.io/defaults-for-class": "istio-waypoint"});
        cluster.apply(&patches(&root, "istios", &istio)).await?;
        cluster.apply(&patches(&root, "unlabelled", &json!({}))).await?;
        let wanted = objects::wanted(&settings(&root));
        let account = permitted(&cluster, &root, "portolan", &permissions(&wanted)).await?;
        let (ask, asked) = unbounded_channel();
        let client = cluster.client_of(&account).await?;
        let mut followed = Followed::start_asking(client, wanted, asked, &root);
        followed.until("the source to be ready", |it| it.ready).await?;
        let map = |name: &str| reference(Kind::ConfigMap, &root, name);
        assert!(followed.objects.contains_key(&map("istios")), "it is there from the start");
        assert!(!followed.objects.contains_key(&map("unlabelled")));

        let ours = json!({"portolan.dev/defaults-for-class": "istio-waypoint"});
        cluster.apply(&patches(&root, "ours", &ours)).await?;
        followed.until("ours", |it| it.objects.contains_key(&map("ours"))).await?;
        ask.send(asks(&map("ours"), true))?;
        followed
            .until("it twice", |it| it.history.iter().filter(|it| it.0 == map("ours")).count() > 1)
            .await?;
        let skip = followed.history.len();
        cluster.apply(&patches(&root, "ours", &json!({"other": "label"}))).await?;
        followed.until("its labels to change", |it| it.told(skip, &map("ours"), Moved::Set)).await?;
        ask.send(asks(&map("ours"), false))?;
        followed.until("it to go", |it| !it.objects.contains_key(&map("ours"))).await?;
        let removals = followed.history.iter().filter(|it| **it == (map("ours"), Moved::Removed));
        assert_eq!(removals.count(), 1, "who still had it kept it");
        Ok(())
    })
    .await
}
