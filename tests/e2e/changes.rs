//! What a change on disk does to proxies: it arrives, it is small, and it disturbs nobody.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use http::HeaderMap;
use tests::{
    Lab,
    exchange::{Request, Session, Version},
    grpc, hbone, lab, until,
};

use crate::shop::{GATEWAY, PATIENCE, WEB_POLICY, message, moved, settled, shop, status_becomes, waypoint};

/// The most that a change may cost on the wire, in bytes.
const SMALL: u64 = 1500;

/// Makes a change, waits for its effect, and asserts that it was one small resource and drained nothing.
async fn moves_one_small_resource(
    lab: &Lab,
    change: impl FnOnce() -> Result<()>,
    arrived: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let envoy = waypoint(lab)?;
    let updates = settled(envoy).await?;
    let drains = envoy.drains().await?;
    let received = envoy.stat("cluster.xds.upstream_cx_rx_bytes_total").await?;
    let logged = lab.portolan.events()?.len();

    change()?;
    arrived().await?;

    let moved = moved(&updates, &settled(envoy).await?);
    ensure!(moved.values().sum::<u64>() == 1, "more than one response was taken: {moved:?}");
    let (name, _) = moved.first_key_value().context("nothing moved")?;
    ensure!(name.contains(".rds."), "not a RouteConfiguration but {name} moved");
    let bytes = envoy.stat("cluster.xds.upstream_cx_rx_bytes_total").await? - received;
    ensure!(bytes <= SMALL, "{bytes} bytes on the wire");
    assert_eq!(envoy.drains().await?, drains);

    let events = lab.portolan.events()?.split_off(logged);
    let sent = events.iter().filter(|event| message(event) == "sent").collect::<Vec<_>>();
    ensure!(sent.len() == 1, "more than one response was sent: {sent:?}");
    assert_eq!((&sent[0]["resources"], &sent[0]["removed"]), (&1.into(), &0.into()));
    ensure!(sent[0]["bytes"].as_u64().is_some_and(|bytes| bytes <= SMALL), "too much was sent: {sent:?}");
    let published = events.iter().filter(|event| message(event) == "published").collect::<Vec<_>>();
    ensure!(published.len() == 1, "published more than once: {published:?}");
    assert_eq!((&published[0]["set"], &published[0]["removed"]), (&1.into(), &0.into()));
    Ok(())
}

#[test]
fn a_policy_change_is_one_resource_of_at_most_one_and_a_half_kilobytes_and_drains_nothing() -> Result<()> {
    lab::test(&shop(), async |lab| {
        let curl = lab.client("default", "curl")?;
        let mut session = curl.session("web.shop:80", Version::Http1).await?;
        assert_eq!(session.send(Request::post("/")).await?.status, 403);
        moves_one_small_resource(
            lab,
            || lab.edit("web-policy.yaml", "methods: [GET]", "methods: [GET, POST]"),
            async || {
                // On the connection that was open before: nothing has to be dialled again.
                until("POST to be allowed", PATIENCE, async || {
                    Ok((session.send(Request::post("/")).await?.status == 200).then_some(()))
                })
                .await
            },
        )
        .await
    })
}

#[test]
fn a_route_change_is_one_resource_of_at_most_one_and_a_half_kilobytes_and_drains_nothing() -> Result<()> {
    lab::test(&shop(), async |lab| {
        let curl = lab.client("default", "curl")?;
        let mut session = curl.session("reviews.shop:80", Version::Http2).await?;
        assert_eq!(session.send(Request::get("/")).await?.json()?["name"], "reviews-v1");
        moves_one_small_resource(
            lab,
            || lab.edit("reviews-route.yaml", "weight: 0", "weight: 10000"),
            async || {
                until("version 2 to answer", PATIENCE, async || {
                    let response = session.send(Request::get("/")).await?;
                    Ok((response.json()?["name"] == "reviews-v2").then_some(()))
                })
                .await
            },
        )
        .await
    })
}

