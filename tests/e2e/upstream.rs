//! The way from the waypoint to the pod.

use anyhow::{Context, Result};
use tests::{identity::spiffe, lab, lab::waypoint_identity};

use crate::shop::{GATEWAY, shop};

#[test]
fn a_captured_pod_is_reached_through_a_tunnel_under_the_identity_of_the_waypoint() -> Result<()> {
    lab::test(&shop(), async |lab| {
        let curl = lab.client("default", "curl")?;
        for _ in 0..3 {
            let response = curl.get("stock.shop/").send().await?;
            assert_eq!((response.status, response.json()?["name"].as_str()), (200, Some("stock-1")));
        }
        let pod = lab.catalog.pods["shop/stock-1"].address;
        let accepted = lab.ztunnels.get("shop/stock-1").context("stock-1 is captured")?.accepted();
        assert!(!accepted.is_empty());
        for tunnel in accepted {
            assert_eq!(tunnel.peer, [waypoint_identity(GATEWAY)]);
            assert_eq!(tunnel.authority, format!("{pod}:8080"));
        }
        Ok(())
    })
}

#[test]
fn a_pod_that_shows_the_certificate_of_another_gets_no_request() -> Result<()> {
    let mut setup = shop();
    // Even that of another pod of the mesh: the identity is pinned per endpoint.
    setup.impostors.insert("shop/stock-1".to_owned(), spiffe("shop", "web"));
    lab::test(&setup, async |lab| {
        let curl = lab.client("default", "curl")?;
        assert_eq!(curl.get("stock.shop/").status().await?, 503);
        let ztunnel = lab.ztunnels.get("shop/stock-1").context("stock-1 is captured")?;
        assert!(ztunnel.accepted().is_empty(), "the impostor was asked for a tunnel");
        assert_eq!(lab.backend("shop/stock-1", 8080)?.seen().connections, 0);
        // The others are as well as before.
        assert_eq!(curl.get("reviews.shop/").status().await?, 200);
        Ok(())
    })
}
