//! Who is let in: an Envoy with the right token of its gateway, and nobody else.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Lab, envoy_binary, process::Envoy};
use tokio::{net::TcpStream, runtime::Runtime, time::sleep};

use crate::shop::{GATEWAY, message, shop};

/// The token that the bootstrap of a gateway in the namespace `shop` refers to.
fn token(lab: &Lab, gateway: &str) -> PathBuf {
    lab.portolan.state().join("proxies").join(gateway).join("token")
}

/// Starts an Envoy on `bootstrap` and waits until the control plane has turned it away with `why`; asserts
/// that it got nothing.
async fn gets_nothing(lab: &Lab, name: &str, bootstrap: &Value, why: &str) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let logged = lab.portolan.events()?.len();
    let binary = envoy_binary::find(None).await?;
    let envoy = Envoy::start(name, &binary, bootstrap, directory.path()).await?;
    let refused = |event: &Value| {
        let reason = event["reason"].as_str().unwrap_or_default();
        (message(event).starts_with("refused") && message(event).contains(why)) || reason.contains(why)
    };
    lab.portolan.event(&format!("{name} to be turned away"), logged, refused).await?;
    // It tries again and again; let it.
    sleep(Duration::from_secs(1)).await;
    for counter in [
        "cluster_manager.cds.update_success",
        "listener_manager.lds.update_success",
        "listener_manager.total_listeners_active",
    ] {
        assert_eq!(envoy.stat(counter).await?, 0, "{name} got something: {counter}");
    }
    let waypoint = lab.catalog.waypoint(GATEWAY)?.address;
    ensure!(TcpStream::connect(waypoint).await.is_err(), "{name} listens");
    let events = lab.portolan.events()?.split_off(logged);
    let sent = events.iter().find(|event| message(event) == "sent");
    ensure!(sent.is_none(), "{name} was sent something: {sent:?}");
    Ok(())
}

#[test]
fn a_wrong_an_expired_and_a_missing_token_and_the_name_of_another_gateway_get_nothing() -> Result<()> {
    Runtime::new()?.block_on(async {
        let mut lab = Lab::start_without_envoys(&shop()).await?;
        let right = lab.portolan.bootstrap(GATEWAY, &[]).await?;
        let file = token(&lab, GATEWAY);
        let good = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;

        // Somebody changed a character of it.
        let (head, tail) = good.trim().split_at(good.trim().len() / 2);
        let changed =
            if tail.starts_with('A') { tail.replacen('A', "B", 1) } else { format!("A{}", &tail[1..]) };
        fs::write(&file, format!("{head}{changed}"))?;
        gets_nothing(&lab, "wrong", &right, "token").await?;

        let address = lab.portolan.address().to_string();
        let state = lab.portolan.state().display().to_string();
        let mint = async |gateway: &str, lifetime: &str| {
            let arguments = ["--state", &state, "--xds", &address, "--token-lifetime", lifetime];
            lab.portolan.run(&[&["bootstrap", "--gateway", gateway], &arguments[..]].concat()).await
        };
        mint(GATEWAY, "1s").await?;
        sleep(Duration::from_secs(2)).await;
        gets_nothing(&lab, "expired", &right, "expired").await?;

        mint(GATEWAY, "1h").await?;
        let mut without = right.clone();
        let options = &mut without["static_resources"]["clusters"][0]["typed_extension_protocol_options"];
        let options = options.as_object_mut().and_then(|options| options.values_mut().next());
        let filters = options.and_then(|options| options["http_filters"].as_array_mut());
        let filters = filters.context("the xds cluster has no filters")?;
        filters.retain(|filter| filter["name"] != "envoy.filters.http.credential_injector");
        gets_nothing(&lab, "missing", &without, "no bearer token").await?;

        // The right token for this gateway, shown by one who says that it is another.
        let mut another = right.clone();
        another["node"]["metadata"]["GATEWAY"] = json!("shop/another");
        gets_nothing(&lab, "another name", &another, "shop/another").await?;

        // The right token of another gateway, shown by one who says that it is this.
        mint("shop/another", "1h").await?;
        fs::copy(token(&lab, "shop/another"), &file)?;
        gets_nothing(&lab, "another token", &right, "shop/another").await?;

        // And the right one is let in.
        let bootstrap = lab.portolan.bootstrap(GATEWAY, &[]).await?;
        let directory = tempfile::tempdir()?;
        let binary = envoy_binary::find(None).await?;
        let mut envoy = Envoy::start(GATEWAY, &binary, &bootstrap, directory.path()).await?;
        envoy.ready().await?;
        lab.envoys.insert(GATEWAY.to_owned(), envoy);
        assert_eq!(lab.client("default", "curl")?.get("web.shop/").status().await?, 200);
        let rejected = lab.rejections().await?;
        ensure!(rejected.is_empty(), "Envoy rejected resources: {rejected:?}");
        Ok(())
    })
}
