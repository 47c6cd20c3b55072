//! What a tunnel carries and whom it is judged as, where only a real Envoy can tell.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use tests::{
    backend::BANNER,
    exchange::{Request, Session, Version},
    hbone,
    identity::spiffe,
    lab,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::shop::{GATEWAY, shop};

#[test]
fn a_denied_client_of_a_server_first_backend_never_sees_a_byte_and_the_backend_no_connection() -> Result<()> {
    lab::test(&shop(), async |lab| {
        let wget = lab.client("default", "wget")?;
        let error = wget.tunnel("db.shop:5432").await.err().context("wget was let in")?;
        let refused = error.downcast_ref::<hbone::Error>();
        let refused = matches!(refused, Some(hbone::Error::Refused { status: 403, body }) if body == "RBAC: access denied");
        ensure!(refused, "refused in another way: {error:#}");
        let db = lab.backend("shop/db-1", 5432)?;
        assert_eq!(db.seen().connections, 0);

        let mut tunnel = lab.client("default", "curl")?.tunnel("db.shop:5432").await?;
        let mut banner = vec![0; BANNER.len()];
        tunnel.read_exact(&mut banner).await?;
        assert_eq!(banner, BANNER.as_bytes());
        tunnel.write_all(b"hello").await?;
        let mut echo = [0; 5];
        tunnel.read_exact(&mut echo).await?;
        assert_eq!(&echo, b"hello");
        assert_eq!(db.seen().connections, 1);
        Ok(())
    })
}

