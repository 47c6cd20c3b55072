//! How many writes there are, as the server counts them; and what becomes of them where it does not go well.

use anyhow::{Context, Result};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{DeleteParams, ListParams};
use proto::Kind;
use serde_json::{Value, json};
use tests::{cluster::Cluster, until};
use translate::{CONTROLLER, Classes};

use crate::{
    followed::{PATIENCE, within},
    manifests::{manifest, reference},
    scribe::{Manner, Scribe, bound, cluster, condition, live, of, said, shown, writer},
};

/// As many routes as the figure is about.
const ROUTES: usize = 1_000;

/// How many requests to the status of `resource` the server has answered.
async fn writes(cluster: &Cluster, resource: &str) -> Result<u64> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let text = cluster.admin()?.request_text(request).await?;
    let lines = text.lines().filter(|line| {
        line.starts_with("apiserver_request_total{")
            && line.contains(&format!("resource=\"{resource}\""))
            && line.contains("subresource=\"status\"")
    });
    let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    // A count has no fractions.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the count of a few thousand requests"
    )]
    Ok(counts.sum::<f64>() as u64)
}

fn programmed(route: &Value) -> bool {
    let parents = route["status"]["parents"].as_array().into_iter().flatten();
    let mut ours = parents.filter(|parent| parent["controllerName"] == CONTROLLER);
    ours.any(|parent| condition(parent, "Programmed")["status"] == "True")
}

