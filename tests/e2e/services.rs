//! Services of every shape, from a ServiceEntry to a pod's own address: only requests can tell that Envoy gets there.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, Method};
use tests::{
    Caller, Lab,
    backend::{BANNER, Backend, Protocol},
    caller::refusal,
    exchange::{Request, Session, Version},
    hbone::{self, Tunnel},
    lab,
    lab::Setup,
    until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::shop::PATIENCE;

/// The Gateway of all services here.
pub(crate) const GATEWAY: &str = "mesh/waypoint";

pub(crate) fn services() -> Setup {
    Setup::manifests(include_str!("services.yaml"))
}

/// Machines outside Kubernetes, listed, and only `curl` may ask them.
const LISTED: &str = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: legacy, namespace: mesh, labels: {istio.io/use-waypoint: waypoint}}
spec:
  hosts: [legacy.example.com]
  addresses: [127.10.0.120]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  endpoints:
  - {address: 127.10.0.21}
  - {address: 127.10.0.22, ports: {http: 8888}}
  - {address: 127.10.0.23, serviceAccount: legacy, labels: {networking.istio.io/tunnel: http}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: legacy, namespace: mesh}
spec:
  targetRefs: [{kind: ServiceEntry, group: networking.istio.io, name: legacy}]
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/curl]}}]}]
";

#[test]
fn the_endpoints_that_an_entry_lists_are_reached_by_whom_its_policy_allows() -> Result<()> {
    lab::test(&services().file("legacy.yaml", LISTED), async |lab| {
        let plain = http_at(lab, "plain", 21, 8080).await?;
        let _own_port = http_at(lab, "own-port", 22, 8888).await?;
        let behind = http_at(lab, "behind-a-tunnel", 23, 0).await?;
        let identity = lab.authority.workload("mesh", "legacy")?;
        let ports = [(8080, behind.address)].into();
        let ztunnel =
            hbone::Server::start(lab.loopback.address(23).into(), &identity, &lab.authority, ports)?;

        let address = at(lab, 120, 80);
        let wget = lab.client("default", "wget")?;
        assert_eq!(ask(&wget, &address, "legacy.example.com").await?, "403");
        assert_eq!((plain.seen().connections, ztunnel.accepted().len()), (0, 0));

        let curl = lab.client("default", "curl")?;
        let mut answered = BTreeSet::new();
        for _ in 0..200 {
            answered.insert(ask(&curl, &address, "legacy.example.com").await?);
            if answered.len() == 3 {
                break;
            }
        }
        let all = ["200 behind-a-tunnel", "200 own-port", "200 plain"].map(str::to_owned);
        assert_eq!(answered, all.into());
        let wanted = at(lab, 23, 8080);
        let accepted = ztunnel.accepted();
        ensure!(accepted.iter().all(|tunnel| tunnel.authority == wanted), "{accepted:?} to {wanted}");
        Ok(())
    })
}

#[test]
fn a_name_is_looked_up_and_asked_at_the_target_port() -> Result<()> {
    lab::test(&services(), async |lab| {
        // A name gives no address of the lab's own block, so the port has to be one that is free.
        let here = Backend::start("here", Protocol::Http, (Ipv4Addr::LOCALHOST, 0).into()).await?;
        let entries = [
            ("itself", "localhost", 121, "DNS", ""),
            ("listed", "api.example.com", 122, "DNS", "localhost"),
            ("in-turn", "lb.example.com", 124, "DNS_ROUND_ROBIN", "localhost"),
        ];
        let port = here.address.port();
        let documents = entries.map(|(name, host, vip, resolution, endpoint)| {
            let endpoints = match endpoint {
                "" => String::new(),
                endpoint => format!("endpoints: [{{address: {endpoint}}}]"),
            };
            format!(
                "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: mesh, labels: {{istio.io/use-waypoint: waypoint}}}}
spec:
  hosts: [{host}]
  addresses: [127.10.0.{vip}]
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]
  resolution: {resolution}
  {endpoints}
"
            )
        });
        lab.write("names.yaml", &documents.join("---"))?;
        let curl = lab.client("default", "curl")?;
        for (_, host, vip, _, _) in entries {
            becomes(&curl, &at(lab, vip, 80), host, "200 here").await?;
        }
        Ok(())
    })
}

