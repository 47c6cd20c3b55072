//! How a waypoint's Envoy ends: the one that sees it off waits for what is open, and for nothing else.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use deploy::proxy::drain;
use serde_json::{Value, json};
use tests::{envoy_binary, loopback::Loopback, process::Process, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than any test waits: what ends before ended for another reason.
const LATEST: Duration = Duration::from_mins(10);

/// An Envoy of that configuration, on addresses of its own.
async fn envoy(folder: &Path, name: &str, config: &Value) -> Result<Process> {
    let path = folder.join(format!("{name}.json"));
    fs::write(&path, config.to_string())?;
    let path = path.display().to_string();
    let arguments = ["-c", &path, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"];
    Process::start(name, &envoy_binary::find(None).await?, &arguments, &folder.join(format!("{name}.log")))
}

/// What a waypoint's Envoy and what ends it have in common with a pod: loopback of their own.
fn ending(loopback: &Loopback, admin: SocketAddr) -> Result<Value> {
    let own = loopback.address(1).to_string();
    Ok(serde_json::from_str(&drain(admin, LATEST).to_string().replace("127.0.0.1", &own))?)
}

async fn ask(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes()).await?;
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

/// Waits until the admin interface says whether it is ready.
async fn readiness(admin: SocketAddr, ready: bool) -> Result<()> {
    let status = if ready { "HTTP/1.1 200" } else { "HTTP/1.1 503" };
    until("its readiness to change", PATIENCE, async || {
        Ok(ask(admin, "/ready").await.ok().filter(|answer| answer.starts_with(status)).map(drop))
    })
    .await
}

#[tokio::test]
async fn an_open_request_is_answered_before_envoy_is_let_go() -> Result<()> {
    let (folder, loopback) = (tempfile::tempdir()?, Loopback::claim()?);
    let address = |port| SocketAddr::from((loopback.address(1), port));
    let (admin, tunnels) = (address(15000), address(15008));
    let backend = TcpListener::bind(address(0)).await?;
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        // By this statistic it is known what is open.
        "stat_prefix": "connect_terminate",
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}}],
        }]},
    });
    let endpoint = json!({"endpoint": {"address": socket(backend.local_addr()?)}});
    let config = json!({
        "admin": {"address": socket(admin)},
        "static_resources": {
            "listeners": [{
                "name": "connect_terminate", "address": socket(tunnels),
                "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
            }],
            "clusters": [{
                "name": "backend", "connect_timeout": "5s",
                "load_assignment": {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [endpoint]}]},
            }],
        },
    });
    let mut waypoint = envoy(folder.path(), "waypoint", &config).await?;
    readiness(admin, true).await?;
    let mut caller = TcpStream::connect(tunnels).await?;
    caller.write_all(b"GET /long HTTP/1.1\r\nhost: backend\r\n\r\n").await?;
    let (mut open, _) = backend.accept().await?;
    ensure!(open.read(&mut [0; 4096]).await? > 0, "no request came");

    let mut ends = envoy(folder.path(), "ending", &ending(&loopback, admin)?).await?;
    readiness(admin, false).await.with_context(|| ends.tail(20))?;
    // Twice as long as it would wait if nothing was open.
    let gone = until("nothing", Duration::from_secs(12), async || ends.ended()).await;
    ensure!(gone.is_err(), "it did not wait for the open request: {gone:?}");
    open.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
    assert!(answer.contains("connection: close"), "the caller was not told to go elsewhere: {answer}");
    let status = until("it to be done", PATIENCE, async || ends.ended()).await?;
    ensure!(status.success(), "{status}:\n{}", ends.tail(20));
    waypoint.must_run()
}

#[tokio::test]
async fn an_envoy_that_never_had_a_configuration_is_not_waited_for() -> Result<()> {
    let (folder, loopback) = (tempfile::tempdir()?, Loopback::claim()?);
    let own = loopback.address(1).to_string();
    let socket = |port: u16| json!({"socket_address": {"address": own, "port_value": port}});
    let config = json!({
        "node": {"id": "waypoint", "cluster": "waypoint"},
        "admin": {"address": socket(15000)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC", "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            },
            "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [{
            "name": "xds", "connect_timeout": "1s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
            "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(1)}}]}]},
        }]},
    });
    let admin = SocketAddr::from((loopback.address(1), 15000));
    let mut waypoint = envoy(folder.path(), "waypoint", &config).await?;
    readiness(admin, false).await?;
    let mut ends = envoy(folder.path(), "ending", &ending(&loopback, admin)?).await?;
    let status = until("it to be done", PATIENCE, async || ends.ended()).await?;
    ensure!(status.success(), "{status}:\n{}", ends.tail(20));
    waypoint.must_run()
}
