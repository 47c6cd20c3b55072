//! One request of a case, byte for byte as the case has it, and what became of it.

use std::{net::IpAddr, sync::LazyLock, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use http::{HeaderMap, Method};
use tests::{
    Authority, Lab,
    authorization::{Ask, Case, Set, Verdict},
    exchange::{Request, Session, Version},
    hbone::{self, Connection, Tunnel},
    tls,
    token::Issuer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// Whose tokens every rule of every set takes.
pub(super) static ISSUER: LazyLock<Issuer> = LazyLock::new(|| Issuer::new("key").expect("a key can be made"));

/// Who signs the certificates of callers of other trust domains.
pub(super) static FOREIGN: LazyLock<Authority> =
    LazyLock::new(|| Authority::stranger("the root of other meshes").expect("a root can be made"));

/// Longer than any answer takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every denied request is told.
const DENIED: &str = "RBAC: access denied";

/// Sends the request of a case and says what came of it.
pub(super) async fn judged(lab: &Lab, set: &Set, case: &Case) -> Result<Verdict> {
    timeout(PATIENCE, ask(lab, set, case)).await.context("no answer")?
}

async fn ask(lab: &Lab, set: &Set, case: &Case) -> Result<Verdict> {
    let ask = &case.ask;
    let tunnel = match dial(lab, set, case).await {
        Ok(tunnel) => tunnel,
        Err(hbone::Error::Refused { status: 403, body }) if set.tcp && body == DENIED => {
            return Ok(Verdict::Deny);
        }
        Err(error) => return Err(error.into()),
    };
    if set.tcp {
        return bytes(tunnel, ask.sni.as_deref()).await;
    }
    let (status, body) = if ask.http2 { http2(tunnel, ask).await? } else { http1(lab, tunnel, ask).await? };
    match (status, body.as_str()) {
        (200, _) => Ok(Verdict::Allow),
        (403, DENIED) => Ok(Verdict::Deny),
        // The answer to a HEAD has no body.
        (403, "") if ask.method == "HEAD" => Ok(Verdict::Deny),
        (403, body) if body.starts_with("Audiences in Jwt") => Ok(Verdict::Forbidden),
        (401, _) => Ok(Verdict::Unauthenticated),
        (400, _) => Ok(Verdict::Bad),
        (status, body) => bail!("{status} {body:?}"),
    }
}

/// Opens a tunnel under the identity and from the address of the case, on a connection of its own.
async fn dial(lab: &Lab, set: &Set, case: &Case) -> Result<Tunnel, hbone::Error> {
    let ask = &case.ask;
    let wrong = |reason: String| hbone::Error::Refused { status: 0, body: reason };
    let signer = if set.foreign(case).is_some() { &*FOREIGN } else { &*lab.authority };
    let identity = signer.mint(&[&ask.peer_id()]).map_err(|error| wrong(error.to_string()))?;
    let gateway = if ask.to.is_ipv6() { "foo/waypoint-v6" } else { "foo/waypoint" };
    let mut waypoint = lab.catalog.waypoint(gateway).map_err(|error| wrong(error.to_string()))?;
    if let Some(domain) = set.mesh.trust_domains.first() {
        waypoint.identity =
            waypoint.identity.replace("spiffe://cluster.local/", &format!("spiffe://{domain}/"));
    }
    let source = lab.loopback.localize(&ask.from).parse::<IpAddr>();
    let source = source.map_err(|error| wrong(error.to_string()))?;
    let connection = Connection::open(&waypoint, source, &lab.authority, Some(&identity)).await?;
    let (tunnel, _) = connection.tunnel(&ask.to.to_string(), &HeaderMap::new()).await?;
    Ok(tunnel)
}

/// Whether bytes come back. A connection that is closed at the first byte was denied.
async fn bytes(mut tunnel: Tunnel, sni: Option<&str>) -> Result<Verdict> {
    let sent = sni.map_or_else(|| Ok(b"hello".to_vec()), tls::hello)?;
    tunnel.write_all(&sent).await?;
    let mut got = vec![0; sent.len()];
    match tunnel.read_exact(&mut got).await {
        Ok(_) if got == sent => Ok(Verdict::Allow),
        Ok(_) => bail!("other bytes came back"),
        Err(_) => Ok(Verdict::Deny),
    }
}

/// The headers of the request, with its tokens signed.
fn headers(ask: &Ask) -> Result<Vec<(String, String)>> {
    ask.headers(|claims| ISSUER.sign(claims))
}

/// By hand, as no client library sends a method in lower case or an empty host.
async fn http1(lab: &Lab, mut tunnel: Tunnel, ask: &Ask) -> Result<(u16, String)> {
    let mut request = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", ask.method, ask.path, ask.host);
    for (name, value) in &headers(ask)? {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.push_str("\r\n");
    tunnel.write_all(lab.loopback.localize(&request).as_bytes()).await?;
    let mut answer = String::new();
    let mut some = vec![0; 4096];
    loop {
        if let Some((head, body)) = answer.split_once("\r\n\r\n")
            && (ask.method == "HEAD" || body.len() >= length(head))
        {
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            return Ok((status.with_context(|| format!("no status: {head:?}"))?, body.to_owned()));
        }
        let read = tunnel.read(&mut some).await.with_context(|| format!("after {answer:?}"))?;
        ensure!(read > 0, "no response: {answer:?}");
        answer.push_str(&String::from_utf8_lossy(&some[..read]));
    }
}

/// How long the body is, as far as it matters: what we compare has its length in the head.
fn length(head: &str) -> usize {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.find_map(|(_, length)| length.parse().ok()).unwrap_or_default()
}

async fn http2(tunnel: Tunnel, ask: &Ask) -> Result<(u16, String)> {
    let mut session = Session::open(tunnel, Version::Http2, &ask.host).await?;
    let mut request = Request::new(Method::from_bytes(ask.method.as_bytes())?, &ask.path);
    for (name, value) in &headers(ask)? {
        request = request.header(name, value)?;
    }
    let response = session.send(request).await?;
    Ok((response.status, response.text()))
}
