//! Policies that ask which name a connection is for: only a real Envoy reads a real ClientHello.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Caller, Lab, backend::BANNER, caller::refusal, lab, lab::Setup, tls, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::shop::PATIENCE;

/// Longer than a silent client is waited for.
const ANSWER: Duration = Duration::from_secs(10);
/// A backend that speaks TLS, at a port without routes.
const ONE: &str = "one.mesh:443";
/// One that speaks first, whatever it is sent.
const SPEAKER: &str = "speaker.mesh:25";
/// A port whose connections are routed by name.
const NAMED: &str = "named.mesh:443";

const ROUTES: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: wild, namespace: mesh}
spec:
  parentRefs: [{group: "", kind: Service, name: named}]
  hostnames: ["*.example.com"]
  rules: [{backendRefs: [{name: two, port: 443}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: rest, namespace: mesh}
spec:
  parentRefs: [{group: "", kind: Service, name: named}]
  hostnames: []
  rules: [{backendRefs: [{name: speaker, port: 25}]}]
"#;

/// The file `policies.yaml`, one policy an action.
fn policies(service: &str, policies: &[(&str, &str)]) -> String {
    let policy = |(action, rules): &(&str, &str)| {
        let name = action.to_lowercase();
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: mesh}}\n\
             spec: {{targetRefs: [{{kind: Service, group: \"\", name: {service}}}], action: {action}, rules: {rules}}}\n---\n"
        )
    };
    policies.iter().map(policy).collect()
}

fn setup(service: &str, of_service: &[(&str, &str)]) -> Setup {
    Setup::manifests(include_str!("tls.yaml"))
        .file("routes.yaml", ROUTES)
        .file("policies.yaml", &policies(service, of_service))
}

/// Who answers to that name.
async fn ask(caller: &Caller, port: &str, name: Option<&str>) -> Result<String> {
    let tunnel = caller.tunnel(port).await?;
    let (_, (server, _)) = timeout(ANSWER, tls::connect(tunnel, name)).await??;
    Ok(server)
}

/// What comes back first on a connection that begins so; nothing if it is closed instead.
async fn first(caller: &Caller, port: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut tunnel = caller.tunnel(port).await?;
    // The end of a connection that is refused may be a reset.
    drop(tunnel.write_all(bytes).await);
    let mut first = vec![0; BANNER.len()];
    let length = timeout(ANSWER, tunnel.read(&mut first)).await.context("nobody answers or closes")?;
    first.truncate(length.unwrap_or_default());
    Ok(first)
}

/// A ClientHello that asks for a name that no client library would.
fn odd(name: u8) -> Result<Vec<u8>> {
    let mut hello = tls::hello("x")?;
    let entry = [0, 0, 1, b'x'];
    let at = hello.windows(entry.len()).position(|bytes| bytes == entry).context("no SNI")?;
    hello[at + 3] = name;
    Ok(hello)
}

fn connections(lab: &Lab) -> Result<u64> {
    let pods = [("mesh/one", 8443), ("mesh/two", 8443), ("mesh/speaker", 2525)];
    pods.iter().map(|(pod, port)| Ok(lab.backend(pod, *port)?.seen().connections)).sum()
}

#[test]
fn a_name_that_is_allowed_is_served_and_no_other_reaches_anybody() -> Result<()> {
    let rules = r#"[
        {from: [{source: {principals: ["cluster.local/ns/default/sa/curl"]}}],
         when: [{key: connection.sni, values: ["*.example.com"], notValues: [bad.example.com]}]},
        {from: [{source: {principals: ["cluster.local/ns/default/sa/wget"]}}]}]"#;
    lab::test(&setup("one", &[("ALLOW", rules), ("AUDIT", rules)]), async |lab| {
        let (curl, wget) = (lab.client("default", "curl")?, lab.client("default", "wget")?);
        assert_eq!(ask(&curl, ONE, Some("www.example.com")).await?, "one");
        assert_eq!(ask(&wget, ONE, Some("bad.example.com")).await?, "one");
        let before = connections(lab)?;
        for name in [Some("bad.example.com"), Some("example.com"), Some("www.example.org"), None] {
            ensure!(ask(&curl, ONE, name).await.is_err(), "{name:?} was served");
        }
        // No name would help, so there is not even a tunnel.
        let error = lab.client("default", "other")?.tunnel(ONE).await.err().context("other was let in")?;
        assert_eq!(refusal(&error), Some(403));
        assert_eq!(connections(lab)?, before);
        // What is reported is reported once, when all of it is known.
        let log = until("the access log", PATIENCE, async || {
            let log = lab.envoy("mesh/waypoint")?.output()?;
            Ok((log.matches("audit:").count() >= 2).then_some(log))
        })
        .await?;
        assert_eq!(log.matches("audit:").count(), 2, "{log}");

        // The next connection is judged by other rules, on the connection to the waypoint that is open.
        let drains = lab.envoy("mesh/waypoint")?.drains().await?;
        let other = "[{when: [{key: connection.sni, values: [EXAMPLE.com]}]}]";
        lab.write("policies.yaml", &policies("one", &[("ALLOW", other)]))?;
        until("the other name to be served", PATIENCE, async || {
            Ok(ask(&curl, ONE, Some("example.com")).await.ok())
        })
        .await?;
        ensure!(ask(&curl, ONE, Some("www.example.com")).await.is_err(), "the old name was served");
        assert_eq!(lab.envoy("mesh/waypoint")?.drains().await?, drains);
        Ok(())
    })
}

#[test]
fn a_name_that_is_denied_sees_no_byte_and_what_asks_for_none_is_served() -> Result<()> {
    let any = r#"[{when: [{key: connection.sni, values: ["*"]}]}]"#;
    lab::test(&setup("speaker", &[("DENY", any)]), async |lab| {
        let curl = lab.client("default", "curl")?;
        for silent in [&b""[..], b"EHLO\r\n"] {
            assert_eq!(first(&curl, SPEAKER, silent).await?, BANNER.as_bytes());
        }
        let before = connections(lab)?;
        // A dash is what Envoy writes for no name, and the slash is of no host's.
        for hello in [tls::hello("www.example.com")?, odd(b'-')?, odd(b'/')?] {
            assert_eq!(first(&curl, SPEAKER, &hello).await?, b"");
        }
        assert_eq!(connections(lab)?, before);

        let some = "[{when: [{key: connection.sni, values: [www.example.com]}]}]";
        lab.write("policies.yaml", &policies("speaker", &[("DENY", some)]))?;
        until("another name to be served", PATIENCE, async || {
            Ok((first(&curl, SPEAKER, &tls::hello("api.example.com")?).await? == BANNER.as_bytes())
                .then_some(()))
        })
        .await?;
        for hello in [tls::hello("www.example.com")?, odd(b'/')?] {
            assert_eq!(first(&curl, SPEAKER, &hello).await?, b"");
        }
        Ok(())
    })
}

#[test]
fn names_are_judged_where_they_are_routed_too() -> Result<()> {
    let deny = r#"[{when: [{key: connection.sni, notValues: ["*.example.com", other.example.org]}]}]"#;
    let allow = "[{when: [{key: connection.sni, notValues: [bad.example.com]}]}]";
    lab::test(&setup("named", &[("DENY", deny), ("ALLOW", allow)]), async |lab| {
        let curl = lab.client("default", "curl")?;
        assert_eq!(ask(&curl, NAMED, Some("www.example.com")).await?, "two");
        assert_eq!(first(&curl, NAMED, &tls::hello("other.example.org")?).await?, BANNER.as_bytes());
        let before = connections(lab)?;
        for hello in [tls::hello("bad.example.com")?, tls::hello("www.example.org")?, b"EHLO\r\n".to_vec()] {
            assert_eq!(first(&curl, NAMED, &hello).await?, b"");
        }
        assert_eq!(connections(lab)?, before);
        Ok(())
    })
}
