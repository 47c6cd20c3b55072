//! CUSTOM policies: an extension provider is asked about what their rules match, and about nothing else.

use anyhow::Result;
use tests::{
    Lab,
    exchange::{Request, Response, Version},
    lab,
};

use crate::shop::{shop, status_becomes};

/// A service that is asked, by HTTP and by gRPC, one that refuses whatever it is asked, one that
/// never answers, and one that nobody is behind. The file `authz.yaml`.
pub(crate) const AUTHZ: &str = r"
apiVersion: v1
kind: Service
metadata: {name: authz, namespace: shop}
spec: {clusterIP: 127.10.0.117, ports: [{name: http, port: 8000}, {name: grpc, port: 9000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: authz-1, namespace: shop, labels: {kubernetes.io/service-name: authz}}
addressType: IPv4
endpoints: [{addresses: [127.10.0.17], conditions: {ready: true}}]
ports: [{name: http, port: 8000, protocol: TCP}, {name: grpc, port: 9000, protocol: TCP}]
---
apiVersion: v1
kind: Pod
metadata: {name: authz-1, namespace: shop, labels: {app: authz}}
spec: {serviceAccountName: authz, containers: [{name: authz, image: authz, ports: [{containerPort: 8000}, {containerPort: 9000}]}]}
status: {phase: Running, podIP: 127.10.0.17, podIPs: [{ip: 127.10.0.17}]}
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: shop}
spec: {clusterIP: 127.10.0.118, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: strict, namespace: shop}
spec: {clusterIP: 127.10.0.119, ports: [{name: grpc, port: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: silent, namespace: shop}
spec: {clusterIP: 127.10.0.120, ports: [{name: grpc, port: 9000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: silent-1, namespace: shop, labels: {kubernetes.io/service-name: silent}}
addressType: IPv4
endpoints: [{addresses: [127.10.0.17], conditions: {ready: true}}]
ports: [{name: grpc, port: 9000, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: strict-1, namespace: shop, labels: {kubernetes.io/service-name: strict}}
addressType: IPv4
endpoints: [{addresses: [127.10.0.17], conditions: {ready: true}}]
ports: [{name: grpc, port: 9000, protocol: TCP}]
";

/// `foo` asks by HTTP, `foo-n` and `strict` by gRPC. The file `mesh.yaml`.
pub(crate) const MESH: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: foo
      envoyExtAuthzHttp:
        service: authz.shop.svc.cluster.local
        port: 8000
        pathPrefix: /check
        includeRequestHeadersInCheck: [x-answer]
        includeAdditionalHeadersInCheck: {x-from: 100% waypoint}
        headersToDownstreamOnDeny: [content-type]
        headersToUpstreamOnAllow: ['*-type']
        includeRequestBodyInCheck: {maxRequestBytes: 64}
    - name: foo-n
      envoyExtAuthzGrpc: {service: shop/authz.shop.svc.cluster.local, port: 9000}
    - name: strict
      envoyExtAuthzGrpc: {service: strict.shop.svc.cluster.local, port: 9000, clearRouteCache: true, includeRequestBodyInCheck: {maxRequestBytes: 64}}
    - name: silent
      envoyExtAuthzGrpc: {service: silent.shop.svc.cluster.local, port: 9000}
";

/// A policy that has `provider` asked about what `rule` matches at `service`.
pub(crate) fn custom(service: &str, provider: &str, rule: &str) -> String {
    format!(
        r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {service}-{provider}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, group: "", name: {service}}}]
  action: CUSTOM
  provider: {{name: {provider}}}
  rules: [{rule}]
---
"#
    )
}

pub(crate) const ADMIN: &str = r#"{to: [{operation: {paths: ["/admin*"]}}]}"#;

/// How often the provider has been asked, by HTTP and by gRPC.
pub(crate) fn asked(lab: &Lab) -> Result<(u64, u64)> {
    let seen = |port| anyhow::Ok(lab.backend("shop/authz-1", port)?.seen().requests);
    Ok((seen(8000)?, seen(9000)?))
}

async fn get(lab: &Lab, path: &str, header: Option<(&str, &str)>) -> Result<Response> {
    let curl = lab.client("default", "curl")?;
    let call = curl.get(&format!("web.shop{path}"));
    header.into_iter().fold(call, |call, (name, value)| call.header(name, value)).send().await
}

#[test]
fn a_provider_is_asked_by_http_about_what_the_rules_match_and_its_refusal_is_the_answer() -> Result<()> {
    let deny = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: web}]
  action: DENY
  rules: [{to: [{operation: {paths: ["*/d"]}}]}]
"#;
    let policies = custom("web", "foo", ADMIN) + deny;
    let setup = shop().file("authz.yaml", AUTHZ).file("mesh.yaml", MESH).file("web-policy.yaml", &policies);
    lab::test(&setup, async |lab| {
        let curl = lab.client("default", "curl")?;
        assert_eq!(get(lab, "/x", None).await?.status, 200);
        assert_eq!(asked(lab)?, (0, 0));
        assert_eq!(get(lab, "/admin", None).await?.status, 200);
        assert_eq!(asked(lab)?, (1, 0));
        // The provider answers as the header says, and tells what it was asked.
        let refused = get(lab, "/admin?q", Some(("x-answer", "418"))).await?;
        let said = refused.json()?;
        assert_eq!((refused.status, said["name"].as_str()), (418, Some("authz-1")));
        assert_eq!(said["path"], "/check/admin?q");
        assert_eq!(said["headers"]["x-from"][0], "100% waypoint");
        assert_eq!(refused.headers["content-type"], "application/json");
        // It gets the body, and what it says besides yes goes on to the backend.
        let mut session = curl.session("web.shop:80", Version::Http2).await?;
        let sent = Request::post("/admin").body("0123456789").header("x-answer", "418")?;
        assert_eq!(session.send(sent).await?.json()?["body"], 10);
        let allowed = session.send(Request::post("/admin").body("0123456789")).await?.json()?;
        assert_eq!((&allowed["name"], &allowed["body"]), (&"web-1".into(), &10.into()));
        assert_eq!(allowed["headers"]["content-type"][0], "application/json");
        // A body that is too large to be asked about is refused.
        assert_eq!(session.send(Request::post("/admin").body("x".repeat(20_000))).await?.status, 413);
        // What it permits is judged like everything else.
        assert_eq!(get(lab, "/admin/d", None).await?.text(), "RBAC: access denied");
        assert_eq!(asked(lab)?, (5, 0));

        // Nobody answers: refused with 403, with another status, or not at all, as the mesh says.
        lab.edit(
            "mesh.yaml",
            "authz.shop.svc.cluster.local\n        port: 8000",
            "nobody.shop.svc.cluster.local\n        port: 80",
        )?;
        status_becomes(&curl, "web.shop/admin", 403).await?;
        lab.edit("mesh.yaml", "pathPrefix: /check", "statusOnError: \"502\"")?;
        status_becomes(&curl, "web.shop/admin", 502).await?;
        lab.edit("mesh.yaml", "statusOnError: \"502\"", "failOpen: true")?;
        status_becomes(&curl, "web.shop/admin", 200).await?;
        // A mistake, whatever else it says: what the rules match is denied, and the rest is not.
        lab.edit("mesh.yaml", "port: 80\n", "port: 999999\n")?;
        status_becomes(&curl, "web.shop/admin", 403).await?;
        assert_eq!(get(lab, "/admin", None).await?.text(), "RBAC: access denied");
        assert_eq!(get(lab, "/x", None).await?.status, 200);
        lab.remove("mesh.yaml")?;
        assert_eq!(get(lab, "/admin", None).await?.status, 403);
        // And back: what is asked again is asked at once, on what is running.
        lab.write("mesh.yaml", MESH)?;
        status_becomes(&curl, "web.shop/admin", 200).await?;
        assert_eq!(get(lab, "/x", None).await?.status, 200);
        Ok(())
    })
}

#[test]
fn two_providers_are_asked_each_about_its_own_rules_only() -> Result<()> {
    let policies = custom("web", "foo", ADMIN)
        + &custom("web", "foo-n", r#"{to: [{operation: {paths: ["/admin/n*", "/n"]}}]}"#);
    let setup = shop().file("authz.yaml", AUTHZ).file("mesh.yaml", MESH).file("web-policy.yaml", &policies);
    lab::test(&setup, async |lab| {
        for (path, refusal, status, counts) in [
            ("/x", None, 200, (0, 0)),
            ("/admin", None, 200, (1, 0)),
            ("/n", None, 200, (1, 1)),
            ("/admin/n", None, 200, (2, 2)),
            // The first who refuses decides.
            ("/admin/n", Some(("x-answer", "401")), 401, (3, 2)),
            ("/admin/n", Some(("x-refuse", "1")), 418, (4, 3)),
            ("/admin", Some(("x-refuse", "1")), 200, (5, 3)),
        ] {
            let response = get(lab, path, refusal).await?;
            assert_eq!((response.status, asked(lab)?), (status, counts), "{path} {refusal:?}");
        }
        Ok(())
    })
}
