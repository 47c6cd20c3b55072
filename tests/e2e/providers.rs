//! What each field of an extension provider does, where only a real Envoy can tell.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{
    Lab,
    exchange::{Request, Response, Version},
    lab,
    lab::Setup,
};

use crate::{
    custom::{AUTHZ, asked, custom},
    shop::{shop, status_becomes},
};

/// A provider that is in no mesh but outside: its pod is that of `authz`. The file `outside.yaml`.
const OUTSIDE: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: elsewhere}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: authz, namespace: elsewhere}
spec:
  hosts: [authz.example]
  resolution: STATIC
  ports: [{number: 7000, name: grpc, protocol: GRPC, targetPort: 9000}]
  endpoints: [{address: 127.10.0.17}]
";

/// `reviews` goes to version 2 for who says so. The file `reviews-route.yaml`.
const ROUTE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: reviews, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: reviews, port: 80}]
  rules:
  - matches: [{headers: [{name: x-version, value: authz-1}]}]
    backendRefs: [{name: reviews-v2, port: 80}]
  - backendRefs: [{name: reviews-v1, port: 80}]
"#;

/// A mesh with one provider, which is asked about everything that `service` is asked.
fn setup(service: &str, provider: &str) -> Setup {
    let policy = custom(service, "it", "{}");
    shop().file("authz.yaml", AUTHZ).file("mesh.yaml", &mesh(provider)).file("web-policy.yaml", &policy)
}

fn mesh(provider: &str) -> String {
    let provider = format!("extensionProviders: [{{name: it, {provider}}}]");
    let manifest = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "istio-system", "name": "istio"},
        "data": {"mesh": provider},
    });
    manifest.to_string()
}

async fn ask(lab: &Lab, service: &str, request: Request) -> Result<Response> {
    let mut session = lab.client("default", "curl")?.session(service, Version::Http2).await?;
    session.send(request).await
}

/// Names of the headers that a provider was asked with, or that a backend has got.
fn names(seen: &Value) -> Result<Vec<&str>> {
    Ok(seen["headers"].as_object().context("no headers")?.keys().map(String::as_str).collect())
}

#[test]
fn of_a_provider_by_http_the_headers_go_where_the_mesh_says_and_nowhere_else() -> Result<()> {
    let provider = r"envoyExtAuthzHttp: {
        service: authz.shop.svc.cluster.local, port: '8000', timeout: 5s,
        includeHeadersInCheck: [x-answer, x-say, X-Told-*],
        headersToUpstreamOnAllow: ['*-up'], headersToDownstreamOnDeny: ['x-no*'], headersToDownstreamOnAllow: [x-yes]}";
    lab::test(&setup("web", provider), async |lab| {
        let said = "a-up x-no-1 x-yes";
        let request =
            || Request::get("/").header("x-say", said)?.header("x-told-a", "1")?.header("x-other", "1");
        let refused = ask(lab, "web.shop:80", request()?.header("x-answer", "401")?).await?;
        let seen = refused.json()?;
        assert_eq!((refused.status, &seen["name"]), (401, &"authz-1".into()));
        let told = names(&seen)?;
        ensure!(told.contains(&"x-told-a") && !told.contains(&"x-other"), "{told:?}");
        ensure!(!told.iter().any(|name| name.starts_with("x-wp-")), "{told:?}");
        let here = |response: &Response, name: &str| {
            response.headers.get_all(name).iter().any(|value| value == "authz-1")
        };
        assert_eq!(["a-up", "x-no-1", "x-yes"].map(|name| here(&refused, name)), [false, true, false]);

        let allowed = ask(lab, "web.shop:80", request()?).await?;
        let seen = allowed.json()?;
        assert_eq!((allowed.status, &seen["name"]), (200, &"web-1".into()));
        assert_eq!(["a-up", "x-no-1", "x-yes"].map(|name| here(&allowed, name)), [false, false, true]);
        assert_eq!(seen["headers"]["a-up"][0], "authz-1");
        let got = names(&seen)?;
        ensure!(!got.contains(&"x-no-1") && !got.contains(&"x-yes"), "{got:?}");
        Ok(())
    })
}

