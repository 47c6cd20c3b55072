//! What is said of objects once real proxies have, or have rejected, what follows from them.

use anyhow::{Context, Result};
use serde_json::Value;
use tests::{Lab, envoy_binary, process::Envoy};

use crate::shop::{GATEWAY, message, shop};

const SECOND: &str = "the second proxy";

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Waits until it is logged of the Gateway, after `skip` events, and gives where.
async fn told(lab: &Lab, skip: usize, programmed: &str) -> Result<usize> {
    let of = |event: &Value| event["object"] == format!("Gateway {GATEWAY}");
    let what = format!("the status of the Gateway to be {programmed:?}");
    let said = |event: &Value| {
        event["programmed"] == programmed
            || (event["condition"] == "Programmed" && message(event).contains(programmed))
    };
    lab.portolan.event(&what, skip, |event| of(event) && said(event)).await?;
    let events = lab.portolan.events()?;
    let at = events.iter().skip(skip).position(|event| of(event) && said(event));
    Ok(skip + at.context("it was there")?)
}

#[test]
fn a_gateway_counts_its_proxies_as_they_come_and_go() -> Result<()> {
    runtime()?.block_on(async {
        let mut lab = Lab::start(&shop()).await?;
        let one = told(&lab, 0, "1 of 1 waypoint proxies have it").await?;

        let bootstrap = lab.portolan.bootstrap(GATEWAY, &[]).await?;
        let directory = lab.manifests().with_file_name("second");
        let binary = envoy_binary::find(None).await?;
        let mut second = Envoy::start(SECOND, &binary, &bootstrap, &directory).await?;
        second.ready().await?;
        let two = told(&lab, one, "2 of 2 waypoint proxies have it").await?;

        drop(second);
        let one = told(&lab, two, "1 of 1 waypoint proxies have it").await?;
        lab.envoys.clear();
        told(&lab, one, "no proxy of this waypoint is connected; look at the pods with the label gateway.networking.k8s.io/gateway-name: waypoint").await?;
        Ok(())
    })
}

#[test]
fn a_policy_is_programmed_after_the_acknowledgement_and_not_before() -> Result<()> {
    runtime()?.block_on(async {
        let lab = Lab::start(&shop()).await?;
        let start = told(&lab, 0, "1 of 1 waypoint proxies have it").await?;
        let has = "all proxies of waypoint shop/waypoint have it";
        let of = |event: &Value| event["object"] == "AuthorizationPolicy shop/web-viewer";
        lab.portolan
            .event("the policy's first status", start, |event| of(event) && event["programmed"] == has)
            .await?;

        let logged = lab.portolan.events()?.len();
        lab.edit("web-policy.yaml", "methods: [GET]", "methods: [GET, POST]")?;
        lab.portolan
            .event("the policy's second status", logged, |event| of(event) && event["programmed"] == has)
            .await?;
        let events = lab.portolan.events()?.split_off(logged);
        let at = |wanted: &dyn Fn(&Value) -> bool| {
            events.iter().position(wanted).with_context(|| format!("in {events:?}"))
        };
        let pending = at(&|event| of(event) && message(event).contains("0 of 1 proxies of waypoint"))?;
        let taken = at(&|event| message(event) == "taken" && event["type_url"] == "Route")?;
        let programmed = at(&|event| of(event) && event["programmed"] == has)?;
        assert!(pending < taken && taken < programmed, "{events:?}");
        Ok(())
    })
}

/// No Envoy of this machine can listen there: the block is for documentation.
const NOWHERE: &str = "192.0.2.1";

#[test]
fn what_a_proxy_rejects_is_told_in_its_words_until_it_takes_another() -> Result<()> {
    runtime()?.block_on(async {
        let lab = Lab::start(&shop()).await?;
        let good = told(&lab, 0, "1 of 1 waypoint proxies have it").await?;
        lab.edit("manifests.yaml", "127.10.0.100", NOWHERE)?;
        let bad = "1 proxy of waypoint shop/waypoint cannot have Listener connect_terminate: ";
        let bad = told(&lab, good, bad).await?;
        let words = lab.portolan.events()?[bad].to_string();
        assert!(words.contains("192.0.2.1:15008"), "these are not the words of Envoy: {words}");
        lab.edit("manifests.yaml", NOWHERE, "127.10.0.100")?;
        told(&lab, bad, "1 of 1 waypoint proxies have it").await?;
        Ok(())
    })
}