#[test]
fn a_revoking_policy_stops_the_next_request_on_every_open_connection() -> Result<()> {
    /// Of each version of HTTP, and of gRPC.
    const CONNECTIONS: usize = 50;
    let open = WEB_POLICY.replace("[GET]", "[GET, POST]");
    lab::test(&shop().file("web-policy.yaml", &open), async |lab| {
        let curl = lab.client("default", "curl")?;
        let kinds = [(Version::Http1, false), (Version::Http2, false), (Version::Http2, true)];
        let kinds = kinds.into_iter().flat_map(|kind| [kind; CONNECTIONS]);
        let opening = kinds.map(|(version, calls)| {
            let session = curl.session("web.shop:80", version);
            async move { anyhow::Ok((session.await?, calls)) }
        });
        let mut sessions: Vec<(Session, bool)> = try_join_all(opening).await?;
        // A call that is refused is PERMISSION_DENIED, and its status of HTTP is 200.
        let ask = async |sessions: &mut Vec<(Session, bool)>| {
            let asked = sessions.iter_mut().map(async |(session, calls)| {
                if *calls {
                    grpc::status(&session.send(grpc::call("/shop.Web/Get")?).await?)
                } else {
                    Ok(session.send(Request::get("/")).await?.status)
                }
            });
            try_join_all(asked).await
        };
        let statuses = |requests, calls| {
            [[requests; CONNECTIONS], [requests; CONNECTIONS], [calls; CONNECTIONS]].concat()
        };
        assert_eq!(ask(&mut sessions).await?, statuses(200, 0));
        let tunnels = curl.connection(GATEWAY).await?;
        let db = lab.catalog.resolve("db.shop:5432")?.address.to_string();
        let (open, _) = tunnels.tunnel(&db, &HeaderMap::new()).await?;

        let revoke = async |file: &str| {
            let logged = lab.portolan.events()?.len();
            lab.edit(file, "sa/curl", "sa/nobody")?;
            let acknowledged = |event: &serde_json::Value| message(event) == "acknowledged";
            lab.portolan.event("the waypoint to acknowledge the policy", logged, acknowledged).await
        };
        revoke("web-policy.yaml").await?;
        assert_eq!(ask(&mut sessions).await?, statuses(403, 7));
        assert_eq!(lab.backend("shop/web-1", 8080)?.seen().requests, 3 * CONNECTIONS as u64);
        // To a TCP port it is the next tunnel, on the connection that is open.
        revoke("db-policy.yaml").await?;
        let refused = tunnels.tunnel(&db, &HeaderMap::new()).await.err();
        ensure!(matches!(refused, Some(hbone::Error::Refused { status: 403, .. })), "{refused:?}");
        drop(open);
        Ok(())
    })
}

#[test]
fn a_manifest_that_cannot_be_read_leaves_everything_else_as_it_was() -> Result<()> {
    lab::test(&shop(), async |lab| {
        let (curl, wget) = (lab.client("default", "curl")?, lab.client("default", "wget")?);
        let version = async || {
            let response = curl.get("reviews.shop/").send().await?;
            anyhow::Ok(response.json()?["name"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(version().await?, "reviews-v1");
        let envoy = waypoint(lab)?;
        let updates = settled(envoy).await?;

        // Not YAML; a kind nobody knows; a route of a wrong shape, of which the last good state stays.
        lab.write("broken.yaml", "kind: [Service\n  metadata: {")?;
        lab.write("unknown.yaml", "apiVersion: example.com/v1\nkind: Nonsense\nmetadata: {name: x}\n")?;
        lab.edit("reviews-route.yaml", "weight: 0", "weight: all of them")?;
        lab.write("later.yaml", &WEB_POLICY.replace("web", "stock"))?;
        // What was written last is in force, so the others have been looked at as well.
        status_becomes(&wget, "stock.shop/", 403).await?;

        assert_eq!(version().await?, "reviews-v1");
        assert_eq!(curl.get("web.shop/").status().await?, 200);
        assert_eq!(wget.get("web.shop/").status().await?, 403);
        let moved = moved(&updates, &settled(envoy).await?);
        ensure!(moved.values().sum::<u64>() == 1, "more than the new policy moved: {moved:?}");
        let events = lab.portolan.events()?;
        let told = |file: &str| events.iter().any(|event| message(event).contains(file));
        for file in ["broken.yaml", "unknown.yaml", "reviews-route.yaml"] {
            assert!(told(file), "the log says nothing of {file}");
        }

        // Mended, it is read.
        lab.edit("reviews-route.yaml", "weight: all of them", "weight: 100000")?;
        until("the mended route", PATIENCE, async || Ok((version().await? == "reviews-v2").then_some(())))
            .await
    })
}

#[test]
fn a_policy_that_cannot_be_understood_allows_nothing() -> Result<()> {
    lab::test(&shop(), async |lab| {
        let curl = lab.client("default", "curl")?;
        assert_eq!(curl.get("web.shop/").status().await?, 200);
        lab.edit("web-policy.yaml", "methods: [GET]", "methods: GET")?;
        status_becomes(&curl, "web.shop/", 403).await?;
        assert_eq!(curl.get("reviews.shop/").status().await?, 200);
        lab.edit("web-policy.yaml", "methods: GET", "methods: [GET]")?;
        status_becomes(&curl, "web.shop/", 200).await
    })
}
