//! What is dialled that no scope names: addresses within blocks, pods at ports that nobody declares. And
//! tunnels that are routed by who opens them.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use http::{HeaderMap, HeaderValue};
use tests::{
    Caller, Lab,
    backend::{Backend, Protocol},
    caller::refusal,
    hbone, lab,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    services::{GATEWAY, ask, at, becomes, dial, http_at, services, speaks_first},
    shop::PATIENCE,
};

/// Blocks in blocks, and an address in both. Of `wide`, the caller says where it wants to go.
const BLOCKS: &str = r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wide, namespace: mesh, labels: {istio.io/use-waypoint: waypoint}}
spec:
  hosts: [wide.example.com]
  addresses: [127.10.0.32/27]
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 9000, name: tcp, protocol: TCP, targetPort: 9001}
  - {number: 7000, name: unsaid, protocol: "", targetPort: 7002}
  resolution: NONE
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: narrow, namespace: mesh, labels: {istio.io/use-waypoint: waypoint}}
spec:
  hosts: [narrow.example.com]
  addresses: [127.10.0.47/29, "fd00:1::/64"]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  endpoints: [{address: 127.10.0.21}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: exact, namespace: mesh, labels: {istio.io/use-waypoint: waypoint}}
spec:
  hosts: [exact.example.com]
  addresses: [127.10.0.41]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  endpoints: [{address: 127.10.0.22}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: wide, namespace: mesh}
spec:
  targetRefs: [{kind: ServiceEntry, group: networking.istio.io, name: wide}]
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/curl]}}]}]
"#;

#[test]
fn the_most_specific_of_what_has_the_dialled_address_and_port_is_reached_and_nothing_outside() -> Result<()> {
    lab::test(&services().file("blocks.yaml", BLOCKS), async |lab| {
        let _one = http_at(lab, "one", 33, 8080).await?;
        let _two = http_at(lab, "two", 34, 8080).await?;
        let _unsaid = http_at(lab, "unsaid", 34, 7002).await?;
        let _narrow = http_at(lab, "narrow", 21, 8080).await?;
        let _exact = http_at(lab, "exact", 22, 8080).await?;
        let _declared = banner_at(lab, 41, 9001).await?;
        let _speaker = banner_at(lab, 33, 7002).await?;

        let (curl, wget) = (lab.client("default", "curl")?, lab.client("default", "wget")?);
        let answers = [
            (at(lab, 33, 80), "200 one"),
            (at(lab, 34, 80), "200 two"),
            (at(lab, 34, 7000), "200 unsaid"),
            (at(lab, 40, 80), "200 narrow"),
            (at(lab, 47, 80), "200 narrow"),
            (at(lab, 41, 80), "200 exact"),
            ("[fd00:1::7]:80".to_owned(), "200 narrow"),
            // One address, however it is written.
            ("[fd00:0001:0::0007]:0080".to_owned(), "200 narrow"),
            ("[fd00:1:0:1::7]:80".to_owned(), "CONNECT 404"),
            (at(lab, 64, 80), "CONNECT 404"),
            (at(lab, 33, 81), "CONNECT 404"),
            (at(lab, 33, 8080), "CONNECT 404"),
            ("blocks".to_owned(), "CONNECT 404"),
            ("narrow.example.com:80".to_owned(), "CONNECT 404"),
        ];
        for (address, wanted) in &answers {
            assert_eq!(ask(&curl, address, "some.example.com").await?, *wanted, "{address}");
        }
        speaks_first(dial(&curl, &at(lab, 33, 7000)).await?).await?;
        // The address is another's at another port only.
        speaks_first(dial(&curl, &at(lab, 41, 9000)).await?).await?;

        assert_eq!(ask(&wget, &at(lab, 33, 80), "").await?, "403");
        assert_eq!(ask(&wget, &at(lab, 33, 9000), "").await?, "CONNECT 403");
        assert_eq!(ask(&wget, &at(lab, 33, 7000), "").await?, "CONNECT 403");
        assert_eq!(ask(&wget, &at(lab, 40, 80), "").await?, "200 narrow");

        // The caller's word for where it wants to go is the address, and nothing else.
        for key in ["mesh/hosts/narrow.example.com:80", "blocks", &at(lab, 41, 80)] {
            for header in ["x-wp-dst", "x-wp-route", "x-wp-port"] {
                let status = connect(&curl, &at(lab, 64, 80), header, key).await?;
                assert_eq!(status, Some(404), "{header}: {key}");
            }
        }
        Ok(())
    })
}