#[test]
fn a_provider_may_choose_the_route_only_where_the_mesh_says_so() -> Result<()> {
    let provider = |clear: bool| {
        format!(
            "envoyExtAuthzHttp: {{service: authz.shop.svc.cluster.local, port: 8000, clearRouteCache: {clear}, \
             includeRequestHeadersInCheck: [x-say], headersToUpstreamOnAllow: [x-version]}}"
        )
    };
    let setup = setup("reviews", &provider(false)).file("reviews-route.yaml", ROUTE);
    lab::test(&setup, async |lab| {
        let name = async |lab: &Lab| {
            let answer = ask(lab, "reviews.shop:80", Request::get("/").header("x-say", "x-version")?).await?;
            anyhow::Ok(answer.json()?["name"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(name(lab).await?, "reviews-v1");
        lab.write("mesh.yaml", &mesh(&provider(true)))?;
        tests::until("the provider to choose", crate::shop::PATIENCE, async || {
            Ok((name(lab).await? == "reviews-v2").then_some(()))
        })
        .await
    })
}

#[test]
fn a_provider_by_grpc_is_asked_with_all_headers_and_as_much_of_the_body_as_the_mesh_says() -> Result<()> {
    let provider = |body: &str| {
        format!(
            "envoyExtAuthzGrpc: {{service: elsewhere/authz.example, port: 7000, includeRequestBodyInCheck: {body}}}"
        )
    };
    let setup = setup("web", &provider("{maxRequestBytes: 100}")).file("outside.yaml", OUTSIDE);
    lab::test(&setup, async |lab| {
        let post = |size: usize| Request::post("/p?q").body("x".repeat(size));
        let refused = ask(lab, "web.shop:80", post(10).header("x-refuse", "1")?).await?;
        let seen = refused.json()?;
        assert_eq!((refused.status, &seen["method"], &seen["path"]), (418, &"POST".into(), &"/p?q".into()));
        assert_eq!((&seen["body"], &seen["raw_body"]), (&10.into(), &0.into()));
        assert_eq!(
            (&seen["by"], &seen["to"]),
            (&"authz.example".into(), &lab.catalog.resolve("web.shop:80")?.address.ip().to_string().into())
        );
        let told = names(&seen)?;
        ensure!(told.contains(&"x-refuse") && !told.iter().any(|name| name.starts_with("x-wp-")), "{told:?}");
        // What it says besides yes is for the backend.
        let allowed = ask(lab, "web.shop:80", post(10)).await?;
        assert_eq!(allowed.json()?["headers"]["x-permit"][0], "authz.example");
        assert_eq!(asked(lab)?, (0, 2));
        // Too large to be asked about; or asked about in part, as bytes.
        assert_eq!(ask(lab, "web.shop:80", post(20_000)).await?.status, 413);
        lab.write(
            "mesh.yaml",
            &mesh(&provider("{maxRequestBytes: 100, allowPartialMessage: true, packAsBytes: true}")),
        )?;
        tests::until("a part to be enough", crate::shop::PATIENCE, async || {
            let answer = ask(lab, "web.shop:80", post(20_000).header("x-refuse", "1")?).await?;
            (answer.status == 418).then(|| answer.json()).transpose()
        })
        .await
        .and_then(|seen| {
            ensure!(
                seen["body"] == 0 && seen["raw_body"].as_u64().is_some_and(|size| size >= 100),
                "{seen:#}"
            );
            Ok(())
        })
    })
}

#[test]
fn a_provider_that_takes_too_long_is_as_one_that_is_not_there() -> Result<()> {
    let provider = "envoyExtAuthzGrpc: {service: silent.shop.svc.cluster.local, port: 9000, timeout: 0.2s";
    lab::test(&setup("web", &format!("{provider}}}")), async |lab| {
        let curl = lab.client("default", "curl")?;
        status_becomes(&curl, "web.shop/", 403).await?;
        lab.write("mesh.yaml", &mesh(&format!("{provider}, statusOnError: '504'}}")))?;
        status_becomes(&curl, "web.shop/", 504).await?;
        lab.write("mesh.yaml", &mesh(&format!("{provider}, failOpen: true}}")))?;
        status_becomes(&curl, "web.shop/", 200).await
    })
}