#[tokio::test]
async fn a_thousand_routes_are_a_thousand_writes_and_nothing_else_is_any() -> Result<()> {
    within(async {
        let cluster = Cluster::start(Kind::ALL).await?;
        let ns = cluster.namespace("figure").await?;
        bound(&cluster, &ns).await?;
        let route = |number: usize| {
            let mut route = manifest(Kind::HTTPRoute, &ns, &format!("r{number:04}"), "a");
            let matches = json!([{"path": {"type": "PathPrefix", "value": format!("/{number}")}}]);
            route["spec"]["rules"] =
                json!([{"matches": matches, "backendRefs": [{"name": "web", "port": 80}]}]);
            route
        };
        let numbers: Vec<_> = (0..ROUTES).collect();
        let made = numbers.chunks(ROUTES / 8).map(async |numbers| {
            for number in numbers {
                cluster.apply(&route(*number)).await?;
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(made).await?;
        let first =
            Scribe::start(&cluster, cluster.admin()?, &ns, Manner { leads: false, ..Manner::default() })?;
        let last = of(Kind::HTTPRoute, &ns, "last");
        // Proxies have it all before anything is written, as at the start of a second replica.
        let listed = of(Kind::HTTPRoute, &ns, "r0000");
        first.complete().await?;
        first.taken().await?;
        first.leads.send_replace(true);
        until("all routes to be programmed", PATIENCE, async || {
            let routes = cluster.objects(&listed, None)?.list(&ListParams::default()).await?.items;
            let done = routes.iter().filter(|route| programmed(&json!({"status": route.data["status"]})));
            Ok((done.count() == ROUTES).then_some(()))
        })
        .await?;
        let counted = writes(&cluster, "httproutes").await?;
        assert_eq!(counted, ROUTES as u64, "one write for each route");

        // Endpoints come and go, and we start again.
        let mut slice = manifest(Kind::EndpointSlice, &ns, "web-1", "a");
        slice["metadata"]["labels"]["kubernetes.io/service-name"] = "web".into();
        cluster.apply(&slice).await?;
        drop(first);
        let second = Scribe::start(&cluster, cluster.admin()?, &ns, Manner::default())?;
        second.complete().await?;
        second.taken().await?;
        cluster.delete(&of(Kind::EndpointSlice, &ns, "web-1")).await?;
        let mut other = manifest(Kind::HTTPRoute, &ns, "last", "a");
        other["spec"]["parentRefs"] = json!([{"group": "", "kind": "Service", "name": "gone"}]);
        cluster.apply(&other).await?;
        let said = |it: &Value| it["status"]["parents"].as_array().is_some_and(|parents| !parents.is_empty());
        shown(&cluster, &last, "a status", said).await?;
        assert_eq!(writes(&cluster, "httproutes").await?, counted + 1, "that of the new route alone");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn classes_of_ours_are_made_told_and_made_again_and_others_are_left_alone() -> Result<()> {
    within(async {
        let cluster = Cluster::start(Kind::ALL).await?;
        let ns = cluster.namespace("classes").await?;
        let class = |name: &str| proto::ObjectRef {
            kind: Kind::GatewayClass,
            namespace: "".into(),
            name: name.into(),
        };
        let (ours, istios) = (class("portolan-waypoint"), class("istio-waypoint"));
        let client = writer(&cluster, &ns, &[]).await?;
        let manner = Manner { classes: Classes::Beside, leads: true, sees_classes: true };
        let beside = Scribe::start(&cluster, client.clone(), &ns, manner)?;
        let classes = cluster.everywhere(Kind::GatewayClass)?;
        let is_there = async |name: &str| anyhow::Ok(classes.get_opt(name).await?.is_some().then_some(()));
        until("our class", PATIENCE, async || is_there("portolan-waypoint").await).await?;
        let made = shown(&cluster, &ours, "its status", |it| said(it, "Accepted").0 == "True").await?;
        assert_eq!(made["spec"]["controllerName"], CONTROLLER);
        assert!(
            made["status"]["supportedFeatures"].as_array().is_some_and(|list| !list.is_empty()),
            "{made}"
        );
        assert!(classes.get_opt("istio-waypoint").await?.is_none(), "beside istiod it is its own");
        drop(beside);

        let mut theirs = manifest(Kind::GatewayClass, "x", "x", "a");
        theirs["metadata"]["name"] = "istio-waypoint".into();
        theirs["spec"]["controllerName"] = "istio.io/mesh-controller".into();
        cluster.apply(&theirs).await?;
        let _replace = Scribe::start(&cluster, client, &ns, Manner { classes: Classes::Replace, ..manner })?;
        classes.delete("portolan-waypoint", &DeleteParams::default()).await?;
        until("our class again", PATIENCE, async || is_there("portolan-waypoint").await).await?;
        shown(&cluster, &ours, "its status", |it| said(it, "Accepted").0 == "True").await?;
        let istios_now = live(&cluster, &istios).await?;
        assert_eq!(istios_now["spec"]["controllerName"], "istio.io/mesh-controller");
        assert_eq!(istios_now["status"], Value::Null);
        classes.delete("istio-waypoint", &DeleteParams::default()).await?;
        let taken = shown_again(&cluster, &istios).await?;
        assert_eq!(taken["spec"]["controllerName"], CONTROLLER);
        Ok(())
    })
    .await
}

async fn shown_again(cluster: &Cluster, object: &proto::ObjectRef) -> Result<Value> {
    until("the class", PATIENCE, async || Ok(live(cluster, object).await.ok())).await
}

#[tokio::test]
async fn a_kind_that_goes_takes_nothing_else_along_and_is_told_when_it_is_back() -> Result<()> {
    within(async {
        let cluster = Cluster::start(Kind::ALL).await?;
        let ns = cluster.namespace("goes").await?;
        bound(&cluster, &ns).await?;
        let route = of(Kind::HTTPRoute, &ns, "r");
        cluster.apply(&manifest(Kind::HTTPRoute, &ns, "r", "a")).await?;
        let client = writer(&cluster, &ns, &[]).await?;
        let _scribe = Scribe::start(&cluster, client, &ns, Manner::default())?;
        let has_parents =
            |it: &Value| it["status"]["parents"].as_array().is_some_and(|parents| !parents.is_empty());
        shown(&cluster, &route, "its status", has_parents).await?;
        cluster.uninstall(Kind::HTTPRoute).await?;
        let mut policy = manifest(Kind::AuthorizationPolicy, &ns, "p", "a");
        policy["spec"]["targetRefs"] = json!([{"group": "", "kind": "Service", "name": "web"}]);
        cluster.apply(&policy).await?;
        let object = of(Kind::AuthorizationPolicy, &ns, "p");
        shown(&cluster, &object, "the policy's status", |it| said(it, "WaypointAccepted").0 == "True")
            .await?;
        cluster.install(Kind::HTTPRoute).await?;
        cluster.apply(&manifest(Kind::HTTPRoute, &ns, "r", "a")).await?;
        shown(&cluster, &route, "its status again", has_parents).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_we_may_not_write_keeps_nobody_else_waiting_and_is_written_when_we_may() -> Result<()> {
    within(async {
        let cluster = cluster().await?;
        let ns = cluster.namespace("forbidden").await?;
        let client = writer(&cluster, &ns, &["httproutes/status"]).await?;
        let _scribe = Scribe::start(&cluster, client, &ns, Manner::default())?;
        let route = of(Kind::HTTPRoute, &ns, "r");
        cluster.apply(&manifest(Kind::HTTPRoute, &ns, "r", "a")).await?;
        bound(&cluster, &ns).await?;
        let service = reference(Kind::Service, &ns, "web");
        let bound = |it: &Value| said(it, "istio.io/WaypointBound").0 == "True";
        shown(&cluster, &service, "what may be written", bound).await?;
        assert_eq!(live(&cluster, &route).await?["status"], Value::Null);
        let account = tests::cluster::Account { namespace: ns.clone(), name: "portolan".to_owned() };
        let rule = PolicyRule {
            api_groups: Some(vec!["gateway.networking.k8s.io".to_owned()]),
            resources: Some(vec!["httproutes/status".to_owned()]),
            verbs: vec!["patch".to_owned()],
            ..PolicyRule::default()
        };
        cluster.grant_in(&account, &ns, &[rule]).await.context("granting what was missing")?;
        let said = |it: &Value| it["status"]["parents"].as_array().is_some_and(|parents| !parents.is_empty());
        shown(&cluster, &route, "it when we may", said).await?;
        Ok(())
    })
    .await
}