/// No resolution: the caller has said where it wants to go.
const DIALLED: &str = r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: passed, namespace: mesh, labels: {istio.io/use-waypoint: waypoint}}
spec:
  hosts: [passed.example.com]
  addresses: [127.10.0.31, 127.10.0.32]
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 9000, name: tcp, protocol: TCP, targetPort: 9001}
  - {number: 7000, name: unsaid, protocol: "", targetPort: 7002}
  resolution: NONE
"#;

#[test]
fn without_resolution_the_dialled_address_is_asked_whatever_the_port_speaks() -> Result<()> {
    lab::test(&services().file("passed.yaml", DIALLED), async |lab| {
        let _one = http_at(lab, "one", 31, 8080).await?;
        let _two = http_at(lab, "two", 32, 8080).await?;
        let banner =
            |port| Backend::start("speaker", Protocol::Banner, (lab.loopback.address(31), port).into());
        let (declared, unsaid) = (banner(9001).await?, banner(7002).await?);
        let _unsaid_http = http_at(lab, "unsaid", 32, 7002).await?;

        let curl = lab.client("default", "curl")?;
        // Whatever host the request names, and header it has: it is the tunnel that counts.
        assert_eq!(ask(&curl, &at(lab, 31, 80), "passed.example.com").await?, "200 one");
        assert_eq!(ask(&curl, &at(lab, 32, 80), &at(lab, 31, 80)).await?, "200 two");
        let mut session = session(&curl, &at(lab, 32, 80), "passed.example.com").await?;
        let spoofed = Request::get("/").header("x-envoy-original-dst-host", &at(lab, 31, 8080))?;
        assert_eq!(session.send(spoofed).await?.json()?["name"], "two");

        speaks_first(dial(&curl, &at(lab, 31, 9000)).await?).await?;
        speaks_first(dial(&curl, &at(lab, 31, 7000)).await?).await?;
        assert_eq!((declared.seen().connections, unsaid.seen().connections), (1, 1));
        assert_eq!(ask(&curl, &at(lab, 32, 7000), "passed.example.com").await?, "200 unsaid");
        Ok(())
    })
}

#[test]
fn behind_a_wildcard_the_host_of_the_request_is_asked_and_no_host_outside() -> Result<()> {
    lab::test(&services(), async |lab| {
        // Names below localhost are this machine wherever there is no network, too.
        let here = Backend::start("here", Protocol::Http, (Ipv4Addr::LOCALHOST, 0).into()).await?;
        let port = here.address.port();
        let other = Backend::start("other", Protocol::Http, (Ipv4Addr::LOCALHOST, 0).into()).await?;
        let other_port = other.address.port();
        lab.write(
            "wild.yaml",
            &format!(
                r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: wild, namespace: mesh, labels: {{istio.io/use-waypoint: waypoint}}}}
spec:
  hosts: ["*.localhost"]
  addresses: [127.10.0.123]
  ports: [{{number: {port}, name: http, protocol: HTTP}}]
  resolution: DYNAMIC_DNS
"#
            ),
        )?;
        let curl = lab.client("default", "curl")?;
        let address = at(lab, 123, port);
        becomes(&curl, &address, &format!("a.localhost:{port}"), "200 here").await?;
        assert_eq!(ask(&curl, &address, &format!("b.a.localhost:{port}")).await?, "200 here");
        let outside = [
            format!("localhost:{port}"),
            format!("127.0.0.1:{port}"),
            format!("a.localhost.example.com:{port}"),
            format!("a.localhost:{other_port}"),
            "a.localhost".to_owned(),
        ];
        for host in outside {
            assert_eq!(ask(&curl, &address, &host).await?, "404", "{host}");
        }
        assert_eq!((here.seen().requests, other.seen().connections), (2, 0));
        Ok(())
    })
}

