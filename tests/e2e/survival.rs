//! What proxies and their traffic notice when the control plane goes, comes back, or renews certificates: nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tests::{
    Caller, Lab,
    exchange::{Request, Version},
    identity::serial,
    lab, until,
};

use crate::shop::{GATEWAY, PATIENCE, message, moved, settled, shop, waypoint};

/// Sends requests, on an open connection and on new ones, until `stop`; gives how many. Any other
/// answer than 200 is an error.
async fn traffic(caller: &Caller, stop: &AtomicBool) -> Result<usize> {
    let mut session = caller.session("web.shop:80", Version::Http1).await?;
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let status = session.send(Request::get("/")).await?.status;
        ensure!(status == 200, "request {count} on the open connection was answered {status}");
        let status = caller.get("web.shop/").status().await?;
        ensure!(status == 200, "request {count} on a new connection was answered {status}");
        count += 2;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(count)
}

/// Runs `event` under traffic, and fails if one request did.
async fn under_traffic(caller: &Caller, event: impl AsyncFnOnce() -> Result<()>) -> Result<usize> {
    let stop = Arc::new(AtomicBool::new(false));
    let during = async {
        let outcome = event().await;
        stop.store(true, Ordering::Relaxed);
        outcome
    };
    let (count, ()) = tokio::try_join!(traffic(caller, &stop), during)?;
    Ok(count)
}

/// Takes the control plane away and brings it back; asserts that Envoy is told nothing it knows.
async fn comes_back(lab: &mut Lab, go: impl AsyncFnOnce(&mut Lab) -> Result<()>) -> Result<()> {
    let curl = lab.client("default", "curl")?;
    let updates = settled(waypoint(lab)?).await?;
    let drains = waypoint(lab)?.drains().await?;
    let logged = lab.portolan.events()?.len();
    let count = under_traffic(&curl, async || {
        go(lab).await?;
        connected(lab, 0).await?;
        lab.portolan.restart().await?;
        connected(lab, 1).await
    });
    ensure!(count.await? > 0, "no request was sent");
    let moved = moved(&updates, &settled(waypoint(lab)?).await?);
    ensure!(moved.is_empty(), "resources were sent again: {moved:?}");
    let events = lab.portolan.events()?.split_off(logged);
    let sent = events.iter().filter(|event| message(event) == "sent").collect::<Vec<_>>();
    ensure!(sent.iter().all(|sent| sent["resources"] == 0), "resources were sent again: {sent:?}");
    assert_eq!(waypoint(lab)?.drains().await?, drains);

    // It is not only connected: a change still arrives.
    lab.edit("web-policy.yaml", "sa/curl", "sa/wget")?;
    crate::shop::status_becomes(&curl, "web.shop/", 403).await
}

async fn connected(lab: &Lab, wanted: u64) -> Result<()> {
    let envoy = waypoint(lab)?;
    // Envoy tries again after half a second and more, at most thirty.
    until("Envoy to notice the control plane", 2 * PATIENCE, async || {
        Ok((envoy.stat("control_plane.connected_state").await? == wanted).then_some(()))
    })
    .await
}

#[test]
fn a_restart_sends_nothing_to_an_envoy_that_is_up_to_date_and_traffic_does_not_notice() -> Result<()> {
    lab::test(&shop(), async |lab| comes_back(lab, async |lab: &mut Lab| lab.portolan.stop().await).await)
}

#[test]
fn a_kill_sends_nothing_to_an_envoy_that_is_up_to_date_and_traffic_does_not_notice() -> Result<()> {
    lab::test(&shop(), async |lab| comes_back(lab, async |lab: &mut Lab| lab.portolan.kill()).await)
}

#[test]
fn certificates_rotate_without_a_dropped_connection() -> Result<()> {
    let setup = shop().arguments(&["--certificate-lifetime", "8s"]);
    lab::test(&setup, async |lab| {
        let curl = lab.client("default", "curl")?;
        let drains = waypoint(lab)?.drains().await?;
        let now = async || {
            let connection = lab.client("default", "wget")?.connection(GATEWAY).await?;
            serial(connection.certificate())
        };
        let first = now().await?;
        under_traffic(&curl, async || {
            let mut seen = vec![first];
            // Three rotations take longer than one certificate is good for.
            until("three rotations", 2 * PATIENCE, async || {
                let serial = now().await.context("a handshake failed while certificates rotate")?;
                if !seen.contains(&serial) {
                    seen.push(serial);
                }
                Ok((seen.len() > 3).then_some(()))
            })
            .await
        })
        .await?;
        assert_eq!(waypoint(lab)?.drains().await?, drains);
        // The waypoint's own client certificate has rotated as well.
        assert_eq!(curl.get("stock.shop/").status().await?, 200);
        Ok(())
    })
}
