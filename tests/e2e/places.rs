//! Endpoints that are near, and endpoints that are about to go: which of them a real Envoy takes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use tests::{Caller, Lab, lab, lab::Setup, until};

use crate::shop::{PATIENCE, message};

/// The Service, with one more line of its specification.
fn service(line: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: mesh}}
spec:
  clusterIP: 127.10.0.120
  ports: [{{name: http, port: 80}}]
  {line}
"
    )
}

/// Its endpoints, one a zone and node, each with its conditions.
fn endpoints(a: &str, b: &str) -> String {
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: mesh, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints:
- {{addresses: [127.10.0.11], zone: a, nodeName: node-a, conditions: {{{a}}}}}
- {{addresses: [127.10.0.12], zone: b, nodeName: node-b, conditions: {{{b}}}}}
ports: [{{name: http, port: 8080, protocol: TCP}}]
"
    )
}

const READY: &str = "ready: true";
const LEAVING: &str = "ready: false, serving: true, terminating: true";

fn places(line: &str) -> Setup {
    Setup::manifests(include_str!("places.yaml"))
        .file("web.yaml", &service(line))
        .file("slice.yaml", &endpoints(READY, READY))
}

/// Who answers a number of requests on connections of their own; `503` for nobody.
async fn answering(caller: &Caller) -> Result<BTreeMap<String, usize>> {
    let mut answering = BTreeMap::new();
    for _ in 0..12 {
        let response = caller.get("web.mesh:80/").send().await?;
        let name = match response.status {
            200 => response.json()?["name"].as_str().context("no name")?.to_owned(),
            status => status.to_string(),
        };
        *answering.entry(name).or_default() += 1;
    }
    Ok(answering)
}

/// Waits until all requests are answered by `wanted` and by nobody else.
async fn answer(caller: &Caller, wanted: &[&str]) -> Result<()> {
    let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    until(&format!("{wanted:?} to answer"), PATIENCE, async || {
        let names: BTreeSet<String> = answering(caller).await?.into_keys().collect();
        Ok((names == wanted).then_some(()))
    })
    .await
}

#[test]
fn a_proxy_asks_near_endpoints_and_others_when_there_are_none() -> Result<()> {
    let setup = places("trafficDistribution: PreferSameZone");
    lab::test(&setup.bootstrap(&["--zone", "b", "--node-name", "node-b"]), async |lab| {
        let curl = lab.client("default", "curl")?;
        answer(&curl, &["web-b"]).await?;
        nothing_is_sent_by_a_restart(lab).await?;
        answer(&curl, &["web-b"]).await?;

        lab.write("slice.yaml", &endpoints(READY, "ready: false"))?;
        answer(&curl, &["web-a"]).await?;
        lab.write("slice.yaml", &endpoints(READY, READY))?;
        answer(&curl, &["web-b"]).await?;

        lab.write("web.yaml", &service(""))?;
        answer(&curl, &["web-a", "web-b"]).await?;
        lab.write("web.yaml", &service("internalTrafficPolicy: Local"))?;
        answer(&curl, &["web-b"]).await?;
        lab.write("slice.yaml", &endpoints(READY, LEAVING))?;
        answer(&curl, &["web-b"]).await?;
        lab.write("slice.yaml", &endpoints(READY, "ready: false"))?;
        answer(&curl, &["503"]).await
    })
}

async fn nothing_is_sent_by_a_restart(lab: &mut Lab) -> Result<()> {
    let logged = lab.portolan.events()?.len();
    lab.portolan.stop().await?;
    lab.portolan.restart().await?;
    let up_to_date = |event: &serde_json::Value| message(event) == "up to date";
    lab.portolan.event("Envoy to come back and be up to date", logged, up_to_date).await?;
    let events = lab.portolan.events()?.split_off(logged);
    let sent = events.iter().filter(|event| message(event) == "sent").collect::<Vec<_>>();
    ensure!(sent.iter().all(|sent| sent["resources"] == 0), "resources were sent again: {sent:?}");
    Ok(())
}

const SESSION: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: mesh}
spec:
  parentRefs: [{group: "", kind: Service, name: web}]
  rules:
  - sessionPersistence: {type: Header, sessionName: x-session}
    backendRefs: [{name: web, port: 80}]
"#;

/// Who answers a request of that session.
async fn back(caller: &Caller, session: &str) -> Result<String> {
    let response = caller.get("web.mesh:80/").header("x-session", session).send().await?;
    Ok(response.json()?["name"].as_str().context("no name")?.to_owned())
}

#[test]
fn a_session_keeps_an_endpoint_that_leaves_and_nobody_new_gets_it() -> Result<()> {
    lab::test(&places("").file("session.yaml", SESSION), async |lab| {
        let curl = lab.client("default", "curl")?;
        let mut sessions = BTreeMap::new();
        until("a session at each endpoint", PATIENCE, async || {
            let response = curl.get("web.mesh:80/").send().await?;
            let session = response.headers.get("x-session").context("no session")?.to_str()?.to_owned();
            sessions.insert(response.json()?["name"].as_str().context("no name")?.to_owned(), session);
            Ok((sessions.len() == 2).then_some(()))
        })
        .await?;

        // One is reached by its address and the other through a tunnel.
        for (a, b, leaving, staying) in
            [(LEAVING, READY, "web-a", "web-b"), (READY, LEAVING, "web-b", "web-a")]
        {
            lab.write("slice.yaml", &endpoints(a, b))?;
            answer(&curl, &[staying]).await?;
            assert_eq!(back(&curl, &sessions[leaving]).await?, leaving);
            assert_eq!(back(&curl, &sessions[staying]).await?, staying);
        }
        // Until it is gone: then the session goes on elsewhere.
        lab.write("slice.yaml", &endpoints(READY, "ready: false"))?;
        until("the session to go on elsewhere", PATIENCE, async || {
            Ok((back(&curl, &sessions["web-b"]).await? == "web-a").then_some(()))
        })
        .await?;
        Ok(())
    })
}