#[test]
fn blocks_come_and_go_without_a_drain_and_leave_open_connections_alone() -> Result<()> {
    lab::test(&services().file("blocks.yaml", BLOCKS), async |lab| {
        let speaker = banner_at(lab, 33, 9001).await?;
        let _two = http_at(lab, "two", 50, 8080).await?;
        let curl = lab.client("default", "curl")?;
        let mut open = speaks_first(dial(&curl, &at(lab, 33, 9000)).await?).await?;
        let drains = lab.envoy(GATEWAY)?.drains().await?;

        lab.edit("blocks.yaml", "127.10.0.32/27", "127.10.0.48/28")?;
        becomes(&curl, &at(lab, 33, 80), "", "CONNECT 404").await?;
        assert_eq!(ask(&curl, &at(lab, 33, 9000), "").await?, "CONNECT 404");
        assert_eq!(ask(&curl, &at(lab, 50, 80), "wide.example.com").await?, "200 two");
        open.write_all(b"still here").await?;
        let mut echo = [0; 10];
        timeout(PATIENCE, open.read_exact(&mut echo)).await.context("no echo")??;
        assert_eq!(&echo, b"still here");
        assert_eq!(speaker.seen().connections, 1);
        assert_eq!(lab.envoy(GATEWAY)?.drains().await?, drains);
        Ok(())
    })
}

/// Another captured pod, of which nothing is declared.
const SILENT: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: silent-1, namespace: mesh, annotations: {ambient.istio.io/redirection: enabled}}
spec: {serviceAccountName: silent, containers: [{name: silent, image: silent}]}
status: {phase: Running, podIP: 127.10.0.14, podIPs: [{ip: 127.10.0.14}]}
";

/// Nobody gets to port 9999, wget to none.
const CLOSED: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: mesh}
spec:
  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]
  action: DENY
  rules:
  - to: [{operation: {ports: ["9999"]}}]
  - from: [{source: {principals: [cluster.local/ns/default/sa/wget]}}]
"#;

/// Only GET, and only on two ports.
const ONLY_GET: &str = r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-get, namespace: mesh}
spec:
  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}]
  rules:
  - to: [{operation: {methods: [GET], ports: ["8080", "8081"]}}]
"#;

#[test]
fn a_pod_is_reached_at_ports_that_nobody_declares_and_policies_know_which_it_was() -> Result<()> {
    lab::test(&services().file("closed.yaml", CLOSED), async |lab| {
        let _plain = http_at(lab, "plain", 11, 8081).await?;
        let _other = http_at(lab, "other", 11, 8082).await?;
        let shut = http_at(lab, "shut", 11, 9999).await?;
        let _speaker = banner_at(lab, 11, 7777).await?;

        // Behind its ztunnel the captured one has the same ports.
        let (http, speaker) = (http_at(lab, "captured", 14, 0).await?, banner_at(lab, 14, 0).await?);
        let other = http_at(lab, "captured-other", 14, 0).await?;
        let ports =
            [(8081, http.address), (8082, other.address), (9999, http.address), (7777, speaker.address)];
        let identity = lab.authority.workload("mesh", "silent")?;
        let address = lab.loopback.address(14);
        let ztunnel = hbone::Server::start(address.into(), &identity, &lab.authority, ports.into())?;
        lab.write("silent.yaml", SILENT)?;

        let (curl, wget) = (lab.client("default", "curl")?, lab.client("default", "wget")?);
        becomes(&curl, &at(lab, 14, 8081), "", "200 captured").await?;
        for (host, first, second) in [(11, "plain", "other"), (14, "captured", "captured-other")] {
            assert_eq!(ask(&curl, &at(lab, host, 8081), "").await?, format!("200 {first}"));
            assert_eq!(ask(&curl, &at(lab, host, 8082), "").await?, format!("200 {second}"));
            speaks_first(dial(&curl, &at(lab, host, 7777)).await?).await?;
            assert_eq!(ask(&wget, &at(lab, host, 8081), "").await?, "CONNECT 403");
            // However the number is written.
            for port in ["9999", "09999"] {
                let address = format!("{}:{port}", lab.loopback.address(host));
                assert_eq!(ask(&curl, &address, "").await?, "CONNECT 403", "{address}");
            }
        }
        let accepted = ztunnel.accepted();
        let asked = |port| accepted.iter().any(|tunnel| tunnel.authority == at(lab, 14, port));
        ensure!(asked(8081) && asked(8082) && asked(7777) && !asked(9999), "{accepted:?}");

        // A policy that asks about HTTP lets nothing else through.
        lab.write("only-get.yaml", ONLY_GET)?;
        for (host, first) in [(11, "plain"), (14, "captured")] {
            becomes(&curl, &at(lab, host, 8082), "", "403").await?;
            assert_eq!(ask(&curl, &at(lab, host, 8081), "").await?, format!("200 {first}"));
            assert_eq!(ask(&curl, &at(lab, host, 9999), "").await?, "403");
            assert_eq!(ask(&wget, &at(lab, host, 8081), "").await?, "403");
            let mut tunnel = dial(&curl, &at(lab, host, 7777)).await?;
            let mut said = Vec::new();
            let _ = timeout(PATIENCE, tunnel.read_to_end(&mut said)).await.context("still open")?;
            assert_eq!(String::from_utf8(said)?, "");
        }
        assert_eq!(shut.seen().connections, 0);
        // Nobody's pod, whatever the port.
        assert_eq!(ask(&curl, &at(lab, 15, 8081), "").await?, "CONNECT 404");
        Ok(())
    })
}

