//! A canary waypoint: it comes, is judged by its own policies, and goes, and the first one does not notice.

use anyhow::{Result, ensure};
use http::HeaderMap;
use tests::{
    Caller, Lab,
    caller::refusal,
    exchange::{Request, Session, Version},
    lab, until,
};

use crate::shop::{PATIENCE, settled, shop, waypoint};

/// The Gateway of the canary.
const CANARY: &str = "shop/next";

const GATEWAY: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: next, namespace: shop, labels: {istio.io/waypoint-for: service}}
spec:
  gatewayClassName: istio-waypoint
  addresses: [{type: IPAddress, value: 127.10.0.101}]
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
";

/// Nobody may ask `/new` of what is behind the canary.
const POLICY: &str = r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: careful, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: next}]
  action: DENY
  rules: [{to: [{operation: {paths: [/new]}}]}]
";

/// The status of a GET of `reviews`, sent through one of the waypoints as a ztunnel that chose it would.
async fn status_through(lab: &Lab, caller: &Caller, gateway: &str, path: &str) -> Result<u16> {
    let address = lab.catalog.resolve("reviews.shop:80")?.address.to_string();
    let connection = caller.connection(gateway).await?;
    let session = async {
        let (tunnel, _) = connection.tunnel(&address, &HeaderMap::new()).await?;
        Session::open(tunnel, Version::Http1, "reviews.shop").await?.send(Request::get(path)).await
    };
    match session.await {
        Ok(response) => Ok(response.status),
        Err(error) => refusal(&error).ok_or(error),
    }
}

#[test]
fn a_canary_waypoint_comes_and_goes_and_the_first_one_does_not_notice() -> Result<()> {
    lab::test(&shop().file("next.yaml", GATEWAY), async |lab| {
        let curl = lab.client("default", "curl")?;
        let becomes = async |gateway: &str, path: &str, wanted: u16| {
            until(&format!("{path} through {gateway} to be {wanted}"), PATIENCE, async || {
                Ok((status_through(lab, &curl, gateway, path).await? == wanted).then_some(()))
            })
            .await
        };
        // Nothing is bound to it: whoever asks there is refused, and the address leads nowhere.
        let unbound = status_through(lab, &curl, CANARY, "/").await?;
        ensure!(unbound >= 400, "an unbound service was served: {unbound}");
        let updates = settled(waypoint(lab)?).await?;
        let drains = waypoint(lab)?.drains().await?;
        let mut open = curl.session("reviews.shop:80", Version::Http2).await?;

        let bound = "labels: {istio.io/use-waypoint: waypoint}";
        let canary = "labels: {istio.io/use-waypoint: waypoint, istio.io/use-waypoint-canary: next}";
        lab.edit("manifests.yaml", bound, canary)?;
        becomes(CANARY, "/", 200).await?;
        assert_eq!(open.send(Request::get("/new")).await?.status, 200);

        lab.write("careful.yaml", POLICY)?;
        becomes(CANARY, "/new", 403).await?;
        assert_eq!(status_through(lab, &curl, CANARY, "/").await?, 200);
        assert_eq!(open.send(Request::get("/new")).await?.status, 200);

        // The share of the canary is the callers' ztunnels' business.
        let weighted = format!("{canary}, annotations: {{istio.io/use-waypoint-canary-weight: \"25\"}}");
        lab.edit("manifests.yaml", canary, &weighted)?;
        lab.edit("manifests.yaml", &weighted, bound)?;
        becomes(CANARY, "/", unbound).await?;
        assert_eq!(open.send(Request::get("/new")).await?.status, 200);

        // Not one resource of the first waypoint moved.
        assert_eq!(settled(waypoint(lab)?).await?, updates);
        assert_eq!(waypoint(lab)?.drains().await?, drains);
        Ok(())
    })
}
