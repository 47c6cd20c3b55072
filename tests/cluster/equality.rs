//! The mesh of a cluster is the mesh of its objects in a directory.

use std::{collections::BTreeMap, fs};

use anyhow::Result;
use kube::api::ListParams;
use proto::{Kind, Name, ObjectRef, TypeUrl, Version};
use serde_json::Value;
use tests::{
    case::{self, Edit},
    cluster::Cluster,
    lab,
};
use translate::{Audience, Change, Commit, Mesh, Settings, status::Status};
use watch::{Wanted, read_directory};

use crate::{
    followed::{Followed, within},
    manifests::reference,
};

/// Folders of the snapshots whose objects are put into the cluster, and how many of them it takes at least:
/// it refuses some that only a directory can hold, such as Services with addresses of their own choice.
const FOLDERS: [&str; 5] = ["binding", "entry", "filter", "policy", "route"];
const AT_LEAST: usize = 300;

#[tokio::test]
async fn a_cluster_and_a_directory_of_its_objects_are_the_same_mesh() -> Result<()> {
    within(async {
        let cluster = Cluster::start(Kind::ALL).await?;
        let settings = Settings::default();
        let wanted = Wanted::by_reference([settings.mesh_config()]);
        let mut followed = Followed::ready(cluster.admin()?, wanted.clone(), "").await?;
        let mut applied = 0;
        for edit in edits()? {
            match &edit.change {
                Change::Set(object) => {
                    make_namespace(&cluster, &object.reference().namespace).await?;
                    applied += usize::from(cluster.apply(&acceptable(&edit.manifest)?).await.is_ok());
                }
                // Some were refused, so they are not there to be removed.
                Change::Remove(object) => drop(cluster.delete(object).await),
                Change::Keys(..) | Change::Hindered(..) | Change::Missing(..) | Change::Seen(_) => {}
            }
        }
        assert!(applied >= AT_LEAST, "the API server takes only {applied} objects of the snapshots");

        let directory = tempfile::tempdir()?;
        for kind in Kind::ALL {
            let items = list(&cluster, *kind, &wanted).await?;
            let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
            fs::write(directory.path().join(format!("{}.json", kind.name())), list.to_string())?;
        }
        let (objects, _) = read_directory(directory.path(), &wanted)?;
        let objects: BTreeMap<_, _> =
            objects.into_iter().map(|object| (object.reference(), object)).collect();
        followed.until("the source to have caught up", |it| it.objects == objects).await?;

        let from_directory = State::of(settings.clone(), objects.into_values());
        let from_cluster = State::of(settings, followed.objects.values().cloned());
        assert!(from_directory.resources.len() > 50, "{} resources", from_directory.resources.len());
        assert_eq!(from_directory.resources, from_cluster.resources);
        assert_eq!(from_directory.statuses, from_cluster.statuses);
        Ok(())
    })
    .await
}

fn edits() -> Result<Vec<Edit>> {
    let cases = case::all(&lab::repository().join("tests/snapshots"))?;
    let cases = cases.into_iter().filter(|case| FOLDERS.contains(&case.folder.as_str()));
    Ok(cases
        .flat_map(|case| case.defaults.into_iter().chain(case.steps.into_iter().flat_map(|step| step.edits)))
        .collect())
}

/// The manifest as an API server takes it: addresses of Services are in its range, and pods have containers.
fn acceptable(manifest: &Value) -> Result<Value> {
    let text = manifest.to_string().replace("10.0.0.", "10.96.1.").replace("10.0.9.", "10.96.9.");
    let mut manifest: Value = serde_json::from_str(&text)?;
    if manifest["kind"] == "Pod" && manifest["spec"]["containers"].as_array().is_none_or(Vec::is_empty) {
        manifest["spec"]["containers"] = serde_json::json!([{"name": "c", "image": "none"}]);
    }
    Ok(manifest)
}

async fn make_namespace(cluster: &Cluster, name: &str) -> Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    let object = reference(Kind::Namespace, "", "");
    let object = ObjectRef { name: name.into(), ..object };
    if cluster.objects(&object, None)?.get_opt(name).await?.is_none() {
        let manifest =
            serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        cluster.apply(&manifest).await?;
    }
    Ok(())
}

/// As `kubectl get --all-namespaces -o json` prints them.
async fn list(cluster: &Cluster, kind: Kind, wanted: &Wanted) -> Result<Vec<Value>> {
    let items = cluster.everywhere(kind)?.list(&ListParams::default()).await?.items;
    let mut values = Vec::new();
    for mut item in items {
        // Items of a list do not say what they are.
        item.types = Some(cluster.types(kind));
        values.push(serde_json::to_value(item)?);
    }
    let is_wanted = |value: &Value| ObjectRef::of_manifest(value).is_some_and(|object| wanted.wants(&object));
    Ok(values.into_iter().filter(is_wanted).collect())
}

#[derive(Debug, Default)]
struct State {
    resources: BTreeMap<(Audience, TypeUrl, Name), Version>,
    statuses: BTreeMap<ObjectRef, Status>,
}

impl State {
    fn of(settings: Settings, objects: impl Iterator<Item = proto::Object>) -> Self {
        let Commit { resources, statuses, .. } = Mesh::new(settings).commit(objects.map(Change::Set));
        let mut state = Self::default();
        for (audience, delta) in resources {
            for resource in delta.set {
                let key = (audience.clone(), resource.type_url, resource.name.clone());
                state.resources.insert(key, resource.version);
            }
        }
        let statuses = statuses.into_iter().filter_map(|(object, status)| Some((object, status?)));
        state.statuses.extend(statuses);
        state
    }
}
