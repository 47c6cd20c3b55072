//! Routes that depend on who opened the tunnel, and routes of tunnels: only a real Envoy can tell.

use anyhow::{Context, Result, ensure};
use tests::{
    Caller,
    backend::BANNER,
    exchange::{Request, Version},
    hbone, lab, until,
};
use tokio::io::AsyncReadExt;

use crate::shop::{PATIENCE, shop};

/// `reviews` as the namespace `partner` sees it: one path of version 2, and nothing else.
const CONSUMER: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: partner}
spec:
  parentRefs: [{group: "", kind: Service, name: reviews, namespace: shop}]
  rules:
  - matches: [{path: {value: /new}}]
    backendRefs: [{name: reviews-v2, namespace: shop, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: partner, namespace: shop}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: partner}]
  to: [{group: "", kind: Service, name: reviews-v2}]
"#;

/// Tunnels to `db` go nowhere. The file `db-route.yaml`.
const NOWHERE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: db, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: db}]
  rules:
  - backendRefs: [{name: missing, port: 5432}]
"#;

#[test]
fn a_consumers_route_is_for_its_own_namespace_and_no_header_puts_a_caller_there() -> Result<()> {
    lab::test(&shop().file("consumer.yaml", CONSUMER), async |lab| {
        let partner = lab.client("partner", "curl")?;
        assert_eq!(name(&partner.get("reviews.shop/new").send().await?)?, "reviews-v2");
        assert_eq!(partner.get("reviews.shop/").status().await?, 404);

        for (namespace, account) in [("default", "curl"), ("partner-two", "curl"), ("default", "partner")] {
            let other = lab.client(namespace, account)?;
            for version in [Version::Http1, Version::Http2] {
                let mut session = other.session("reviews.shop:80", version).await?;
                let spoofed = Request::get("/new")
                    .header("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/partner/sa/curl")?
                    .header("baggage", "k8s.namespace.name=partner")?
                    .header("io.istio.peer_principal", "spiffe://cluster.local/ns/partner/sa/curl")?;
                let answered = name(&session.send(spoofed).await?)?;
                ensure!(answered == "reviews-v1", "{namespace}/{account} got {answered} by {version:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_tcp_route_moves_tunnels_after_the_policy_has_judged_them() -> Result<()> {
    lab::test(&shop().file("db-route.yaml", NOWHERE), async |lab| {
        assert_eq!(refused(&lab.client("default", "wget")?).await?, 403);
        let curl = lab.client("default", "curl")?;
        assert_eq!(refused(&curl).await?, 503);

        lab.edit("db-route.yaml", "missing", "db")?;
        until("the tunnel to open", PATIENCE, async || Ok(curl.tunnel("db.shop:5432").await.ok().map(drop)))
            .await?;
        let mut tunnel = curl.tunnel("db.shop:5432").await?;
        let mut banner = vec![0; BANNER.len()];
        tunnel.read_exact(&mut banner).await?;
        assert_eq!(banner, BANNER.as_bytes());
        Ok(())
    })
}

fn name(response: &tests::exchange::Response) -> Result<String> {
    Ok(response.json()?["name"].as_str().unwrap_or_default().to_owned())
}

/// The status with which a tunnel to `db` is refused.
async fn refused(caller: &Caller) -> Result<u16> {
    let error = caller.tunnel("db.shop:5432").await.err().context("the tunnel was opened")?;
    match error.downcast_ref::<hbone::Error>() {
        Some(hbone::Error::Refused { status, body: _ }) => Ok(*status),
        Some(_) | None => Err(error),
    }
}
