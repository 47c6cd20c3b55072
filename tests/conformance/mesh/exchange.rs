//! One line of a scenario's table, played: the request through the caller's own tunnel, and what came of it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use http::{HeaderMap, Method, Uri, header::LOCATION};
use serde_json::Value;
use tests::{
    Lab,
    exchange::{Request, Response, Session, Version},
    grpc, until,
};
use tokio::{net::TcpStream, time::timeout};

use super::scenario::{Exchange, Received};

/// How long a change may take to arrive, as upstream has it: what is right in the end is right.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many requests tell the shares of backends, and on how many connections.
const REQUESTS: usize = 2000;
const CONNECTIONS: usize = 8;

/// How far a share may be off, in hundredths: upstream's tolerance. Of 2,000 requests it is five
/// standard deviations, so a right split fails once in a million runs.
const TOLERANCE: usize = 5;

/// What is asked of whom.
struct Asked {
    session: Session,
    method: String,
    path: String,
}

/// Plays one exchange until it is as expected, or says what is not.
pub(super) async fn check(lab: &Lab, exchange: &Exchange) -> Result<()> {
    let mut last = None;
    let right = until("the expected response", PATIENCE, async || {
        let outcome = timeout(PATIENCE, once(lab, exchange)).await.context("no response")?;
        Ok(match outcome {
            Ok(()) => Some(()),
            Err(error) => {
                last = Some(error);
                None
            }
        })
    });
    right.await.map_err(|waited| last.unwrap_or(waited))
}

async fn once(lab: &Lab, exchange: &Exchange) -> Result<()> {
    if !exchange.shares.is_empty() {
        return shared(lab, exchange).await;
    }
    let copies = exchange.copy_to.as_deref().map(|pod| requests(lab, pod)).transpose()?;
    let response = open(lab, exchange).await?.send(exchange).await?;
    ensure!(
        response.status == exchange.status,
        "status {} and not {}: {}",
        response.status,
        exchange.status,
        response.text()
    );
    has(&response.headers, &exchange.headers, &exchange.without)?;
    if let Some(wanted) = &exchange.location {
        redirects(&response, wanted)?;
    }
    if let Some(pod) = &exchange.by {
        let report = report(exchange, &response)?;
        ensure!(report["name"] == *pod, "answered by {} and not {pod}", report["name"]);
        arrived(&report, &exchange.received)?;
    }
    if let (Some(pod), Some(before)) = (&exchange.copy_to, copies) {
        until("the copy to arrive", Duration::from_secs(2), async || {
            Ok((requests(lab, pod)? > before).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// Sends many requests and counts who answered.
async fn shared(lab: &Lab, exchange: &Exchange) -> Result<()> {
    let callers = (0..CONNECTIONS).map(async |_| {
        let mut asked = open(lab, exchange).await?;
        let mut counts = BTreeMap::<String, usize>::new();
        for _ in 0..REQUESTS / CONNECTIONS {
            let response = asked.send(exchange).await?;
            ensure!(response.status == exchange.status, "status {}: {}", response.status, response.text());
            let report = report(exchange, &response)?;
            *counts.entry(report["name"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        Ok(counts)
    });
    let mut counts = BTreeMap::<String, usize>::new();
    for (pod, count) in try_join_all(callers).await?.into_iter().flatten() {
        *counts.entry(pod).or_default() += count;
    }
    let right = counts.keys().eq(exchange.shares.keys())
        && exchange
            .shares
            .iter()
            .all(|(pod, share)| (counts[pod] * 100).abs_diff(REQUESTS * share) <= REQUESTS * TOLERANCE);
    ensure!(right, "of {REQUESTS} requests {counts:?}, and not {:?} percent", exchange.shares);
    Ok(())
}

async fn open(lab: &Lab, exchange: &Exchange) -> Result<Asked> {
    let (method, rest) = exchange.ask.split_once(' ').context("method and host")?;
    let (authority, path) = rest.split_at(rest.find('/').context("a path")?);
    let (namespace, account) = exchange.caller.split_once('/').context("namespace and service account")?;
    let version = if method == "GRPC" { Version::Http2 } else { Version::Http1 };
    // As the caller's resolver has it: a name without a namespace is one of its own.
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let dialled = if host.contains('.') { host.to_owned() } else { format!("{host}.{namespace}") };
    let dialled = format!("{dialled}:{port}");
    let caller = lab.client(namespace, account)?;
    let destination = lab.catalog.resolve(&dialled)?;
    let session = if destination.waypoint.is_some() {
        Session::open(caller.tunnel(&dialled).await?, version, authority).await?
    } else {
        // To what has no waypoint the caller's ztunnel goes straight, and the pods here are not captured.
        Session::open(TcpStream::connect(destination.address).await?, version, authority).await?
    };
    Ok(Asked { session, method: method.to_owned(), path: path.to_owned() })
}

impl Asked {
    async fn send(&mut self, exchange: &Exchange) -> Result<Response> {
        let mut request = match self.method.as_str() {
            "GRPC" => grpc::call(&self.path)?,
            method => Request::new(Method::from_bytes(method.as_bytes())?, &self.path),
        };
        for (name, value) in &exchange.with {
            request = request.header(name, value)?;
        }
        self.session.send(request).await
    }
}

/// What the backend says that it received.
fn report(exchange: &Exchange, response: &Response) -> Result<Value> {
    if exchange.ask.starts_with("GRPC ") { grpc::message(response) } else { response.json() }
}

/// How many requests a pod has received, on whatever port.
fn requests(lab: &Lab, pod: &str) -> Result<u64> {
    let ports = lab.backends.get(&format!("gateway-conformance-mesh/{pod}")).context("no such pod")?;
    Ok(ports.values().map(|backend| backend.seen().requests).sum())
}

fn has(headers: &HeaderMap, wanted: &BTreeMap<String, String>, without: &[String]) -> Result<()> {
    for (name, value) in wanted {
        let got = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>();
        ensure!(got.join(",") == *value, "header {name} of the response is {got:?} and not {value:?}");
    }
    for name in without {
        ensure!(!headers.contains_key(name), "the response has the header {name}");
    }
    Ok(())
}

fn redirects(response: &Response, wanted: &str) -> Result<()> {
    let got = response.headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parts = |text: &str| -> Result<_> {
        let uri = text.parse::<Uri>()?;
        let port = match (uri.port_u16(), uri.scheme_str()) {
            (Some(port), _) => port,
            (None, Some("http")) => 80,
            (None, Some("https")) => 443,
            (None, _) => bail!("not a URL: {text:?}"),
        };
        Ok((uri.scheme_str().map(str::to_owned), uri.host().map(str::to_owned), port, uri.path().to_owned()))
    };
    ensure!(parts(got)? == parts(wanted)?, "redirected to {got:?} and not to {wanted:?}");
    Ok(())
}

fn arrived(report: &Value, wanted: &Received) -> Result<()> {
    let Received { path, headers, without } = wanted;
    if let Some(path) = path {
        ensure!(report["path"] == *path, "the pod received the path {} and not {path:?}", report["path"]);
    }
    for (name, value) in headers {
        let got = report["headers"][name].as_array().into_iter().flatten();
        let got = got.filter_map(Value::as_str).collect::<Vec<_>>();
        ensure!(got.join(",") == *value, "the pod received {name} as {got:?} and not {value:?}");
    }
    for name in without {
        ensure!(report["headers"].get(name).is_none(), "the pod received the header {name}");
    }
    Ok(())
}
