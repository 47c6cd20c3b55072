//! Every kind: what is added, changed and removed is told, what changes nothing is not, and kinds come and go.

use anyhow::Result;
use proto::{Kind, ObjectRef};
use serde_json::{Value, json};
use tests::cluster::Cluster;
use watch::{Wanted, permissions};

use crate::{
    followed::{Followed, Moved, permitted, within},
    manifests::{manifest, reference},
};

fn wanted(namespace: &str, name: &str) -> Wanted {
    Wanted::by_reference([reference(Kind::ConfigMap, namespace, name)])
}

#[tokio::test]
async fn each_kind_is_there_at_a_cold_start_and_its_changes_are_told() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace("kinds").await?;
        let ns = namespace.as_str();
        let wanted = Wanted::by_reference([
            reference(Kind::ConfigMap, ns, "first"),
            reference(Kind::ConfigMap, ns, "second"),
        ]);
        for kind in Kind::ALL {
            cluster.apply(&manifest(*kind, ns, "first", "old")).await?;
        }
        // Not as admin: exactly what is derived from the list of kinds has to be enough.
        let account = permitted(&cluster, ns, "portolan", &permissions(&wanted)).await?;
        let mut followed = Followed::ready(cluster.client_of(&account).await?, wanted, &namespace).await?;
        for kind in Kind::ALL {
            let first = reference(*kind, ns, "first");
            assert!(followed.objects.contains_key(&first), "{first} is not told at the start");
        }
        for kind in Kind::ALL {
            let second = reference(*kind, ns, "second");
            let skip = followed.history.len();
            cluster.apply(&manifest(*kind, ns, "second", "old")).await?;
            followed.until(&format!("{second}, added"), |it| it.told(skip, &second, Moved::Set)).await?;

            let skip = followed.history.len();
            cluster.apply(&manifest(*kind, ns, "second", "new")).await?;
            let labelled = |it: &Followed| {
                let labels = it.objects.get(&second).and_then(|object| object.metadata().labels.clone());
                it.told(skip, &second, Moved::Set) && labels.is_some_and(|labels| labels["test"] == "new")
            };
            followed.until(&format!("{second}, changed"), labelled).await?;

            cluster.delete(&second).await?;
            followed
                .until(&format!("{second}, removed"), |it| it.told(skip, &second, Moved::Removed))
                .await?;
        }
        assert_eq!(followed.wrong(), [""; 0]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_not_told() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace("nothing").await?;
        let ns = namespace.as_str();
        for kind in Kind::ALL {
            cluster.apply(&manifest(*kind, ns, "o", "old")).await?;
        }
        let mut followed = Followed::ready(cluster.admin()?, wanted(ns, "o"), &namespace).await?;
        let skip = followed.history.len();
        for kind in Kind::ALL {
            let object = reference(*kind, ns, "o");
            touch(&cluster, &object).await?;
            // Watches are in order: when this is told, everything before it was taken in.
            cluster.apply(&manifest(*kind, ns, "o", "new")).await?;
        }
        for kind in Kind::ALL {
            let object = reference(*kind, ns, "o");
            followed.until("a change that is one", |it| it.told(skip, &object, Moved::Set)).await?;
        }
        for kind in Kind::ALL {
            let object = reference(*kind, ns, "o");
            let told = followed.history.iter().skip(skip).filter(|(told, _)| *told == object).count();
            assert_eq!(told, 1, "{object}: only its label has changed, and it was told {told} times");
        }
        Ok(())
    })
    .await
}

/// Writes an object again and again, so that its resource version moves and nothing that anybody reads.
async fn touch(cluster: &Cluster, object: &ObjectRef) -> Result<()> {
    use kube::api::{Patch, PatchParams};
    let api = cluster.objects(object, None)?;
    let parameters = PatchParams::default();
    for round in 0..10 {
        let annotations = json!({"kubectl.kubernetes.io/last-applied-configuration": round.to_string()});
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        api.patch(&object.name, &parameters, &patch).await?;
        if let Some(status) = status(object.kind, round) {
            let patch = Patch::Merge(json!({"status": status}));
            api.patch_status(&object.name, &parameters, &patch).await?;
        }
    }
    Ok(())
}

/// A status that we or others write, and that nobody reads.
fn status(kind: Kind, round: u32) -> Option<Value> {
    match kind {
        // They have no status, or none that anybody writes.
        Kind::Namespace | Kind::EndpointSlice | Kind::ConfigMap => None,
        Kind::Pod => Some(json!({"message": round.to_string()})),
        Kind::Service => Some(json!({"conditions": [{
            "type": "istio.io/WaypointBound", "status": "True", "reason": "Bound",
            "message": round.to_string(), "lastTransitionTime": "2026-01-02T03:04:05Z",
        }]})),
        Kind::GatewayClass
        | Kind::Gateway
        | Kind::HTTPRoute
        | Kind::GRPCRoute
        | Kind::TCPRoute
        | Kind::TLSRoute
        | Kind::ReferenceGrant
        | Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::AuthorizationPolicy
        | Kind::RequestAuthentication => {
            Some(json!({"conditions": [{"type": "Accepted", "message": round.to_string()}]}))
        }
    }
}

#[tokio::test]
async fn a_kind_may_come_late_and_go_again() -> Result<()> {
    within(async {
        let early: Vec<_> = Kind::ALL.iter().copied().filter(|kind| *kind != Kind::TCPRoute).collect();
        let cluster = Cluster::start(&early).await?;
        let namespace = cluster.namespace("late").await?;
        let mut followed = Followed::ready(cluster.admin()?, Wanted::default(), &namespace).await?;
        let route = reference(Kind::TCPRoute, &namespace, "r");

        cluster.install(Kind::TCPRoute).await?;
        cluster.apply(&manifest(Kind::TCPRoute, &namespace, "r", "new")).await?;
        followed.until("a route of a kind that came late", |it| it.told(0, &route, Moved::Set)).await?;

        let skip = followed.history.len();
        cluster.uninstall(Kind::TCPRoute).await?;
        followed.until("its end with its kind", |it| it.told(skip, &route, Moved::Removed)).await?;

        cluster.install(Kind::TCPRoute).await?;
        cluster.apply(&manifest(Kind::TCPRoute, &namespace, "r", "new")).await?;
        followed.until("it to be there again", |it| it.told(skip, &route, Moved::Set)).await?;
        assert_eq!(followed.wrong(), [""; 0]);
        Ok(())
    })
    .await
}
