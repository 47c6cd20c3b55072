//! Some hundreds of the random requests through a real Envoy: it judges as the evaluator does.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, stream};
use http::HeaderMap;
use serde_json::{Value, json};
use tests::{
    Lab,
    hbone::{self, Connection, Tunnel},
    judgement::{
        Body, Chain, Http, Normalization, Policy, Request, ServiceKind, Verdict, judge, normalized,
        random::{self, Dice},
    },
    lab::{self, Setup},
    tls,
    token::Issuer,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::waypoint::ports_by_name;

/// One service each, on one waypoint.
const SETS: u8 = 60;
const REQUESTS: usize = 10;
/// How many requests are on their way at a time.
const AT_ONCE: usize = 16;
const DENIED: &str = "RBAC: access denied";

/// Who signs what tokens say.
static SIGNER: LazyLock<Issuer> = LazyLock::new(|| Issuer::new("key").unwrap());

/// Addresses of the alphabet, as a machine has them: in the block that a lab moves to its own.
const ADDRESSES: [(&str, &str); 8] = [
    ("10.1.0.0/16", "127.10.0.64/26"),
    ("10.1.2.2/31", "127.10.0.64/31"),
    ("10.1.2.3/8", "127.10.0.65/25"),
    ("10.1.2.2", "127.10.0.64"),
    ("10.1.2.3", "127.10.0.65"),
    ("10.1.2.4", "127.10.0.66"),
    ("10.2.0.1", "127.10.0.99"),
    ("11.0.0.1", "127.10.0.130"),
];

struct Set {
    manifests: Vec<Value>,
    policies: Vec<Policy>,
    requests: Vec<Request>,
}

#[test]
fn a_real_envoy_judges_as_the_api_says() -> Result<()> {
    let sets: Vec<Set> = (0..SETS).map(Set::of).collect();
    let mut objects = fixtures();
    for (nth, set) in (0..).zip(&sets) {
        objects.extend(service(nth));
        objects.extend(set.manifests.iter().cloned());
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    lab::test(&Setup::default().file("sample.json", &list.to_string()), async |lab| {
        let all = sets.iter().flat_map(|set| set.requests.iter().map(move |request| (set, request)));
        let asked = stream::iter(all).map(async |(set, request)| (set, request, ask(lab, request).await));
        let answers: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
        let mut times = BTreeMap::<&str, usize>::new();
        let mut wrong = Vec::new();
        for (set, request, answer) in answers {
            let policies: Vec<_> = set.policies.iter().collect();
            let decision = judge(&policies, &seen(request), None);
            *times.entry(if decision.verdict == Verdict::Allow { "allow" } else { "deny" }).or_default() += 1;
            if !answer.as_ref().is_ok_and(|answer| *answer == decision.verdict) {
                let manifests: Vec<_> = set.manifests.iter().map(Value::to_string).collect();
                wrong.push(format!("{answer:?}, not {decision:?}\n{request:?}\n{}", manifests.join("\n")));
            }
        }
        ensure!(wrong.is_empty(), "{} are judged differently:\n{}", wrong.len(), wrong.join("\n\n"));
        ensure!(times.values().sum::<usize>() > 400, "{times:?} are too few");
        ensure!(times.len() == 2 && times.values().all(|times| *times > 80), "{times:?} are one-sided");
        Ok(())
    })
}

impl Set {
    fn of(nth: u8) -> Self {
        let mut dice = Dice::new(u64::from(nth) + 1_000_000);
        let chain = Chain {
            service: Some((ServiceKind::Service, "app", "web")),
            gateway: ("app", "waypoint"),
            class: "istio-waypoint",
            root: "istio-system",
        };
        let bundle = ["cluster.local".to_owned()];
        let mut manifests = random::policies(&mut dice);
        // Every set has a service of its own, so no policy may be for all of them.
        manifests.retain(|manifest| {
            manifest["metadata"]["namespace"] == "app" && Policy::read(manifest, &bundle).is_attached(&chain)
        });
        for manifest in &mut manifests {
            let name = manifest["metadata"]["name"].as_str().unwrap_or_default();
            manifest["metadata"]["name"] = json!(format!("s{nth}-{name}"));
            let target = json!({"group": "", "kind": "Service", "name": format!("s{nth}")});
            manifest["spec"]["targetRefs"] = json!([target]);
            let mut text = manifest.to_string();
            for (address, here) in ADDRESSES {
                text = text.replace(&format!("\"{address}\""), &format!("\"{here}\""));
            }
            *manifest = serde_json::from_str(&text).unwrap();
        }
        let policies = manifests.iter().map(|manifest| Policy::read(manifest, &bundle)).collect();
        let address = format!("10.96.{nth}.10");
        let ports = [
            (&*address, 80, false),
            (&*address, 80, false),
            (&*address, 9000, true),
            (&*address, 7000, false),
        ];
        let requests = std::iter::repeat_with(|| random::request(&manifests, &ports, &mut dice));
        let names = Arc::new(ports_by_name());
        let requests =
            requests.map(|request| Request { names: Arc::clone(&names), answers: Arc::default(), ..request });
        let requests = requests.take(200).filter_map(sendable).take(REQUESTS).collect();
        Self { manifests, policies, requests }
    }
}

/// The request, if it is one that a client can send and that comes to be judged.
fn sendable(mut request: Request) -> Option<Request> {
    let source = request.source.to_string();
    let known = ADDRESSES.iter().find(|(address, _)| *address == source);
    request.source = known.map_or("127.10.0.70", |(_, here)| here).parse().ok()?;
    let peer = request.peer.as_ref()?;
    let ours = peer.starts_with("spiffe://cluster.local/") && !peer.ends_with('/') && !peer.contains("//sa");
    let http = match &request.body {
        Body::Tcp { .. } => return ours.then_some(request),
        Body::Http(http) => http,
    };
    let known = ["GET", "POST", "PUT", "HEAD", "DELETE"].contains(&&*http.method);
    // Envoy takes no token with another audience than texts.
    let audience = http.claims.as_ref().and_then(|claims| claims.get("aud"));
    let token = audience.is_none_or(|audience| !audience.is_number());
    let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let host = graphic(&http.host) && !http.host.ends_with(':') && !http.host.starts_with(':');
    let lines =
        http.headers.iter().all(|(name, value)| name.starts_with(['x', 'X']) && !value.contains(&b'\n'));
    (ours && known && token && host && lines && http.path.starts_with('/') && graphic(&http.path))
        .then_some(request)
}

/// The request as policies see it.
fn seen(request: &Request) -> Request {
    let mut seen = request.clone();
    if let Body::Http(http) = &mut seen.body {
        http.path = normalized(&http.path, Normalization::Base);
    }
    seen
}

async fn ask(lab: &Lab, request: &Request) -> Result<Verdict> {
    timeout(Duration::from_secs(30), exchange(lab, request)).await.context("no answer")?
}

async fn exchange(lab: &Lab, request: &Request) -> Result<Verdict> {
    let mut tunnel = match dial(lab, request).await {
        Ok(tunnel) => tunnel,
        Err(error) => {
            let refused = matches!(
                error.downcast_ref(),
                Some(hbone::Error::Refused { status: 403, body }) if body == DENIED
            );
            return if refused { Ok(Verdict::Deny) } else { Err(error) };
        }
    };
    let Body::Http(http) = &request.body else {
        let hello = request.sni().map_or_else(|| Ok(b"hello".to_vec()), tls::hello)?;
        tunnel.write_all(&hello).await?;
        return Ok(match tunnel.read_exact(&mut vec![0; hello.len()]).await {
            Ok(_) => Verdict::Allow,
            Err(_) => Verdict::Deny,
        });
    };
    tunnel.write_all(&written(http, lab)?).await?;
    let mut answer = String::new();
    let mut some = vec![0; 4096];
    loop {
        let read = tunnel.read(&mut some).await.with_context(|| format!("after {answer:?}"))?;
        ensure!(read > 0, "no response: {answer:?}");
        answer.push_str(&String::from_utf8_lossy(&some[..read]));
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
        let empty = http.method == "HEAD";
        match head.split(' ').nth(1) {
            Some("200") => return Ok(Verdict::Allow),
            Some("403") if body == DENIED || empty => return Ok(Verdict::Deny),
            Some("403") if DENIED.starts_with(body) => {}
            _ => bail!("{answer:?}"),
        }
    }
}

/// On a connection of its own, so that its identity and its address are the request's.
async fn dial(lab: &Lab, request: &Request) -> Result<Tunnel> {
    let peer = request.peer.as_deref().context("who sends it")?;
    let identity = lab.authority.mint(&[peer])?;
    let waypoint = lab.catalog.waypoint("app/waypoint")?;
    let source: IpAddr = lab.loopback.localize(&request.source.to_string()).parse()?;
    let connection = Connection::open(&waypoint, source, &lab.authority, Some(&identity)).await?;
    let dialled = format!("{}:{}", request.address, request.port);
    Ok(connection.tunnel(&dialled, &HeaderMap::new()).await?.0)
}

/// By hand, as no client library sends every byte that the grammar allows.
fn written(http: &Http, lab: &Lab) -> Result<Vec<u8>> {
    let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", http.method, http.path, http.host).into_bytes();
    for (name, value) in &http.headers {
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b": ");
        // Where it was forwarded from is an address of the lab.
        match std::str::from_utf8(value) {
            Ok(value) => text.extend_from_slice(lab.loopback.localize(value).as_bytes()),
            Err(_) => text.extend_from_slice(value),
        }
        text.extend_from_slice(b"\r\n");
    }
    if let Some(claims) = &http.claims {
        let token = SIGNER.sign(&Value::Object(claims.clone()))?;
        text.extend_from_slice(format!("authorization: Bearer {token}\r\n").as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    Ok(text)
}

fn fixtures() -> Vec<Value> {
    let rule = |issuer: &str| json!({"issuer": issuer, "jwks": SIGNER.jwks()});
    let rules = ["https://iss", "https://iss2", "plain"].map(rule);
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app"}}),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "waypoint", "namespace": "app"},
            "spec": {
                "gatewayClassName": "istio-waypoint",
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
                "addresses": [{"type": "IPAddress", "value": "127.10.0.2"}],
            },
        }),
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
            "metadata": {"name": "tokens", "namespace": "app"},
            "spec": {
                "targetRefs": [
                    {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint"},
                ],
                "jwtRules": rules,
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "echo", "namespace": "app"},
            "spec": {"serviceAccountName": "echo", "containers": [{"name": "echo", "ports": [
                {"name": "http", "containerPort": 8080}, {"name": "tcp", "containerPort": 9000}]}]},
            "status": {"phase": "Running", "podIP": "127.10.0.11"},
        }),
    ]
}

fn service(nth: u8) -> [Value; 2] {
    let name = format!("s{nth}");
    let ports = [("http", 80, 8080), ("tcp", 9000, 9000), ("any", 7000, 8080)];
    let listed = ports.map(|(name, port, target)| json!({"name": name, "port": port, "targetPort": target}));
    let slices = ports.map(|(name, _, target)| json!({"name": name, "port": target}));
    [
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": "app", "labels": {"istio.io/use-waypoint": "waypoint"}},
            "spec": {"clusterIP": format!("10.96.{nth}.10"), "ports": listed},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "app", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": slices,
            "endpoints": [{"addresses": ["127.10.0.11"], "conditions": {"ready": true},
                           "targetRef": {"kind": "Pod", "name": "echo", "namespace": "app"}}],
        }),
    ]
}
