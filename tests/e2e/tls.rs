//! Connections routed by the name that they ask for: only a real Envoy reads a real ClientHello.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tests::{Caller, Lab, backend::BANNER, caller::refusal, lab, lab::Setup, tls, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::shop::{PATIENCE, settled};

/// Where everyone calls.
const PORT: &str = "named.mesh:443";
/// Long enough for a refusal, short enough for a test: a connection that nobody answers is an error.
const ANSWER: Duration = Duration::from_secs(10);

/// A TLSRoute on that port, for names as JSON has them.
fn route(name: &str, hostnames: &str, backends: &str) -> String {
    format!(
        r#"
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {{name: {name}, namespace: mesh}}
spec:
  parentRefs: [{{group: "", kind: Service, name: named}}]
  hostnames: {hostnames}
  rules: [{{backendRefs: {backends}}}]
---"#
    )
}

const ONE: &str = "[{name: one, port: 443}]";
const TWO: &str = "[{name: two, port: 443}]";
const SPEAKER: &str = "[{name: speaker, port: 25}]";

fn names() -> String {
    route("exact", "[www.example.com]", ONE) + &route("wild", r#"["*.example.com"]"#, TWO)
}

fn setup() -> Setup {
    Setup::manifests(include_str!("tls.yaml")).file("routes.yaml", &names())
}

/// Who answers to that name.
async fn ask(caller: &Caller, name: Option<&str>) -> Result<String> {
    let tunnel = caller.tunnel(PORT).await?;
    let (mut stream, (server, asked)) = timeout(ANSWER, tls::connect(tunnel, name)).await??;
    ensure!(asked.as_deref() == name, "{server} was asked for {asked:?}, not {name:?}");
    let text = vec![7; 100_000];
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let mut echo = vec![0; text.len()];
    let send = async {
        write.write_all(&text).await?;
        write.flush().await
    };
    tokio::try_join!(send, read.read_exact(&mut echo))?;
    ensure!(echo == text, "other bytes came back");
    Ok(server)
}

async fn becomes(caller: &Caller, name: &str, server: &str) -> Result<()> {
    until(&format!("{name} to be {server}"), PATIENCE, async || {
        Ok(ask(caller, Some(name)).await.is_ok_and(|answered| answered == server).then_some(()))
    })
    .await
}

/// All that comes back on a connection that sends these bytes, until the other end closes it.
async fn answer(caller: &Caller, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut tunnel = caller.tunnel(PORT).await?;
    let mut answer = Vec::new();
    // The end of a connection that is refused may be a reset.
    drop(tunnel.write_all(bytes).await);
    drop(timeout(ANSWER, tunnel.read_to_end(&mut answer)).await.context("nobody answers or closes")?);
    Ok(answer)
}

fn reached(lab: &Lab) -> Result<u64> {
    let pods = [("mesh/one", 8443), ("mesh/two", 8443), ("mesh/speaker", 2525)];
    pods.iter().map(|(pod, port)| Ok(lab.backend(pod, *port)?.seen().connections)).sum()
}

#[test]
fn the_name_that_a_client_asks_for_decides_and_other_connections_reach_nobody() -> Result<()> {
    lab::test(&setup(), async |lab| {
        let curl = lab.client("default", "curl")?;
        let longest = format!("{}.example.com", ["a"; 120].join("."));
        for (name, server) in [
            ("www.example.com", "one"),
            ("api.example.com", "two"),
            ("deep.www.example.com", "two"),
            (longest.as_str(), "two"),
        ] {
            assert_eq!(ask(&curl, Some(name)).await.context(name.to_owned())?, server, "{name}");
        }
        let before = reached(lab)?;
        for name in ["example.com", "www.example.org", "notexample.com", "www.example.com.sni", "x.sni"] {
            ensure!(ask(&curl, Some(name)).await.is_err(), "{name} was answered");
        }
        ensure!(ask(&curl, None).await.is_err(), "no name was answered");
        assert_eq!(answer(&curl, b"GET / HTTP/1.1\r\n\r\n").await?, b"");
        assert_eq!(answer(&curl, b"").await?, b"", "a client that says nothing");
        assert_eq!(reached(lab)?, before);

        // In lower case and in upper case; in one piece and in many; and after the end of what it sends.
        let hello = tls::hello("www.example.com")?;
        let position = hello.windows(15).position(|bytes| bytes == b"www.example.com").context("no SNI")?;
        let mut loud = hello.clone();
        loud[position..position + 15].make_ascii_uppercase();
        for hello in [hello, loud] {
            let mut tunnel = curl.tunnel(PORT).await?;
            for piece in hello.chunks(40) {
                tunnel.write_all(piece).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tunnel.shutdown().await?;
            let first = timeout(ANSWER, tunnel.read_u8()).await??;
            assert_eq!(first, 22, "a handshake of TLS comes back");
        }
        assert_eq!(reached(lab)?, before + 2);
        let odd = [b"www/example.com", b"www:example.com", b"www.example\0com", b"www.example.com"];
        for (number, odd) in odd.into_iter().enumerate() {
            let mut bytes = tls::hello("xxx.xxxxxxx.xxx")?;
            let position =
                bytes.windows(15).position(|bytes| bytes == b"xxx.xxxxxxx.xxx").context("no SNI")?;
            bytes[position..position + 15].copy_from_slice(odd);
            let served = !answer_starts(&curl, &bytes).await?.is_empty();
            assert_eq!(served, number == 3, "{:?}", String::from_utf8_lossy(odd));
        }

        let log = until("the access log", PATIENCE, async || {
            let log = lab.envoy("mesh/waypoint")?.output()?;
            Ok((log.contains("mesh/exact/0") && log.contains("mesh/wild/0")).then_some(log))
        });
        let log = log.await?;
        let line = log.lines().find(|line| line.contains("mesh/exact/0")).context("no line")?;
        for part in ["\"www.example.com.sni\"", "outbound|443||one.mesh.svc.cluster.local", ":443 "] {
            ensure!(line.contains(part), "{line:?} does not say {part:?}");
        }

        // Nothing is left behind of connections that ended.
        until("all internal connections to end", PATIENCE, async || {
            let envoy = lab.envoy("mesh/waypoint")?;
            let mut open = 0;
            for cluster in ["main_internal_tls", "tls_router"] {
                open += envoy.stat(&format!("cluster.{cluster}.upstream_cx_active")).await?;
            }
            Ok((open == 0).then_some(()))
        })
        .await
    })
}

/// The first bytes that come back, none if the connection is closed instead.
async fn answer_starts(caller: &Caller, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut tunnel = caller.tunnel(PORT).await?;
    tunnel.write_all(bytes).await?;
    let mut first = vec![0; 1];
    let length = timeout(ANSWER, tunnel.read(&mut first)).await.context("nobody answers or closes")?;
    first.truncate(length.unwrap_or_default());
    Ok(first)
}

#[test]
fn what_asks_for_no_name_that_is_routed_goes_to_the_route_without_names() -> Result<()> {
    let routes = names() + &route("rest", "[]", SPEAKER);
    lab::test(&setup().file("routes.yaml", &routes), async |lab| {
        let curl = lab.client("default", "curl")?;
        assert_eq!(ask(&curl, Some("www.example.com")).await?, "one");
        let whoever = [tls::hello("www.example.org")?, b"EHLO\r\n".to_vec(), Vec::new()];
        for bytes in whoever {
            let mut tunnel = curl.tunnel(PORT).await?;
            tunnel.write_all(&bytes).await?;
            let mut answer = vec![0; BANNER.len() + bytes.len()];
            timeout(ANSWER, tunnel.read_exact(&mut answer)).await??;
            assert_eq!(answer, [BANNER.as_bytes(), &bytes].concat());
            // Its end ends what comes back, and no sooner.
            tunnel.write_all(b"bye").await?;
            tunnel.shutdown().await?;
            let mut rest = Vec::new();
            timeout(ANSWER, tunnel.read_to_end(&mut rest)).await??;
            assert_eq!(rest, b"bye");
        }
        Ok(())
    })
}

#[test]
fn a_denied_client_gets_no_tunnel_whatever_it_would_have_asked_for() -> Result<()> {
    let policy = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-curl, namespace: mesh}
spec:
  targetRefs: [{kind: Service, group: \"\", name: named}]
  rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/curl]}}]}]