#[test]
fn a_connect_inside_a_tunnel_is_denied_in_both_versions_of_http() -> Result<()> {
    lab::test(&shop(), async |lab| {
        let curl = lab.client("default", "curl")?;
        let db = lab.catalog.resolve("db.shop:5432")?.address;
        let mut tunnel = curl.tunnel("web.shop:80").await?;
        tunnel.write_all(format!("CONNECT {db} HTTP/1.1\r\nHost: {db}\r\n\r\n").as_bytes()).await?;
        let mut answer = vec![0; 4096];
        let length = tunnel.read(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        ensure!(answer.starts_with("HTTP/1.1 403 "), "HTTP/1.1 CONNECT inside a tunnel: {answer:?}");

        let (mut h2, connection) = h2::client::handshake(curl.tunnel("web.shop:80").await?).await?;
        let connection = tokio::spawn(connection);
        let request = http::Request::builder().method(Method::CONNECT).uri(db.to_string()).body(())?;
        let (response, _body) = h2.send_request(request, false)?;
        assert_eq!(response.await?.status(), 403);
        connection.abort();

        assert_eq!(lab.backend("shop/db-1", 5432)?.seen().connections, 0);
        Ok(())
    })
}

#[test]
fn a_request_cannot_say_which_service_it_is_for_other_than_by_the_tunnel() -> Result<()> {
    lab::test(&shop(), async |lab| {
        // `web` is closed to wget, `reviews` is open to everyone.
        let wget = lab.client("default", "wget")?;
        let web = lab.catalog.resolve("web.shop:80")?.address.to_string();
        let reviews = lab.catalog.resolve("reviews.shop:80")?.address.to_string();
        for version in [Version::Http1, Version::Http2] {
            let mut session = wget.session("web.shop:80", version).await?;
            let spoofed = Request::get("/").header("x-wp-dst", &reviews)?.header("host", "reviews.shop")?;
            assert_eq!(session.send(spoofed).await?.status, 403, "{version:?}");

            let mut session = wget.session("reviews.shop:80", version).await?;
            let response = session.send(Request::get("/").header("x-wp-dst", &web)?).await?;
            let seen = response.json()?;
            assert_eq!((response.status, seen["name"].as_str()), (200, Some("reviews-v1")), "{version:?}");
            let headers = seen["headers"].as_object().context("no headers")?;
            let ours =
                headers.keys().filter(|name| name.starts_with("x-wp-") || name.starts_with("x-portolan"));
            assert_eq!(
                ours.collect::<Vec<_>>(),
                Vec::<&String>::new(),
                "a header of ours reached the backend"
            );
        }
        Ok(())
    })
}

#[test]
fn a_certificate_with_two_identities_or_with_none_is_refused() -> Result<()> {
    lab::test(&shop(), async |lab| {
        let (curl, wget) = (spiffe("default", "curl"), spiffe("default", "wget"));
        let foreign = "spiffe://elsewhere.example/ns/default/sa/curl";
        let cheats: [&[&str]; 5] = [&[&curl, &wget], &[&wget, &curl], &[&curl, foreign], &[foreign], &[]];
        for uris in cheats {
            let cheat = lab.stranger(Some(lab.authority.mint(uris)?));
            for authority in ["web.shop:80", "db.shop:5432", "reviews.shop:80"] {
                let outcome = cheat.tunnel(authority).await;
                let error = outcome.err().with_context(|| format!("{uris:?} was let in to {authority}"))?;
                let refused = error.downcast_ref::<hbone::Error>();
                let refused = matches!(
                    refused,
                    Some(hbone::Error::Refused { status: 403, .. } | hbone::Error::Handshake { .. })
                );
                ensure!(refused, "{uris:?} got to {authority} in another way: {error:#}");
            }
        }
        let nobody = lab.stranger(None).connection(GATEWAY).await;
        ensure!(nobody.is_err(), "a client without certificate was let in");
        for (pod, port) in [("shop/web-1", 8080), ("shop/reviews-v1", 8080), ("shop/db-1", 5432)] {
            assert_eq!(lab.backend(pod, port)?.seen().connections, 0, "{pod}");
        }
        Ok(())
    })
}

/// Envoy has three things to tell the two callers apart by when it picks an internal connection: the
/// hashable principal, the pool per tunnel connection, and the address that the tunnel comes from. The IP
/// address is the same for both here. The port cannot be: a waypoint listens for tunnels at one address,
/// and no two connections to it that are alive share an IP address and a port. So this shows that all three
/// together hold; that the first two are there is what the snapshot `waypoint/infrastructure` is for.
#[test]
fn concurrent_tunnels_of_two_identities_are_never_judged_as_each_other() -> Result<()> {
    /// Connections of each identity, tunnels of each connection, requests in each tunnel: ten thousand.
    const CONNECTIONS: usize = 25;
    /// Envoy ends a connection of which too many streams are reset, so there are several.
    const TUNNELS: usize = 20;
    const REQUESTS: usize = 10;
    lab::test(&shop(), async |lab| {
        let mut callers = Vec::new();
        for _ in 0..CONNECTIONS {
            callers.push((lab.client("default", "curl")?, 200));
            callers.push((lab.client("default", "wget")?, 403));
        }
        let callers = &callers;
        let tunnels = (0..TUNNELS * callers.len()).map(|index| {
            let (caller, expected) = &callers[index % callers.len()];
            async move {
                let version = if index / callers.len() % 2 == 0 { Version::Http1 } else { Version::Http2 };
                let mut session = caller.session("web.shop:80", version).await?;
                for _ in 0..REQUESTS {
                    let status = session.send(Request::get("/")).await?.status;
                    ensure!(status == *expected, "tunnel {index} was answered {status}, not {expected}");
                }
                Ok(())
            }
        });
        stream::iter(tunnels).buffer_unordered(32).try_collect::<()>().await?;
        let allowed = CONNECTIONS * TUNNELS * REQUESTS;
        assert_eq!(lab.backend("shop/web-1", 8080)?.seen().requests, allowed as u64);
        Ok(())
    })
}

#[test]
fn a_request_without_a_tunnel_meets_no_route_around_the_policies() -> Result<()> {
    lab::test(&shop(), async |lab| {
        for (account, authority) in
            [("wget", "web.shop:80"), ("curl", "web.shop:80"), ("wget", "reviews.shop:80")]
        {
            let caller = lab.client("default", account)?;
            let address = lab.catalog.resolve(authority)?.address;
            let request = http::Request::get(format!("https://{address}/")).body(())?;
            let status = caller.connection(GATEWAY).await?.request(request).await?;
            ensure!(status == 403, "{account} asked {authority} without a tunnel and got {status}");
        }
        assert_eq!(lab.backend("shop/web-1", 8080)?.seen().requests, 0);
        Ok(())
    })
}

#[test]
fn a_tunnel_to_an_address_that_is_no_service_is_not_found() -> Result<()> {
    lab::test(&shop(), async |lab| {
        let curl = lab.client("default", "curl")?;
        let connection = curl.connection(GATEWAY).await?;
        let web = lab.catalog.resolve("web.shop:80")?.address;
        let other_port = format!("{}:81", web.ip());
        for authority in ["10.1.2.3:80", "web.shop.svc.cluster.local:81", other_port.as_str()] {
            let error = connection.tunnel(authority, &http::HeaderMap::new()).await.err();
            let found = matches!(error, Some(hbone::Error::Refused { status: 404, .. }));
            ensure!(found, "{authority}: {error:?}");
        }
        let (tunnel, _) = connection.tunnel(&web.to_string(), &http::HeaderMap::new()).await?;
        let mut session = Session::open(tunnel, Version::Http1, "web.shop").await?;
        assert_eq!(session.send(Request::get("/")).await?.status, 200);
        Ok(())
    })
}
