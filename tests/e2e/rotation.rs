//! A kubelet replaces the token of a pod as one volume, by a link; Envoy shows the new one to us.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::symlink,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use deploy::proxy::{Endpoint, Proxy, ProxyFiles, bootstrap};
use proto::{Place, envoy};
use serde_json::{Value, json};
use tests::{envoy_binary, loopback::Loopback, process::Process, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use translate::Audience;

const PATIENCE: Duration = Duration::from_mins(1);

/// Puts `files` in the volume `folder` as the kubelet's atomic writer does: in a folder of their own, to which
/// a link is moved that all of them go through.
fn mount(folder: &Path, generation: u32, files: &[(&str, &[u8])]) -> Result<()> {
    let name = format!("..{generation}");
    fs::create_dir_all(folder.join(&name))?;
    for (file, content) in files {
        fs::write(folder.join(&name).join(file), content)?;
    }
    symlink(&name, folder.join("..data_tmp"))?;
    fs::rename(folder.join("..data_tmp"), folder.join("..data"))?;
    for (file, _) in files {
        if fs::symlink_metadata(folder.join(file)).is_err() {
            symlink(format!("..data/{file}"), folder.join(file))?;
        }
    }
    Ok(())
}

/// A waypoint's Envoy that takes requests and sends them where it would reach us, without TLS.
fn config(files: &ProxyFiles, xds: &Endpoint, listens: SocketAddr) -> Result<Value> {
    let gateway = Audience { namespace: "shop".into(), name: "waypoint".into() };
    let place = Place::default();
    let proxy = Proxy { gateway: &gateway, name: "one", place: &place, xds, admin: None, files };
    let made = proto::render_any(&envoy::pack(&bootstrap(&proxy)))?;
    let mut cluster = made["static_resources"]["clusters"][0].clone();
    cluster.as_object_mut().context("no cluster")?.remove("transport_socket");
    let options = &mut cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    options["explicit_http_config"] = json!({"http_protocol_options": {}});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster["name"]}}],
        }]},
    });
    let address =
        json!({"socket_address": {"address": listens.ip().to_string(), "port_value": listens.port()}});
    let chains = json!([{"filters": [{"name": "http", "typed_config": manager}]}]);
    Ok(json!({
        "node": made["node"],
        "static_resources": {
            "clusters": [cluster],
            "listeners": [{"name": "in", "address": address, "filter_chains": chains}],
        },
    }))
}

/// Answers each connection once, with the `authorization` that it was shown.
async fn echo(listener: TcpListener) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut request = vec![0; 8192];
        let length = stream.read(&mut request).await?;
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        let shown =
            request.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or("nothing");
        let length = shown.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{shown}");
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// What Envoy shows, once it is `expected`.
async fn shows(listens: SocketAddr, expected: &str, envoy: &mut Process) -> Result<()> {
    until(&format!("Envoy to show {expected:?}"), PATIENCE, async || {
        envoy.must_run()?;
        let Ok(mut stream) = TcpStream::connect(listens).await else { return Ok(None) };
        stream.write_all(b"GET / HTTP/1.1\r\nhost: us\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer.ends_with(expected).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_token_that_the_kubelet_replaces_is_the_one_that_we_are_shown() -> Result<()> {
    let (folder, loopback) = (tempfile::tempdir()?, Loopback::claim()?);
    let (config_volume, identity) = (folder.path().join("config"), folder.path().join("identity"));
    let files = ProxyFiles::mounted(&identity.display().to_string(), &config_volume.display().to_string());
    let secrets = files.secrets()?;
    let secrets: Vec<_> = secrets.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    mount(&config_volume, 1, &secrets)?;
    mount(&identity, 1, &[("token", b"first"), ("root.pem", b"root")])?;
    let own: Ipv4Addr = loopback.address(1);
    let us = TcpListener::bind((own, 0)).await?;
    let (reached, listens) = (us.local_addr()?, SocketAddr::from((own, 15008)));
    let answering = tokio::spawn(echo(us));
    let path = folder.path().join("envoy.json");
    fs::write(&path, config(&files, &reached.to_string().parse()?, listens)?.to_string())?;
    let path = path.display().to_string();
    let arguments = ["-c", &path, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"];
    let log = folder.path().join("envoy.log");
    let mut envoy = Process::start("envoy", &envoy_binary::find(None).await?, &arguments, &log)?;
    shows(listens, "Bearer first", &mut envoy).await?;
    for (generation, token) in [(2, "second"), (3, "third")] {
        mount(&identity, generation, &[("token", token.as_bytes()), ("root.pem", b"root")])?;
        shows(listens, &format!("Bearer {token}"), &mut envoy).await?;
    }
    // A ConfigMap that changes for another reason, and the token after it.
    mount(&config_volume, 2, &secrets)?;
    mount(&identity, 4, &[("token", b"fourth"), ("root.pem", b"root")])?;
    shows(listens, "Bearer fourth", &mut envoy).await?;
    answering.abort();
    Ok(())
}
