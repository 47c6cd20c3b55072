//! Statuses as they are on the server: what is said of each kind, what others said, and what is not written.

use anyhow::Result;
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use proto::{Kind, ObjectRef};
use serde_json::{Value, json};
use tests::{cluster::Cluster, until};
use translate::CONTROLLER;

use crate::{
    followed::{PATIENCE, within},
    manifests::manifest,
    scribe::{Manner, Scribe, bound, cluster, condition, live, of, said, shown, writer},
};

/// Says something about an object, as somebody else who may write all of its status.
async fn tamper(cluster: &Cluster, object: &ObjectRef, status: Value) -> Result<()> {
    let api = cluster.objects(object, None)?;
    let parameters = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
    api.patch_status(&object.name, &parameters, &Patch::Merge(json!({"status": status}))).await?;
    Ok(())
}

/// A waypoint with a Service, a route, a policy and a host behind it.
async fn mesh(cluster: &Cluster, ns: &str) -> Result<[ObjectRef; 5]> {
    bound(cluster, ns).await?;
    // What the deployer makes; its address is for the server to choose.
    let mut service = manifest(Kind::Service, ns, "waypoint", "a");
    service["metadata"]["labels"]["istio.io/use-waypoint"] = "none".into();
    cluster.apply(&service).await?;
    cluster.apply(&manifest(Kind::HTTPRoute, ns, "r", "a")).await?;
    let mut policy = manifest(Kind::AuthorizationPolicy, ns, "p", "a");
    policy["spec"]["targetRefs"] = json!([{"group": "", "kind": "Service", "name": "web"}]);
    cluster.apply(&policy).await?;
    let mut entry = manifest(Kind::ServiceEntry, ns, "e", "a");
    entry["metadata"]["labels"]["istio.io/use-waypoint"] = "waypoint".into();
    entry["spec"]["hosts"] = json!([format!("{ns}.example")]);
    cluster.apply(&entry).await?;
    Ok([
        of(Kind::Gateway, ns, "waypoint"),
        of(Kind::HTTPRoute, ns, "r"),
        of(Kind::AuthorizationPolicy, ns, "p"),
        of(Kind::Service, ns, "web"),
        of(Kind::ServiceEntry, ns, "e"),
    ])
}

fn is(object: &Value, kind: &str, status: &str) -> bool {
    said(object, kind).0 == status
}

