//! The ztunnel in front of a captured pod: takes tunnels on the pod's port 15008 and leads them to its backend.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::{
    RecvStream,
    server::{Builder, SendResponse},
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::{PORT, Tunnel, tls};
use crate::identity::{self, Authority, Identity};

/// A tunnel that was asked for.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The URIs in the certificate of who asked.
    pub peer: Vec<String>,
    /// The `:authority` of the CONNECT.
    pub authority: String,
    /// Its other headers.
    pub headers: HeaderMap,
}

/// A server of tunnels. It ends when dropped.
#[derive(Debug)]
pub struct Server {
    accepted: Arc<Mutex<Vec<Accepted>>>,
    _task: AbortOnDropHandle<()>,
}

/// Beside a waypoint that listens on every address of this machine, as those of a cluster do.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// What every connection of a server needs.
struct Pod {
    address: IpAddr,
    /// Where the pod's own ports are served.
    ports: BTreeMap<u16, SocketAddr>,
    accepted: Arc<Mutex<Vec<Accepted>>>,
}

impl Server {
    /// Listens on port 15008 of `address` as `identity`. A tunnel to port p of the address leads to `ports[p]`.
    pub fn start(
        address: IpAddr,
        identity: &Identity,
        trust: &Authority,
        ports: BTreeMap<u16, SocketAddr>,
    ) -> Result<Self> {
        let listener = listen((address, PORT).into())
            .with_context(|| format!("listening for tunnels on {address}:{PORT}"))?;
        let acceptor = TlsAcceptor::from(Arc::new(tls::server(trust, identity)?));
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let pod = Arc::new(Pod { address, ports, accepted: Arc::clone(&accepted) });
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, acceptor.clone(), Arc::clone(&pod)));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { accepted, _task: AbortOnDropHandle::new(task) })
    }

    /// The tunnels that were asked for so far, refused ones too.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.accepted.lock().clone()
    }
}

/// One connection. Its errors are the peer's to notice.
async fn serve(stream: TcpStream, acceptor: TlsAcceptor, pod: Arc<Pod>) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = identity::uris(certificate.context("no client certificate")?)?;
    let mut connection = Builder::new()
        .initial_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .max_concurrent_streams(200)
        .handshake(stream)
        .await?;
    let mut tunnels = JoinSet::new();
    while let Some(next) = connection.accept().await {
        let (request, respond) = next?;
        tunnels.spawn(answer(request, respond, peer.clone(), Arc::clone(&pod)));
        while tunnels.try_join_next().is_some() {}
    }
    Ok(())
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    peer: Vec<String>,
    pod: Arc<Pod>,
) -> Result<()> {
    let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let headers = request.headers().clone();
    pod.accepted.lock().push(Accepted { peer, authority: authority.clone(), headers });
    let refusal = |status| {
        let mut response = Response::new(());
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::CONNECT {
        respond.send_response(refusal(StatusCode::BAD_REQUEST), true)?;
        return Ok(());
    }
    // ztunnel refuses an authority that is not its pod's own address: "ip mismatch".
    let wanted = authority.parse::<SocketAddr>().ok().filter(|wanted| wanted.ip() == pod.address);
    let Some(wanted) = wanted else {
        respond.send_response(refusal(StatusCode::BAD_REQUEST), true)?;
        return Ok(());
    };
    let backend = pod.ports.get(&wanted.port()).copied().unwrap_or(wanted);
    let Ok(mut backend) = TcpStream::connect(backend).await else {
        respond.send_response(refusal(StatusCode::SERVICE_UNAVAILABLE), true)?;
        return Ok(());
    };
    backend.set_nodelay(true)?;
    let send = respond.send_response(Response::new(()), false)?;
    let mut tunnel = Tunnel::new(send, request.into_body(), None);
    copy_bidirectional(&mut tunnel, &mut backend).await?;
    Ok(())
}
