//! A node whose kubelet does one thing: it forwards ports of its pods (the websocket that Kubernetes calls
//! `v4.channel.k8s.io`) to processes of the test.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result};
use futures::{SinkExt, StreamExt};
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
    },
};

use super::Cluster;

/// What the kubelet and its client speak.
const PROTOCOL: &str = "v4.channel.k8s.io";
/// The channels of the only port: its bytes, and what is wrong with it.
const DATA: u8 = 0;
const ERROR: u8 = 1;

/// Where the port of each pod is: by `namespace/name`.
type Ports = Arc<Mutex<BTreeMap<String, SocketAddr>>>;

/// A node of a cluster. It ends when dropped.
#[derive(Debug)]
pub struct Node {
    name: String,
    ports: Ports,
    kubelet: JoinHandle<()>,
}

impl Node {
    /// Adds a node called `name` to the cluster, with a kubelet on loopback.
    pub async fn start(cluster: &Cluster, name: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let nodes = Api::<NodeObject>::all(cluster.admin()?);
        let node = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        nodes.create(&PostParams::default(), &node).await?;
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": address.ip()}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}},
        }});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        let ports = Ports::default();
        let kubelet = tokio::spawn(serve(listener, tls()?, Arc::clone(&ports)));
        Ok(Self { name: name.to_owned(), ports, kubelet })
    }

    /// Makes a pod that runs here, with these labels, whose every port leads to `port`.
    pub async fn run(
        &self,
        cluster: &Cluster,
        namespace: &str,
        name: &str,
        labels: serde_json::Value,
        port: SocketAddr,
    ) -> Result<()> {
        let pods = Api::<Pod>::namespaced(cluster.admin()?, namespace);
        let pod = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": self.name, "containers": [{"name": "c", "image": "none"}]},
        }))?;
        pods.create(&PostParams::default(), &pod).await?;
        let status = json!({"status": {"phase": "Running"}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        self.ports.lock().insert(format!("{namespace}/{name}"), port);
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kubelet.abort();
    }
}

/// API servers take a kubelet's certificate unseen unless they are told of an authority for it.
fn tls() -> Result<TlsAcceptor> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["kubelet".to_owned()])?.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, ports: Ports) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, ports) = (tls.clone(), Arc::clone(&ports));
        connections.spawn(async move {
            // Whose client is gone needs no answer.
            let _ = forward(stream, tls, ports).await;
        });
    }
}

async fn forward(stream: TcpStream, tls: TlsAcceptor, ports: Ports) -> Result<()> {
    let stream = tls.accept(stream).await?;
    let mut asked = String::new();
    #[allow(clippy::result_large_err, reason = "the type is the library's")]
    let greet = |request: &Request, mut response: Response| {
        asked = request.uri().to_string();
        response.headers_mut().insert("sec-websocket-protocol", http::HeaderValue::from_static(PROTOCOL));
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, greet).await?;
    let (path, query) = asked.split_once('?').context("no port is asked for")?;
    let pod = path.trim_start_matches("/portForward/").to_owned();
    let port: u16 = query.trim_start_matches("port=").parse().with_context(|| asked.clone())?;
    for channel in [DATA, ERROR] {
        let [low, high] = port.to_le_bytes();
        socket.send(Message::binary(vec![channel, low, high])).await?;
    }
    let to = ports.lock().get(&pod).copied();
    let connected = match to {
        Some(to) => TcpStream::connect(to).await.map_err(|error| error.to_string()),
        None => Err(format!("there is no pod {pod}")),
    };
    match connected {
        Ok(connected) => copy(&mut socket, connected).await?,
        Err(error) => {
            let said = [&[ERROR], format!("error forwarding port {port}: {error}").as_bytes()].concat();
            socket.send(Message::binary(said)).await?;
        }
    }
    Ok(socket.close(None).await?)
}

/// Carries bytes both ways until one of the ends has no more.
async fn copy<S>(socket: &mut WebSocketStream<S>, mut port: TcpStream) -> Result<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 16 * 1024];
    loop {
        tokio::select! {
            message = socket.next() => match message.transpose()? {
                Some(Message::Binary(bytes)) => {
                    if let Some((&DATA, bytes)) = bytes.split_first() {
                        port.write_all(bytes).await?;
                    }
                }
                Some(Message::Close(_)) | None => return Ok(()),
                Some(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            },
            read = port.read(&mut buffer[1..]) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                buffer[0] = DATA;
                socket.send(Message::binary(buffer[..=read].to_vec())).await?;
            }
        }
    }
}