/// Callers of `buyers` have a copy of their own, on a port that is declared and on one that is not.
const BUYERS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: bank, namespace: mesh}
spec: {clusterIP: 127.10.0.115, ports: [{name: tcp, port: 7000}, {name: unsaid, port: 7001}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: bank-1, namespace: mesh, labels: {kubernetes.io/service-name: bank}}
addressType: IPv4
endpoints: [{addresses: [127.10.0.24], conditions: {ready: true}}]
ports: [{name: tcp, port: 7000}, {name: unsaid, port: 7000}]
---
apiVersion: v1
kind: Service
metadata: {name: copy, namespace: buyers}
spec: {clusterIP: 127.10.0.116, ports: [{name: tcp, port: 7000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: copy-1, namespace: buyers, labels: {kubernetes.io/service-name: copy}}
addressType: IPv4
endpoints: [{addresses: [127.10.0.25], conditions: {ready: true}}]
ports: [{name: tcp, port: 7000}]
---
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: copy, namespace: buyers}
spec:
  parentRefs: [{group: "", kind: Service, name: bank, namespace: mesh}]
  rules: [{backendRefs: [{name: copy, port: 7000}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: bank, namespace: mesh}
spec:
  targetRefs: [{kind: Service, group: "", name: bank}]
  action: DENY
  rules: [{from: [{source: {serviceAccounts: [buyers/thief]}}]}]
"#;

#[test]
fn a_consumers_route_of_connections_is_for_the_callers_of_its_own_namespace() -> Result<()> {
    lab::test(&services().file("buyers.yaml", BUYERS), async |lab| {
        let (own, copy) = (banner_at(lab, 24, 7000).await?, banner_at(lab, 25, 7000).await?);
        let seen = || (own.seen().connections, copy.seen().connections);
        let mut wanted = (0, 0);
        for port in [7000, 7001] {
            for (namespace, account) in
                [("buyers", "curl"), ("default", "curl"), ("buyers-two", "curl"), ("default", "buyers")]
            {
                let caller = lab.client(namespace, account)?;
                let connection = caller.connection(GATEWAY).await?;
                // Who calls is what the certificate says.
                let mut headers = HeaderMap::new();
                headers.insert("baggage", HeaderValue::from_static("k8s.namespace.name=buyers"));
                headers.insert(
                    "x-forwarded-client-cert",
                    HeaderValue::from_static("URI=spiffe://cluster.local/ns/buyers/sa/curl"),
                );
                let (tunnel, _) = connection.tunnel(&at(lab, 115, port), &headers).await?;
                speaks_first(tunnel).await?;
                wanted =
                    if namespace == "buyers" { (wanted.0, wanted.1 + 1) } else { (wanted.0 + 1, wanted.1) };
                assert_eq!(seen(), wanted, "{namespace}/{account} at {port}");
            }
            let thief = lab.client("buyers", "thief")?;
            assert_eq!(ask(&thief, &at(lab, 115, port), "").await?, "CONNECT 403");
        }
        Ok(())
    })
}

async fn banner_at(lab: &Lab, host: u8, port: u16) -> Result<Backend> {
    let address: Ipv4Addr = lab.loopback.address(host);
    Backend::start("speaker", Protocol::Banner, (address, port).into()).await
}

/// The status of a CONNECT with a header, if it is refused.
async fn connect(caller: &Caller, authority: &str, header: &'static str, value: &str) -> Result<Option<u16>> {
    let mut headers = HeaderMap::new();
    headers.insert(header, HeaderValue::from_str(value)?);
    let outcome = caller.connection(GATEWAY).await?.tunnel(authority, &headers).await;
    Ok(outcome.err().and_then(|error| refusal(&error.into())))
}