#[test]
fn a_service_is_reached_at_its_address_of_the_other_family_than_its_endpoints() -> Result<()> {
    lab::test(&services(), async |lab| {
        let curl = lab.client("default", "curl")?;
        assert_eq!(ask(&curl, "[fd00::1]:80", "dual.mesh").await?, "200 web-1");
        assert_eq!(ask(&curl, &at(lab, 111, 80), "dual.mesh").await?, "200 web-1");
        speaks_first(dial(&curl, "[fd00::2]:7000").await?).await?;
        for nobodys in ["[fd00::3]:80", "[fd00::1]:81"] {
            assert_eq!(ask(&curl, nobodys, "dual.mesh").await?, "CONNECT 404", "{nobodys}");
        }
        Ok(())
    })
}

/// Asks about HTTP, on ports that do not say that they speak it.
const GET_ONLY: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: mixed, namespace: mesh}
spec:
  targetRefs: [{kind: Service, group: "", name: mixed}]
  rules: [{to: [{operation: {methods: [GET]}}]}]
"#;

#[test]
fn a_port_that_does_not_say_carries_what_it_turns_out_to_be() -> Result<()> {
    lab::test(&services(), async |lab| {
        let curl = lab.client("default", "curl")?;
        speaks_first(dial(&curl, &at(lab, 113, 7000)).await?).await?;
        let mut session = session(&curl, &at(lab, 113, 7001), "mixed.mesh").await?;
        let response = session.send(Request::get("/")).await?;
        assert_eq!((response.status, response.json()?["name"].as_str()), (200, Some("mixed-1")));
        // It is Envoy that reads the requests, not only the backend.
        ensure!(response.headers.contains_key("x-envoy-upstream-service-time"), "{:?}", response.headers);
        Ok(())
    })
}

#[test]
fn if_a_policy_asks_about_http_nothing_else_gets_through_a_port_that_does_not_say() -> Result<()> {
    lab::test(&services().file("policy.yaml", GET_ONLY), async |lab| {
        let curl = lab.client("default", "curl")?;
        for words in ["", "EHLO example.com\r\n"] {
            let mut tunnel = dial(&curl, &at(lab, 113, 7000)).await?;
            tunnel.write_all(words.as_bytes()).await?;
            let mut said = Vec::new();
            // Closed or reset: either way, not a byte.
            let _ = timeout(PATIENCE, tunnel.read_to_end(&mut said)).await.context("still open")?;
            assert_eq!(String::from_utf8(said)?, "", "after {words:?}");
        }
        assert_eq!(lab.backend("mesh/mixed-1", 7000)?.seen().connections, 0);

        let mut session = session(&curl, &at(lab, 113, 7001), "mixed.mesh").await?;
        assert_eq!(session.send(Request::get("/")).await?.status, 200);
        assert_eq!(session.send(Request::new(Method::DELETE, "/")).await?.status, 403);
        assert_eq!(lab.backend("mesh/mixed-1", 7001)?.seen().requests, 1);
        Ok(())
    })
}

/// Holds for whatever goes through the waypoint.
const OF_THE_GATEWAY: &str = r"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: waypoint, namespace: mesh}
spec:
  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/wget]}}]}]
";

