//! The mesh that the tests start from, and what several of them ask of it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::{Caller, Lab, lab::Setup, process::Envoy, until};

/// The Gateway of the shop.
pub(crate) const GATEWAY: &str = "shop/waypoint";

/// How long a change may take to arrive before a test calls it lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// `web` may be asked by `curl`, and only with GET. The file `web-policy.yaml`.
pub(crate) const WEB_POLICY: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web-viewer, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: web}]
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/curl]}}]
    to: [{operation: {methods: [GET]}}]
"#;

/// `db` may be dialled by `curl`. The file `db-policy.yaml`.
const DB_POLICY: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: db-client, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: db}]
  action: ALLOW
  rules:
  - from: [{source: {principals: [cluster.local/ns/default/sa/curl]}}]
"#;

/// All of `reviews` goes to version 1. The file `reviews-route.yaml`.
const REVIEWS_ROUTE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: reviews, port: 80}]
  rules:
  - backendRefs: [{name: reviews-v1, port: 80, weight: 100}, {name: reviews-v2, port: 80, weight: 0}]
"#;

/// The shop.
pub(crate) fn shop() -> Setup {
    Setup::manifests(include_str!("shop.yaml"))
        .file("web-policy.yaml", WEB_POLICY)
        .file("db-policy.yaml", DB_POLICY)
        .file("reviews-route.yaml", REVIEWS_ROUTE)
}

/// The waypoint of the shop.
pub(crate) fn waypoint(lab: &Lab) -> Result<&Envoy> {
    lab.envoy(GATEWAY)
}

/// Waits until a GET of `url` by `caller` has the status `wanted`.
pub(crate) async fn status_becomes(caller: &Caller, url: &str, wanted: u16) -> Result<()> {
    let what = format!("GET {url} to give {wanted}");
    until(&what, PATIENCE, async || Ok((caller.get(url).status().await? == wanted).then_some(()))).await
}

/// The counters that differ between two looks, and by how much.
pub(crate) fn moved(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let difference = |(name, now): (&String, &u64)| {
        let grown = now.saturating_sub(before.get(name).copied().unwrap_or(0));
        (grown > 0).then(|| (name.clone(), grown))
    };
    after.iter().filter_map(difference).collect()
}

/// Waits until Envoy's updates have been the same for a while, and gives them. A lab has just started
/// when a test begins to count, and a late response of the start is not what it wants to count.
pub(crate) async fn settled(envoy: &Envoy) -> Result<BTreeMap<String, u64>> {
    let start = Instant::now();
    let mut last = envoy.updates().await?;
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_millis(500) {
        ensure!(start.elapsed() < PATIENCE, "Envoy still takes updates: {last:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = envoy.updates().await?;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}

/// The message of a line of the log.
pub(crate) fn message(event: &Value) -> &str {
    event["message"].as_str().unwrap_or_default()
}
