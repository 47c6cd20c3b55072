//! Objects that cannot be read: each is a complaint about itself, and stops nobody else.

use anyhow::Result;
use proto::Kind;
use serde_json::json;
use tests::cluster::Cluster;
use watch::Wanted;

use crate::{
    followed::{Followed, Moved, within},
    manifests::{manifest, reference},
};

#[tokio::test]
async fn an_object_that_cannot_be_read_stays_as_it_was_and_stops_no_other() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace("unreadable").await?;
        let ns = namespace.as_str();
        let mut bad = manifest(Kind::HTTPRoute, ns, "r", "bad");
        bad["spec"]["rules"] = json!([{"matches": [{"path": {"type": 3}}]}]);
        cluster.apply(&bad).await?;
        cluster.apply(&manifest(Kind::HTTPRoute, ns, "neighbour", "good")).await?;

        let mut followed = Followed::ready(cluster.admin()?, Wanted::default(), &namespace).await?;
        let route = reference(Kind::HTTPRoute, ns, "r");
        let about = |it: &Followed| {
            it.wrong()
                .into_iter()
                .find(|text| text.starts_with(&format!("{route}: spec.rules[0].matches[0].path.type: ")))
        };
        followed.until("a complaint with the field", |it| about(it).is_some()).await?;
        assert!(followed.objects.contains_key(&reference(Kind::HTTPRoute, ns, "neighbour")));
        assert!(!followed.objects.contains_key(&route));

        cluster.apply(&manifest(Kind::HTTPRoute, ns, "r", "good")).await?;
        followed.until("the route, mended", |it| it.told(0, &route, Moved::Set)).await?;
        followed.until("no complaint", |it| about(it).is_none()).await?;

        let skip = followed.history.len();
        cluster.apply(&bad).await?;
        followed.until("the complaint again", |it| about(it).is_some()).await?;
        assert_eq!(followed.since(skip, ns), [], "what was read last stays in force");
        cluster.delete(&route).await?;
        followed.until("its end", |it| it.told(skip, &route, Moved::Removed)).await?;
        followed.until("no complaint", |it| about(it).is_none()).await
    })
    .await
}

#[tokio::test]
async fn nothing_is_ready_while_the_mesh_configuration_cannot_be_read() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace("mesh").await?;
        let ns = namespace.as_str();
        let config = reference(Kind::ConfigMap, ns, "istio");
        let mut bad = manifest(Kind::ConfigMap, ns, "istio", "bad");
        bad["data"]["mesh"] = "a: [".into();
        cluster.apply(&bad).await?;
        // Of another name: nobody asked for it.
        cluster.apply(&manifest(Kind::ConfigMap, ns, "other", "good")).await?;

        let mut followed =
            Followed::start(cluster.admin()?, Wanted::by_reference([config.clone()]), &namespace);
        followed
            .until("a complaint", |it| it.wrong().iter().any(|text| text.starts_with(&config.to_string())))
            .await?;
        assert!(!followed.ready);
        cluster.apply(&manifest(Kind::ConfigMap, ns, "istio", "good")).await?;
        followed.until("the source to be ready", |it| it.ready).await?;
        assert!(followed.objects.contains_key(&config));
        assert!(!followed.objects.contains_key(&reference(Kind::ConfigMap, ns, "other")));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_field_that_is_newer_than_we_are_is_named() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace("newer").await?;
        let mut newer = manifest(Kind::HTTPRoute, &namespace, "r", "new");
        newer["spec"]["fancy"] = json!(true);
        cluster.apply(&newer).await?;
        let mut followed = Followed::ready(cluster.admin()?, Wanted::default(), &namespace).await?;
        let route = reference(Kind::HTTPRoute, &namespace, "r");
        assert!(followed.objects.contains_key(&route));
        let named =
            format!("{route}: spec.fancy: this version of Portolan does not know the field, it is ignored");
        followed.until("a warning", |it| it.wrong().contains(&named)).await
    })
    .await
}

#[tokio::test]
async fn a_status_that_nobody_reads_may_be_anything() -> Result<()> {
    within(async {
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace("status").await?;
        for kind in [Kind::Gateway, Kind::HTTPRoute] {
            let mut odd = manifest(kind, &namespace, "o", "new");
            // As odd as the definitions let through: which fields are lists, and by what, they say.
            odd["status"] = json!({
                "conditions": [{"type": "3", "status": 3}], "parents": [{"controllerName": 7}], "new": "none",
            });
            cluster.apply(&odd).await?;
        }
        let followed = Followed::ready(cluster.admin()?, Wanted::default(), &namespace).await?;
        for kind in [Kind::Gateway, Kind::HTTPRoute] {
            assert!(followed.objects.contains_key(&reference(kind, &namespace, "o")));
        }
        assert_eq!(followed.wrong(), [""; 0]);
        Ok(())
    })
    .await
}