#[test]
fn a_pod_is_reached_at_its_own_address_and_the_gateways_policy_holds() -> Result<()> {
    lab::test(&services().file("policy.yaml", OF_THE_GATEWAY), async |lab| {
        let (curl, wget) = (lab.client("default", "curl")?, lab.client("default", "wget")?);
        for (pod, host) in [("web-1", 11), ("stock-1", 12)] {
            let own = at(lab, host, 8080);
            assert_eq!(ask(&curl, &own, &own).await?, format!("200 {pod}"));
            assert_eq!(ask(&wget, &own, &own).await?, "403", "{pod}");
        }
        let accepted = lab.ztunnels.get("mesh/stock-1").context("stock-1 is captured")?.accepted();
        assert_eq!(accepted.len(), 1, "{accepted:?}");
        assert_eq!(accepted[0].authority, at(lab, 12, 8080));

        // What is TCP by its port's name is judged as a tunnel.
        speaks_first(dial(&curl, &at(lab, 13, 7000)).await?).await?;
        assert_eq!(ask(&wget, &at(lab, 13, 7000), "").await?, "CONNECT 403");
        Ok(())
    })
}

#[test]
fn where_nobody_serves_nothing_is_available() -> Result<()> {
    lab::test(&services(), async |lab| {
        let curl = lab.client("default", "curl")?;
        assert_eq!(ask(&curl, &at(lab, 112, 80), "nobody.mesh").await?, "503");
        assert_eq!(ask(&curl, &at(lab, 112, 7000), "nobody.mesh").await?, "503");
        assert_eq!(ask(&curl, &at(lab, 112, 9000), "nobody.mesh").await?, "CONNECT 503");
        // A headless service has no address of its own: its pods are dialled.
        assert_eq!(ask(&curl, &at(lab, 11, 8080), "headless.mesh").await?, "200 web-1");
        Ok(())
    })
}

/// An address of the lab and a port, as a tunnel's authority.
pub(crate) fn at(lab: &Lab, host: u8, port: u16) -> String {
    SocketAddr::from((lab.loopback.address(host), port)).to_string()
}

pub(crate) async fn http_at(lab: &Lab, name: &str, host: u8, port: u16) -> Result<Backend> {
    Backend::start(name, Protocol::Http, (lab.loopback.address(host), port).into()).await
}

/// A tunnel to an address, whether the manifests give it to a Service or not.
pub(crate) async fn dial(caller: &Caller, authority: &str) -> Result<Tunnel> {
    let connection = caller.connection(GATEWAY).await?;
    Ok(connection.tunnel(authority, &HeaderMap::new()).await?.0)
}

pub(crate) async fn session(caller: &Caller, authority: &str, host: &str) -> Result<Session> {
    Session::open(dial(caller, authority).await?, Version::Http1, host).await
}

/// What a GET gives: the status and the name of the backend if one answered. `CONNECT` and its status
/// if no tunnel was opened.
pub(crate) async fn ask(caller: &Caller, authority: &str, host: &str) -> Result<String> {
    let mut session = match session(caller, authority, host).await {
        Ok(session) => session,
        Err(error) => {
            return refusal(&error).map(|status| format!("CONNECT {status}")).ok_or(error);
        }
    };
    let response = session.send(Request::get("/")).await.with_context(|| format!("asking {authority}"))?;
    let name = response.json().ok().and_then(|body| Some(format!(" {}", body["name"].as_str()?)));
    Ok(format!("{}{}", response.status, name.unwrap_or_default()))
}

pub(crate) async fn becomes(caller: &Caller, authority: &str, host: &str, wanted: &str) -> Result<()> {
    let what = format!("{authority} to answer {wanted}");
    let mut last = String::new();
    let asked = until(&what, PATIENCE, async || {
        last = ask(caller, authority, host).await?;
        Ok((last == wanted).then_some(()))
    });
    let outcome = asked.await;
    outcome.with_context(|| format!("its last answer was {last}"))
}

pub(crate) async fn speaks_first(mut tunnel: Tunnel) -> Result<Tunnel> {
    let mut banner = vec![0; BANNER.len()];
    timeout(PATIENCE, tunnel.read_exact(&mut banner)).await.context("nobody spoke")??;
    assert_eq!(String::from_utf8(banner)?, BANNER);
    Ok(tunnel)
}