";
    lab::test(&setup().file("policy.yaml", policy), async |lab| {
        assert_eq!(ask(&lab.client("default", "curl")?, Some("api.example.com")).await?, "two");
        let before = reached(lab)?;
        let error = lab.client("default", "wget")?.tunnel(PORT).await.err().context("wget was let in")?;
        assert_eq!(refusal(&error), Some(403));
        assert_eq!(reached(lab)?, before);
        Ok(())
    })
}

/// A route of the namespace `other`, for its own callers.
const CONSUMER: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: other}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: mine, namespace: other}
spec:
  parentRefs: [{group: "", kind: Service, name: named, namespace: mesh}]
  hostnames: ["*.www.example.com", www.example.com]
  rules: [{backendRefs: [{name: two, namespace: mesh, port: 443}]}]
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: other, namespace: mesh}
spec: {from: [{group: gateway.networking.k8s.io, kind: TLSRoute, namespace: other}], to: [{group: "", kind: Service}]}
"#;

#[test]
fn a_consumers_names_are_for_its_own_callers_and_stand_alone() -> Result<()> {
    lab::test(&setup().file("consumer.yaml", CONSUMER), async |lab| {
        let (curl, mine) = (lab.client("default", "curl")?, lab.client("other", "curl")?);
        for _ in 0..3 {
            assert_eq!(ask(&curl, Some("www.example.com")).await?, "one");
            assert_eq!(ask(&mine, Some("www.example.com")).await?, "two");
            assert_eq!(ask(&mine, Some("deep.www.example.com")).await?, "two");
        }
        assert_eq!(ask(&curl, Some("api.example.com")).await?, "two");
        ensure!(ask(&mine, Some("api.example.com")).await.is_err(), "the producer's names are not for it");
        Ok(())
    })
}