fn parent(route: &Value) -> &Value {
    let parents = route["status"]["parents"].as_array().into_iter().flatten();
    parents.into_iter().find(|parent| parent["controllerName"] == CONTROLLER).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn each_kind_says_what_became_of_it_when_the_proxies_have_it() -> Result<()> {
    within(async {
        let cluster = cluster().await?;
        let (scribe, ns) = Scribe::of(&cluster, "said").await?;
        let [gateway, route, policy, service, entry] = mesh(&cluster, &ns).await?;
        shown(&cluster, &policy, "the policy to be accepted", |it| is(it, "WaypointAccepted", "True"))
            .await?;
        let unknown = shown(&cluster, &gateway, "a status", |it| is(it, "Accepted", "True")).await?;
        assert_eq!(said(&unknown, "Programmed").0, "Unknown", "nobody has looked at proxies");
        assert_eq!(unknown["status"]["addresses"], Value::Null);

        scribe.take(None);
        let programmed = |it: &Value| is(it, "Programmed", "True");
        let gateway = shown(&cluster, &gateway, "it to be programmed", programmed).await?;
        let services = Api::<Service>::namespaced(cluster.admin()?, &ns);
        let address = services.get("waypoint").await?.spec.and_then(|spec| spec.cluster_ip);
        let expected = json!([
            {"type": "Hostname", "value": format!("waypoint.{ns}.svc.cluster.local")},
            {"type": "IPAddress", "value": address},
        ]);
        assert_eq!(gateway["status"]["addresses"], expected);
        let listener = &gateway["status"]["listeners"][0];
        assert_eq!((&listener["name"], &listener["attachedRoutes"]), (&json!("mesh"), &json!(1)));
        let text = condition(&gateway["status"], "Programmed")["message"].as_str().unwrap_or_default();
        assert_eq!(text, "1 of 1 waypoint proxies have it");
        assert_eq!(condition(&gateway["status"], "Programmed")["observedGeneration"], 1);

        let route = shown(&cluster, &route, "it to be programmed", |it| {
            condition(parent(it), "Programmed")["status"] == "True"
        });
        assert_eq!(condition(parent(&route.await?), "Accepted")["status"], "True");
        shown(&cluster, &policy, "it to be programmed", programmed).await?;
        let bound =
            |it: &Value| said(it, "istio.io/WaypointBound") == ("True".into(), "WaypointAccepted".into());
        shown(&cluster, &service, "it to be bound", bound).await?;
        shown(&cluster, &entry, "it to be bound", bound).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_others_say_stays_as_it_is() -> Result<()> {
    within(async {
        let cluster = cluster().await?;
        let ns = cluster.namespace("others").await?;
        let [gateway, route, policy, service, _] = mesh(&cluster, &ns).await?;
        let theirs = json!({
            "type": "Theirs", "status": "True", "reason": "Because", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 7,
        });
        // As protobuf's JSON has it.
        let mut ztunnel = theirs.clone();
        ztunnel["type"] = "ZtunnelAccepted".into();
        ztunnel["observedGeneration"] = "7".into();
        let ingress = json!({
            "parentRef": {"kind": "Gateway", "name": "ingress"},
            "controllerName": "istio.io/gateway-controller", "conditions": [theirs],
        });
        for object in [&gateway, &service] {
            tamper(&cluster, object, json!({"conditions": [theirs]})).await?;
        }
        tamper(&cluster, &policy, json!({"conditions": [ztunnel]})).await?;
        tamper(&cluster, &route, json!({"parents": [ingress]})).await?;

        let client = writer(&cluster, &ns, &[]).await?;
        let _scribe = Scribe::start(&cluster, client, &ns, Manner::default())?;
        let accepted = |it: &Value| is(it, "WaypointAccepted", "True");
        let policy_now = shown(&cluster, &policy, "our condition", accepted).await?;
        assert_eq!(condition(&policy_now["status"], "ZtunnelAccepted"), &ztunnel);
        let now = shown(&cluster, &gateway, "our conditions", |it| is(it, "Accepted", "True")).await?;
        assert_eq!(condition(&now["status"], "Theirs"), &theirs);
        let bound = |it: &Value| is(it, "istio.io/WaypointBound", "True");
        let now = shown(&cluster, &service, "our condition", bound).await?;
        assert_eq!(condition(&now["status"], "Theirs")["reason"], "Because");
        let now = shown(&cluster, &route, "our parent", |it| !parent(it).is_null()).await?;
        assert_eq!(now["status"]["parents"][0], ingress);

        // They take theirs back: so do we, and what is ours stays.
        let ours: Vec<_> =
            policy_now["status"]["conditions"].as_array().into_iter().flatten().cloned().collect();
        let ours: Vec<_> = ours.into_iter().filter(|it| it["type"] != "ZtunnelAccepted").collect();
        tamper(&cluster, &policy, json!({"conditions": ours})).await?;
        cluster.delete(&of(Kind::Service, &ns, "web")).await?;
        let now =
            shown(&cluster, &policy, "our new condition", |it| is(it, "WaypointAccepted", "False")).await?;
        assert!(condition(&now["status"], "ZtunnelAccepted").is_null(), "{now}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_restart_writes_nothing_and_neither_does_a_change_that_says_the_same() -> Result<()> {
    within(async {
        let cluster = cluster().await?;
        let (first, ns) = Scribe::of(&cluster, "twice").await?;
        let objects = mesh(&cluster, &ns).await?;
        first.take(None);
        let programmed = |it: &Value| is(it, "Programmed", "True");
        // Proxies are asked again until they were given everything.
        until("all to be programmed", PATIENCE, async || {
            first.take(None);
            let gateway = live(&cluster, &objects[0]).await?;
            let (policy, route) = (live(&cluster, &objects[2]).await?, live(&cluster, &objects[1]).await?);
            let route = condition(parent(&route), "Programmed")["status"] == "True";
            let services = [live(&cluster, &objects[3]).await?, live(&cluster, &objects[4]).await?];
            let bound = services.iter().all(|it| is(it, "istio.io/WaypointBound", "True"));
            Ok((programmed(&gateway) && programmed(&policy) && route && bound).then_some(()))
        })
        .await?;
        drop(first);
        let versions = async || {
            let mut versions = Vec::new();
            for object in &objects {
                versions.push(live(&cluster, object).await?["metadata"]["resourceVersion"].clone());
            }
            anyhow::Ok(versions)
        };
        let before = versions().await?;
        let client = cluster.admin()?;
        let second = Scribe::start(&cluster, client, &ns, Manner::default())?;
        // An endpoint is nothing that a status says.
        let mut slice = manifest(Kind::EndpointSlice, &ns, "web-1", "a");
        slice["metadata"]["labels"]["kubernetes.io/service-name"] = "web".into();
        cluster.apply(&slice).await?;
        second.take(None);
        // Something that has to be written: when it is, everything that was said before is decided.
        let mut policy = manifest(Kind::AuthorizationPolicy, &ns, "last", "a");
        policy["spec"]["targetRefs"] = json!([{"group": "", "kind": "Service", "name": "gone"}]);
        cluster.apply(&policy).await?;
        let last = of(Kind::AuthorizationPolicy, &ns, "last");
        shown(&cluster, &last, "its status", |it| is(it, "WaypointAccepted", "False")).await?;
        assert_eq!(versions().await?, before);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn only_who_leads_writes_and_who_begins_to_lead_says_all_that_is_not_there() -> Result<()> {
    within(async {
        let cluster = cluster().await?;
        let ns = cluster.namespace("leads").await?;
        let client = writer(&cluster, &ns, &[]).await?;
        let follower = Manner { leads: false, ..Manner::default() };
        let waits = Scribe::start(&cluster, client.clone(), &ns, follower)?;
        let [_, _, policy, ..] = mesh(&cluster, &ns).await?;
        waits.take(None);
        // Another one leads, and has written: whoever waits has heard of that too.
        let leads = Scribe::start(&cluster, client, &ns, Manner::default())?;
        let accepted = |it: &Value| is(it, "WaypointAccepted", "True");
        shown(&cluster, &policy, "the leader's word", accepted).await?;
        assert_eq!(
            said(&live(&cluster, &policy).await?, "Programmed").0,
            "Unknown",
            "the leader has no proxies"
        );
        drop(leads);
        waits.leads.send_replace(true);
        let programmed = |it: &Value| is(it, "Programmed", "True");
        shown(&cluster, &policy, "what the next leader knows", programmed).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_others_change_of_ours_is_put_right() -> Result<()> {
    within(async {
        let cluster = cluster().await?;
        let (scribe, ns) = Scribe::of(&cluster, "drifts").await?;
        let [gateway, route, policy, service, _] = mesh(&cluster, &ns).await?;
        let bound = |it: &Value| is(it, "istio.io/WaypointBound", "True");
        shown(&cluster, &service, "it to be bound", bound).await?;
        let accepted = |it: &Value| is(it, "WaypointAccepted", "True");
        shown(&cluster, &policy, "it to be accepted", accepted).await?;
        shown(&cluster, &route, "our parent", |it| !parent(it).is_null()).await?;
        let told = |it: &Value| is(it, "Accepted", "True");
        shown(&cluster, &gateway, "it to be accepted", told).await?;
        let lie = |kind: &str| json!([{"type": kind, "status": "False", "reason": "Lie", "message": ""}]);
        tamper(&cluster, &policy, json!({"conditions": lie("WaypointAccepted")})).await?;
        tamper(&cluster, &service, json!({"conditions": []})).await?;
        tamper(&cluster, &route, json!({"parents": []})).await?;
        tamper(&cluster, &gateway, json!({"conditions": lie("Accepted")})).await?;
        shown(&cluster, &policy, "it to be accepted again", accepted).await?;
        shown(&cluster, &service, "it to be bound again", bound).await?;
        shown(&cluster, &route, "our parent again", |it| !parent(it).is_null()).await?;
        shown(&cluster, &gateway, "it to be accepted again", told).await?;
        drop(scribe);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_gateway_of_another_class_keeps_nothing_of_ours() -> Result<()> {
    within(async {
        let cluster = cluster().await?;
        let (scribe, ns) = Scribe::of(&cluster, "leaves").await?;
        let [gateway, ..] = mesh(&cluster, &ns).await?;
        shown(&cluster, &gateway, "it to be accepted", |it| is(it, "Accepted", "True")).await?;
        until("it to be programmed", PATIENCE, async || {
            scribe.take(None);
            Ok(is(&live(&cluster, &gateway).await?, "Programmed", "True").then_some(()))
        })
        .await?;
        let mut theirs = manifest(Kind::Gateway, &ns, "waypoint", "a");
        theirs["spec"]["gatewayClassName"] = "somebody-elses".into();
        cluster.apply(&theirs).await?;
        let nothing = |it: &Value| {
            ["conditions", "listeners", "addresses"]
                .iter()
                .all(|list| it["status"][list].as_array().is_none_or(Vec::is_empty))
        };
        shown(&cluster, &gateway, "nothing of ours", nothing).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn three_hundred_policies_at_once_all_have_their_word() -> Result<()> {
    within(async {
        let cluster = cluster().await?;
        let (_scribe, ns) = Scribe::of(&cluster, "many").await?;
        bound(&cluster, &ns).await?;
        let name = |number: usize| format!("p{number:03}");
        for number in 0..300 {
            let mut policy = manifest(Kind::AuthorizationPolicy, &ns, &name(number), "a");
            policy["spec"]["targetRefs"] = json!([{"group": "", "kind": "Service", "name": "web"}]);
            cluster.apply(&policy).await?;
        }
        for number in 0..300 {
            let policy = of(Kind::AuthorizationPolicy, &ns, &name(number));
            shown(&cluster, &policy, "its status", |it| !said(it, "WaypointAccepted").0.is_empty()).await?;
        }
        Ok(())
    })
    .await
}
