//! What Envoy's log says of a verdict: which rule of which policy it was, for requests and for tunnels.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Lab, lab, until};

use crate::shop::{GATEWAY, shop, status_becomes};

/// Envoy writes its log when enough has come together, or after ten seconds.
const FLUSHED: Duration = Duration::from_secs(30);

/// Who is denied is told by a rule of his own; the others only report.
const POLICIES: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: web}, {kind: Service, group: "", name: db}]
  action: DENY
  rules:
  - from: [{source: {namespaces: [nobody]}}]
  - from: [{source: {serviceAccounts: [default/wget]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: watched, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: "", name: web}, {kind: Service, group: "", name: db}]
  action: AUDIT
  rules: [{from: [{source: {serviceAccounts: [default/curl]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tried, namespace: shop, annotations: {istio.io/dry-run: "true"}}
spec:
  targetRefs: [{kind: Service, group: "", name: web}, {kind: Service, group: "", name: db}]
  action: DENY
  rules: [{from: [{source: {serviceAccounts: [default/curl]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tried-allow, namespace: shop, annotations: {istio.io/dry-run: "true"}}
spec:
  targetRefs: [{kind: Service, group: "", name: web}]
  rules: [{from: [{source: {serviceAccounts: [default/somebody]}}]}]
"#;

#[test]
fn the_log_names_the_policy_that_denied_audited_or_would_have_denied() -> Result<()> {
    let setup = shop().file("web-policy.yaml", POLICIES).file("db-policy.yaml", "# replaced\n");
    lab::test(&setup, async |lab| {
        let (curl, wget) = (lab.client("default", "curl")?, lab.client("default", "wget")?);
        status_becomes(&wget, "web.shop/secret", 403).await?;
        assert_eq!(curl.get("web.shop/open").status().await?, 200);
        ensure!(wget.tunnel("db.shop:5432").await.is_err(), "wget was let in to db");
        drop(curl.tunnel("db.shop:5432").await.context("curl was not let in to db")?);

        let denied = "rbac_access_denied_matched_policy[ns[shop]-policy[closed]-rule[1]]";
        let caller = "\"spiffe://cluster.local/ns/default/sa/curl\"";
        logged(lab, &["\"GET /secret HTTP/1.1\" 403", denied]).await?;
        logged(lab, &["\"CONNECT - HTTP/2\" 403", denied]).await?;
        logged(lab, &["] audit: ns[shop]-policy[watched]-rule[0]", caller, "\"GET /open HTTP/1.1\" 200"])
            .await?;
        logged(lab, &["] audit: ns[shop]-policy[watched]-rule[0]", caller, "\"CONNECT - HTTP/2\" 200"])
            .await?;
        let tried = "] dry run would deny: ns[shop]-policy[tried]-rule[0]";
        logged(lab, &[tried, caller, "\"GET /open HTTP/1.1\" 200"]).await?;
        logged(lab, &[tried, caller, "\"CONNECT - HTTP/2\" 200"]).await?;

        let counted = lab.envoy(GATEWAY)?.stats("rbac\\.istio_dry_run_.*shadow_denied$").await?;
        for prefix in ["istio_dry_run_deny_", "istio_dry_run_allow_"] {
            let of: u64 = counted.iter().filter(|(name, _)| name.contains(prefix)).map(|(_, n)| n).sum();
            ensure!(of > 0, "nothing counted for {prefix}: {counted:?}");
        }
        Ok(())
    })
}

/// Waits for a line that holds all of `parts`.
pub(crate) async fn logged(lab: &Lab, parts: &[&str]) -> Result<()> {
    let envoy = lab.envoy(GATEWAY)?;
    let waited = until("the line in Envoy's log", FLUSHED, async || {
        let output = envoy.output()?;
        Ok(output.lines().any(|line| parts.iter().all(|part| line.contains(part))).then_some(()))
    });
    waited.await.with_context(|| format!("no line holds {parts:?}"))
}
