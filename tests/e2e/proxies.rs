//! What `portolan proxy-status` and `proxy-config` say of a real Envoy: that it has everything, that it does
//! not answer, what it rejected, that it has left.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Lab, lab::Setup, until};

use crate::shop::{GATEWAY, PATIENCE, shop, waypoint};

/// No Envoy of this machine can listen there: the block is for documentation.
const NOWHERE: &str = "192.0.2.1";

fn setup() -> Setup {
    shop().bootstrap(&["--region", "eu", "--zone", "eu-a", "--node-name", "node-1"])
}

/// What a command about the proxies prints, and its exit code.
async fn told(lab: &Lab, arguments: &[&str]) -> Result<(i32, String)> {
    let address = lab.portolan.debug_address()?;
    let output = lab.portolan.told(&[arguments, &["--address", &address]].concat()).await?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    Ok((output.status.code().context("it was killed")?, out + &err))
}

/// Waits until `proxy-status` ends with that code and says so of its only proxy, and gives that.
async fn status(lab: &Lab, what: &str, code: i32, is: impl Fn(&Value) -> bool) -> Result<Value> {
    until(what, PATIENCE, async || {
        let (ended, text) = told(lab, &["proxy-status", GATEWAY, "-o", "json"]).await?;
        let said: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let proxy = said["waypoints"][0]["proxies"][0].clone();
        Ok((ended == code && is(&proxy)).then_some(proxy))
    })
    .await
}

fn of_type<'s>(proxy: &'s Value, kind: &str) -> &'s Value {
    let types = proxy["types"].as_array().map(Vec::as_slice).unwrap_or_default();
    types.iter().find(|of| of["type"] == kind).unwrap_or(&Value::Null)
}

#[test]
fn who_has_everything_who_is_silent_who_rejects_and_who_has_left() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut lab = Lab::start(&setup()).await?;
        let synced = status(&lab, "the proxy to have everything", 0, Value::is_object).await?;
        assert_eq!(synced["agent"], "envoy 1.40.0");
        assert_eq!([&synced["region"], &synced["zone"], &synced["node"]], ["eu", "eu-a", "node-1"]);
        assert!(synced["syncedAt"].is_string() && synced["behindSince"].is_null(), "{synced}");
        for kind in ["clusters", "endpoints", "listeners", "scopes", "routes", "secrets"] {
            assert!(of_type(&synced, kind)["resources"].as_u64() > Some(0), "{kind}: {synced}");
        }
        let (code, table) = told(&lab, &["proxy-status"]).await?;
        assert!(code == 0 && table.contains("1.40.0") && table.contains("eu/eu-a/node-1"), "{table}");

        waypoint(&lab)?.freeze()?;
        lab.edit("web-policy.yaml", "methods: [GET]", "methods: [GET, POST]")?;
        let is_behind = |proxy: &Value| of_type(proxy, "routes")["unanswered"] == 1;
        let silent = status(&lab, "the proxy to be behind", 3, is_behind).await?;
        assert!(silent["behindSince"].is_string(), "{silent}");
        let (code, config) = told(&lab, &["proxy-config", GATEWAY, "routes"]).await?;
        assert!(code == 3 && config.contains("0 of 1") && config.contains("unanswered"), "{config}");
        waypoint(&lab)?.thaw()?;
        let again = status(&lab, "the proxy to have it", 0, Value::is_object).await?;
        assert_eq!(again["stream"], silent["stream"], "it was another stream that had it");

        lab.edit("manifests.yaml", "127.10.0.100", NOWHERE)?;
        let rejects = |proxy: &Value| of_type(proxy, "listeners")["rejected"][0].is_object();
        let bad = status(&lab, "the proxy to reject it", 3, rejects).await?;
        let rejected = &of_type(&bad, "listeners")["rejected"][0];
        assert_eq!(rejected["name"], "connect_terminate");
        assert!(rejected["message"].to_string().contains("192.0.2.1:15008"), "{rejected}");
        let (_, table) = told(&lab, &["proxy-status"]).await?;
        assert!(table.contains("1 rejected") && table.contains("192.0.2.1:15008"), "{table}");
        lab.edit("manifests.yaml", NOWHERE, "127.10.0.100")?;
        status(&lab, "the proxy to take another", 0, Value::is_object).await?;

        lab.envoys.clear();
        status(&lab, "the proxy to be gone", 0, Value::is_null).await?;
        let (code, table) = told(&lab, &["proxy-status"]).await?;
        assert!(code == 0 && table.lines().count() == 2 && table.contains(GATEWAY), "{table}");
        Ok(())
    })
}

#[test]
fn what_was_sent_is_told_but_for_what_is_secret() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let lab = Lab::start(&setup()).await?;
        let proxy = status(&lab, "the proxy to have everything", 0, Value::is_object).await?;
        let name = proxy["name"].as_str().context("no name")?;
        let (code, text) = told(&lab, &["proxy-config", name, "-o", "json"]).await?;
        ensure!(code == 0, "{text}");
        // As it has it itself, by the version that it was sent with.
        let said: Value = serde_json::from_str(&text)?;
        let resources = said["waypoints"][0]["resources"].as_array().context("no resources")?;
        let config = waypoint(&lab)?.config_dump().await?.to_string();
        let routes: Vec<_> = resources.iter().filter(|one| one["type"] == "routes").collect();
        ensure!(!routes.is_empty(), "no routes: {text}");
        for route in routes {
            let version = route["version"].as_str().context("no version")?;
            assert!(config.contains(&format!("\"{version}")), "Envoy has no {version}: {route}");
            assert_eq!(route["body"]["name"], route["name"]);
        }
        let own = resources.iter().find(|one| one["type"] == "secrets" && one["name"] == "default");
        let own = own.context("no certificate")?;
        let certificate = &own["certificates"][0];
        assert_eq!(certificate["uris"][0], "spiffe://cluster.local/ns/shop/sa/waypoint");
        assert!(certificate["serial"].is_string() && certificate["notAfter"].is_string(), "{own}");
        assert_eq!(own["body"]["tls_certificate"]["private_key"]["inline_string"], "redacted");
        for form in ["json", "yaml", "table"] {
            let (_, text) = told(&lab, &["proxy-config", GATEWAY, "-o", form]).await?;
            assert!(text.contains("cluster.local/ns/shop/sa/waypoint") && !text.contains("BEGIN"), "{text}");
        }
        let (code, text) = told(&lab, &["proxy-config", "shop/nobody"]).await?;
        assert!(code == 1 && text.contains("no waypoint shop/nobody"), "{text}");
        Ok(())
    })
}
