//! Events: a rejection is told in the proxy's words, once, and so is that it is over.

use anyhow::Result;
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams};
use proto::Kind;
use serde_json::json;
use tests::{cluster::Cluster, until};

use crate::{
    followed::{PATIENCE, within},
    manifests::manifest,
    scribe::{Scribe, bound, cluster, live, of, said, shown},
};

/// What was told of the objects of a kind: its grade, reason, note and how often.
async fn told(cluster: &Cluster, ns: &str, kind: &str) -> Result<Vec<(String, String, String, i32)>> {
    let events = Api::<Event>::namespaced(cluster.admin()?, ns).list(&ListParams::default()).await?.items;
    let mut told = Vec::new();
    for event in events {
        let about = event.regarding.unwrap_or_default();
        if about.kind.as_deref() == Some(kind) {
            assert!(about.uid.is_some() && about.name.is_some(), "{about:?}");
            let text = |text: Option<String>| text.unwrap_or_default();
            let count = event.series.map_or(1, |series| series.count);
            told.push((text(event.type_), text(event.reason), text(event.note), count));
        }
    }
    Ok(told)
}

#[tokio::test]
async fn a_rejection_is_told_in_the_proxys_words_and_that_it_is_over() -> Result<()> {
    within(async {
        let cluster = cluster().await?;
        let (scribe, ns) = Scribe::of(&cluster, "rejected").await?;
        bound(&cluster, &ns).await?;
        let mut policy = manifest(Kind::AuthorizationPolicy, &ns, "p", "a");
        policy["spec"]["targetRefs"] = json!([{"group": "", "kind": "Service", "name": "web"}]);
        cluster.apply(&policy).await?;
        let object = of(Kind::AuthorizationPolicy, &ns, "p");
        let programmed =
            |status: &'static str| move |it: &serde_json::Value| said(it, "Programmed").0 == status;
        until("the proxy to have it", PATIENCE, async || {
            scribe.take(None);
            Ok(programmed("True")(&live(&cluster, &object).await?).then_some(()))
        })
        .await?;
        assert_eq!(told(&cluster, &ns, "AuthorizationPolicy").await?, [], "what is well is no news");
        let words = "what a proxy says ".repeat(100);
        scribe.take(Some(&words));
        shown(&cluster, &object, "the rejection", |it| said(it, "Programmed").1 == "RejectedByProxy").await?;
        let event = until("an Event of it", PATIENCE, async || {
            Ok(told(&cluster, &ns, "AuthorizationPolicy").await?.into_iter().next())
        });
        let (grade, reason, note, count) = event.await?;
        assert_eq!((grade.as_str(), reason.as_str(), count), ("Warning", "RejectedByProxy", 1));
        assert!(note.contains("what a proxy says") && note.len() <= 1024, "{note}");

        scribe.take(None);
        until("an Event that it is over", PATIENCE, async || {
            let told = told(&cluster, &ns, "AuthorizationPolicy").await?;
            Ok(told
                .iter()
                .any(|(grade, reason, ..)| (grade.as_str(), reason.as_str()) == ("Normal", "Programmed"))
                .then_some(()))
        })
        .await?;
        scribe.take(Some(&words));
        until("the same again to be counted", PATIENCE, async || {
            let told = told(&cluster, &ns, "AuthorizationPolicy").await?;
            assert!(told.len() <= 2, "{told:?}");
            Ok(told.iter().any(|(grade, _, _, count)| grade == "Warning" && *count == 2).then_some(()))
        })
        .await
    })
    .await
}

#[tokio::test]
async fn what_fails_closed_is_told_of_its_object_and_not_again_by_who_leads_next() -> Result<()> {
    within(async {
        let cluster = cluster().await?;
        let (first, ns) = Scribe::of(&cluster, "closed").await?;
        bound(&cluster, &ns).await?;
        let mut route = manifest(Kind::HTTPRoute, &ns, "r", "a");
        route["spec"]["rules"] = json!([{"backendRefs": [{"name": "missing", "port": 80}]}]);
        cluster.apply(&route).await?;
        let event = until("an Event of the route", PATIENCE, async || {
            Ok(told(&cluster, &ns, "HTTPRoute").await?.into_iter().next())
        });
        let (grade, reason, note, _) = event.await?;
        assert_eq!((grade.as_str(), reason.as_str()), ("Warning", "BackendNotFound"));
        assert!(note.starts_with("parent Service web port 80: ") && note.contains("missing"), "{note}");
        drop(first);
        let before = told(&cluster, &ns, "HTTPRoute").await?;
        let second = Scribe::start(&cluster, cluster.admin()?, &ns, crate::scribe::Manner::default())?;
        // When this is told, what was said before has been looked at.
        let mut other = manifest(Kind::HTTPRoute, &ns, "s", "a");
        other["spec"]["rules"] = json!([{"backendRefs": [{"name": "gone", "port": 80}]}]);
        cluster.apply(&other).await?;
        until("an Event of the other route", PATIENCE, async || {
            let told = told(&cluster, &ns, "HTTPRoute").await?;
            Ok(told.iter().any(|(_, _, note, _)| note.contains("gone")).then_some(()))
        })
        .await?;
        assert_eq!(told(&cluster, &ns, "HTTPRoute").await?.len(), before.len() + 1);
        drop(second);
        Ok(())
    })
    .await
}
