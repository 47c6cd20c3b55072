//! The permissions that are derived from the list of kinds: they are enough, and each of them is needed.

use anyhow::{Result, ensure};
use proto::Kind;
use tests::cluster::Cluster;
use tokio::task::JoinSet;
use watch::{Permissions, Wanted, permissions};

use crate::{
    followed::{Followed, permitted, within},
    manifests::reference,
};

#[tokio::test]
async fn without_any_one_permission_the_source_is_not_ready_and_says_which() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace("rbac").await?;
        let wanted = Wanted::by_reference([reference(Kind::ConfigMap, &namespace, "istio")]);
        let mut trials = JoinSet::new();
        for (number, (lacks, less)) in lacking(&permissions(&wanted)).into_iter().enumerate() {
            let account = permitted(&cluster, &namespace, &format!("lacks-{number}"), &less).await?;
            let client = cluster.client_of(&account).await?;
            let (wanted, namespace) = (wanted.clone(), namespace.clone());
            trials.spawn(async move {
                let mut followed = Followed::start(client, wanted, &namespace);
                let named = format!("{lacks} cannot be read, nothing is served before they can be");
                followed
                    .until(&format!("a complaint about {lacks}"), |it| {
                        it.wrong().iter().any(|text| text.starts_with(&named))
                    })
                    .await?;
                // The others are there by now, or soon; this one must not be waited out.
                followed.until("all other kinds", |it| it.wrong().len() == 1).await?;
                ensure!(!followed.ready, "ready without {lacks}");
                anyhow::Ok(())
            });
        }
        ensure!(trials.len() == 2 * Kind::ALL.len(), "{} trials", trials.len());
        while let Some(trial) = trials.join_next().await {
            trial??;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_permission_that_is_granted_later_is_noticed() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace("later").await?;
        let account = cluster.account(&namespace, "portolan").await?;
        let mut followed = Followed::start(cluster.client_of(&account).await?, Wanted::default(), &namespace);
        let kinds = Kind::ALL.len() - 1;
        followed.until("a complaint about each kind", |it| it.wrong().len() == kinds).await?;
        cluster.grant(&account, &permissions(&Wanted::default()).cluster).await?;
        followed.until("the source to be ready", |it| it.ready).await?;
        followed.until("nothing to be wrong", |it| it.wrong().is_empty()).await
    })
    .await
}

/// The permissions without one verb on one resource, for each, and the resource as a complaint calls it.
fn lacking(all: &Permissions) -> Vec<(String, Permissions)> {
    let mut trials = Vec::new();
    for (index, rule) in all.cluster.iter().enumerate() {
        let group = rule.api_groups.as_ref().and_then(|groups| groups.first()).cloned().unwrap_or_default();
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                let mut less = all.clone();
                let (mut others, mut this) = (rule.clone(), rule.clone());
                others.resources.iter_mut().for_each(|resources| resources.retain(|other| other != resource));
                this.resources = Some(vec![resource.clone()]);
                this.verbs.retain(|other| other != verb);
                less.cluster.splice(index..=index, [others, this]);
                less.cluster.retain(|rule| rule.resources.as_ref().is_some_and(|list| !list.is_empty()));
                let name = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
                trials.push((name, less));
            }
        }
    }
    for (namespace, rules) in &all.namespaces {
        for (index, rule) in rules.iter().enumerate() {
            for verb in &rule.verbs {
                let mut less = all.clone();
                let rules = less.namespaces.get_mut(namespace).unwrap();
                rules[index].verbs.retain(|other| other != verb);
                let first = |list: &Option<Vec<String>>| list.as_ref().unwrap()[0].clone();
                let (resource, name) = (first(&rule.resources), first(&rule.resource_names));
                trials.push((format!("{resource}/{name} in the namespace {namespace}"), less));
            }
        }
    }
    trials
}
