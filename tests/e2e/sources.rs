//! Policies that ask where a caller is: the tunnel's own address answers, never what a request says.

use anyhow::{Result, ensure};
use http::{HeaderMap, HeaderValue};
use tests::{
    Caller, Lab, caller,
    exchange::{Request, Session, Version},
    lab,
};

use crate::shop::{GATEWAY, shop, status_becomes};

/// Only the pod of `web` may ask `web` and dial `db`. The file `sources.yaml`.
const ALLOWED: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web-viewer, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: web}]
  rules: [{from: [{source: {ipBlocks: [127.10.0.11]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: db-client, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: db}]
  rules: [{from: [{source: {ipBlocks: [127.10.0.8/29]}}]}]
"#;

/// The same by what is denied.
const DENIED: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web-viewer, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: web}]
  action: DENY
  rules: [{from: [{source: {notIpBlocks: [127.10.0.11/32]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: db-client, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: db}]
  action: DENY
  rules: [{from: [{source: {ipBlocks: [127.10.0.250]}}]}]
"#;

#[test]
fn an_ip_block_is_compared_with_where_the_tunnel_comes_from_whatever_a_request_says() -> Result<()> {
    for policies in [ALLOWED, DENIED] {
        let setup = shop().file("web-policy.yaml", policies).file("db-policy.yaml", "# replaced\n");
        lab::test(&setup, async |lab| {
            // The one calls from its pod, 127.10.0.11 here; the other from 127.10.0.250.
            let (inside, outside) = (lab.client("shop", "web")?, lab.client("default", "curl")?);
            status_becomes(&inside, "web.shop/", 200).await?;
            let (at_pod, elsewhere) =
                (lab.loopback.address(11).to_string(), lab.loopback.address(250).to_string());
            is_asked(&inside, &elsewhere, 200).await?;
            is_asked(&outside, &at_pod, 403).await?;
            // The refused one first: it is told from the other by connections of the backend.
            is_dialled(lab, &outside, false).await?;
            is_dialled(lab, &inside, true).await
        })?;
    }
    Ok(())
}

#[test]
fn the_address_of_a_tunnel_is_its_connections_whatever_the_connect_says() -> Result<()> {
    let setup = shop().file("web-policy.yaml", ALLOWED).file("db-policy.yaml", "# replaced\n");
    lab::test(&setup, async |lab| {
        let (inside, outside) = (lab.client("shop", "web")?, lab.client("default", "curl")?);
        status_becomes(&inside, "web.shop/", 200).await?;
        let (web, db) =
            (lab.catalog.resolve("web.shop:80")?.address, lab.catalog.resolve("db.shop:5432")?.address);
        for header in ["x-forwarded-for", "forwarded", "x-real-ip", "x-envoy-external-address"] {
            let claimed = lab.loopback.address(11).to_string();
            let claimed = if header == "forwarded" { format!("for={claimed}") } else { claimed };
            let mut claim = HeaderMap::new();
            claim.insert(header, HeaderValue::try_from(claimed)?);
            let connection = outside.connection(GATEWAY).await?;
            let (tunnel, _) = connection.tunnel(&web.to_string(), &claim).await?;
            let mut session = Session::open(tunnel, Version::Http1, "web.shop").await?;
            let status = session.send(Request::get("/")).await?.status;
            ensure!(status == 403, "a request was let in by {header} of its CONNECT: {status}");
            let dialled = connection.tunnel(&db.to_string(), &claim).await;
            ensure!(dialled.is_err(), "a tunnel was let in by {header} of its CONNECT");
        }
        Ok(())
    })
}

/// Asks `web` with and without a header that claims another address.
async fn is_asked(caller: &Caller, claimed: &str, wanted: u16) -> Result<()> {
    for version in [Version::Http1, Version::Http2] {
        let mut session = caller.session("web.shop:80", version).await?;
        for header in ["x-forwarded-for", "x-real-ip", "forwarded", "x-envoy-external-address"] {
            let value = if header == "forwarded" { format!("for={claimed}") } else { claimed.to_owned() };
            let status = session.send(Request::get("/").header(header, &value)?).await?.status;
            ensure!(status == wanted, "{status} instead of {wanted} with {header}: {value} by {version:?}");
        }
    }
    Ok(())
}

async fn is_dialled(lab: &Lab, caller: &Caller, wanted: bool) -> Result<()> {
    let before = lab.backend("shop/db-1", 5432)?.seen().connections;
    let tunnel = caller.tunnel("db.shop:5432").await;
    let refused = tunnel.as_ref().err().and_then(caller::refusal);
    ensure!(refused == (!wanted).then_some(403), "the tunnel to db: {refused:?}");
    ensure!(
        wanted || lab.backend("shop/db-1", 5432)?.seen().connections == before,
        "the backend was reached"
    );
    Ok(())
}
