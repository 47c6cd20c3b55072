//! What the process tells of itself over HTTP: its probes, and its metrics as proxies and issuers move them.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::{
    Lab, envoy_binary,
    key_server::{KeyServer, Page},
    process::Envoy,
    token::Issuer,
};

use crate::{
    shop::{GATEWAY, shop},
    tokens::policy,
};

/// More than the Envoy of the test takes for a regular expression, and little otherwise.
const ROUTE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: web}]
  rules: [{matches: [{path: {type: RegularExpression, value: "/([a-f0-9]{30}){30}"}}]}]
"#;

#[test]
fn a_rejected_resource_is_counted_until_it_is_gone() -> Result<()> {
    runtime()?.block_on(async {
        let lab = Lab::start_without_envoys(&shop()).await?;
        let portolan = &lab.portolan;
        let connected = format!("portolan_connected_proxies{{waypoint={GATEWAY:?}}}");
        ensure!(portolan.metric(&connected).await? == Some(0), "a waypoint without proxies is not shown");

        let mut bootstrap = portolan.bootstrap(GATEWAY, &[]).await?;
        let limit = json!({"name": "small", "static_layer": {"re2.max_program_size.error_level": 500}});
        let layers = bootstrap["layered_runtime"]["layers"].as_array_mut();
        layers.context("the bootstrap has layers")?.push(limit);
        let directory = lab.manifests().with_file_name("limited");
        let binary = envoy_binary::find(None).await?;
        let mut envoy = Envoy::start(GATEWAY, &binary, &bootstrap, &directory).await?;
        envoy.ready().await?;
        portolan.counts(&connected, |count| count == 1).await?;
        let (nacks, quarantined) =
            ("portolan_nacks_total{type=\"Route\"}", "portolan_quarantined_resources{type=\"Route\"}");
        ensure!(portolan.metric(nacks).await? == Some(0), "something was rejected before");

        lab.write("web-route.yaml", ROUTE)?;
        portolan.counts(quarantined, |count| count == 1).await?;
        ensure!(portolan.metric(nacks).await? >= Some(1), "no rejection was counted");
        let problem =
            "portolan_problems{kind=\"HTTPRoute\",condition=\"Programmed\",reason=\"RejectedByProxy\"}";
        portolan.counts(problem, |count| count == 1).await?;
        lab.remove("web-route.yaml")?;
        portolan.counts(quarantined, |count| count == 0).await?;
        portolan.counts(problem, |count| count == 0).await?;
        drop(envoy);
        portolan.counts(&connected, |count| count == 0).await
    })
}

#[test]
fn fetches_of_keys_are_counted_by_how_they_end() -> Result<()> {
    runtime()?.block_on(async {
        let arguments = [
            "--jwks-refresh",
            "1s",
            "--jwks-retry",
            "1s",
            "--jwks-retry-at-most",
            "1s",
            "--jwks-allow-loopback",
        ];
        let lab = Lab::start_without_envoys(&shop().arguments(&arguments)).await?;
        let portolan = &lab.portolan;
        let fetches = |outcome: &str| format!("portolan_key_fetches_total{{outcome={outcome:?}}}");
        ensure!(portolan.metric(&fetches("failure")).await? == Some(0), "nobody asked for keys");
        let server = KeyServer::start(lab.loopback.address(200).into()).await?;
        server.serve("/jwks", Page::Status(500));
        lab.write("tokens.yaml", &policy(&[json!({"issuer": "a", "jwksUri": server.url("/jwks")})]))?;
        // A failure that is no other than the one before is one more, and not in the log.
        portolan.counts(&fetches("failure"), |count| count >= 2).await?;
        ensure!(portolan.metric(&fetches("success")).await? == Some(0), "a success was counted");
        server.serve("/jwks", Page::Body(Issuer::new("a")?.jwks()));
        portolan.counts(&fetches("success"), |count| count >= 2).await
    })
}

#[test]
fn probes_and_metrics_are_answered_and_nothing_else() -> Result<()> {
    runtime()?.block_on(async {
        let lab = Lab::start_without_envoys(&shop()).await?;
        for (path, answer) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
            let answered = lab.portolan.probe(path).await?;
            ensure!(answered.status == 200 && answered.text() == answer, "{path}: {answered:?}");
        }
        let page = lab.portolan.probe("/metrics").await?;
        let kind = page.headers.get("content-type").map(|kind| kind.to_str()).transpose()?;
        ensure!(kind.is_some_and(|kind| kind.starts_with("application/openmetrics-text")), "{kind:?}");
        ensure!(page.text().ends_with("# EOF\n"), "the page is cut off: {}", page.text());
        let complete = lab.portolan.metric("portolan_source_complete").await?;
        let routes = lab.portolan.metric("portolan_objects{kind=\"HTTPRoute\"}").await?;
        let commits = lab.portolan.metric("portolan_commit_duration_seconds_count").await?;
        ensure!((complete, routes) == (Some(1), Some(1)) && commits >= Some(1), "{}", page.text());
        ensure!(lab.portolan.probe("/secrets").await?.status == 404, "there is more than there should be");
        Ok(())
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