/// An entry whose backend is whatever was dialled: the pod `one`, at a port of its own.
const PASSED: &str = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: passed, namespace: mesh}
spec:
  hosts: [passed.example.com]
  addresses: [127.10.0.11]
  ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]
  resolution: NONE
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: passed, namespace: mesh}
spec:
  parentRefs: [{group: networking.istio.io, kind: ServiceEntry, name: passed}]
  hostnames: [passed.example.com]
  rules: [{backendRefs: [{group: networking.istio.io, kind: Hostname, name: passed.example.com, port: 443}]}]
";

#[test]
fn what_was_dialled_is_known_behind_the_name() -> Result<()> {
    lab::test(&setup().file("passed.yaml", PASSED), async |lab| {
        let connection = lab.client("default", "curl")?.connection("mesh/waypoint").await?;
        let address = std::net::SocketAddr::from((lab.loopback.address(11), 443)).to_string();
        let (tunnel, _) = connection.tunnel(&address, &http::HeaderMap::new()).await?;
        let (_, (server, _)) = timeout(ANSWER, tls::connect(tunnel, Some("passed.example.com"))).await??;
        assert_eq!(server, "one");
        let (tunnel, _) = connection.tunnel(&address, &http::HeaderMap::new()).await?;
        ensure!(timeout(ANSWER, tls::connect(tunnel, Some("www.example.com"))).await?.is_err());
        Ok(())
    })
}

#[test]
fn weights_share_out_the_connections_of_a_name_and_a_missing_backend_fails_its_share() -> Result<()> {
    let third = "[{name: one, port: 443, weight: 1}, {name: two, port: 443, weight: 1}, {name: missing, port: 443, weight: 1}, {name: speaker, port: 25, weight: 0}]";
    let routes = route("split", "[www.example.com]", third);
    lab::test(&setup().file("routes.yaml", &routes), async |lab| {
        let curl = lab.client("default", "curl")?;
        let (mut one, mut two, mut failed) = (0, 0, 0);
        for _ in 0..90 {
            match ask(&curl, Some("www.example.com")).await.as_deref() {
                Ok("one") => one += 1,
                Ok("two") => two += 1,
                Ok(other) => anyhow::bail!("{other} has no share"),
                Err(_) => failed += 1,
            }
        }
        // Each is 30 give or take 4.5; six of those are not seen in a lifetime.
        ensure!([one, two, failed].iter().all(|count| (3..57).contains(count)), "{one} {two} {failed}");
        Ok(())
    })
}

#[test]
fn flips_between_names_and_no_names_under_load_fail_no_connection_and_drain_nothing() -> Result<()> {
    const FLIPS: usize = 60;
    lab::test(&setup(), async |lab| {
        let prober = lab.client("default", "curl")?;
        becomes(&prober, "www.example.com", "one").await?;
        let envoy = lab.envoy("mesh/waypoint")?;
        settled(envoy).await?;
        let drains = envoy.drains().await?;
        let (open, _) = tls::connect(prober.tunnel(PORT).await?, Some("www.example.com")).await?;

        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let loads = (0..3).map(|number| {
            let caller = lab.client("default", &format!("caller-{number}"));
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            async move {
                let caller = caller?;
                let load = tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        ask(&caller, Some("www.example.com")).await?;
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    anyhow::Ok(())
                });
                load.await?
            }
        });
        let flips = async {
            let flipped = async {
                // By name, straight through the tunnel, and by a wildcard.
                let states = [
                    (names(), "one"),
                    (route("exact", "[]", TWO), "two"),
                    (route("wild", r#"["*.example.com"]"#, ONE), "one"),
                    (route("exact", "[www.example.com]", TWO) + &route("rest", "[]", ONE), "two"),
                ];
                for flip in 1..=FLIPS {
                    let (routes, server) = &states[flip % states.len()];
                    lab.write("routes.yaml", routes)?;
                    becomes(&prober, "www.example.com", server).await?;
                }
                anyhow::Ok(())
            };
            let outcome = flipped.await;
            stop.store(true, Ordering::Relaxed);
            outcome
        };
        tokio::try_join!(try_join_all(loads), flips)?;
        let count = count.load(Ordering::Relaxed);
        eprintln!("{FLIPS} flips, and {count} connections beside them");
        ensure!(count > FLIPS, "only {count} connections were opened beside {FLIPS} flips");

        let mut open = open;
        open.write_all(b"still there").await?;
        open.flush().await?;
        let mut echo = [0; 11];
        timeout(ANSWER, open.read_exact(&mut echo)).await??;
        assert_eq!(&echo, b"still there");
        assert_eq!(envoy.drains().await?, drains);
        Ok(())
    })
}
