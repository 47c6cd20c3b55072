//! A client of a waypoint: one connection under one identity, many tunnels on it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use futures::future::poll_fn;
use h2::{Ping, RecvStream, client::SendRequest};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::task::AbortOnDropHandle;

use super::{Error, Tunnel, tls};
use crate::identity::{Authority, Identity};

/// How much of a refusal's body is kept.
const BODY_LIMIT: usize = 4096;

/// Where a waypoint is and who it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waypoint {
    /// Its address; the port is [`PORT`](super::PORT) unless a test wants another.
    pub address: SocketAddr,
    /// Its SPIFFE identity.
    pub identity: String,
}

/// A connection to a waypoint. It stays open as long as this, a clone of it or a tunnel on it is alive.
#[derive(Clone, Debug)]
pub struct Connection {
    requests: SendRequest<Bytes>,
    certificate: CertificateDer<'static>,
    task: Arc<AbortOnDropHandle<()>>,
}

impl Connection {
    /// Connects from the address `source`, as `identity` if given and without a certificate otherwise.
    /// Returns when the waypoint has accepted the certificate, which in TLS 1.3 is later than the end
    /// of the client's handshake: a ping has come back.
    pub async fn open(
        waypoint: &Waypoint,
        source: IpAddr,
        trust: &Authority,
        identity: Option<&Identity>,
    ) -> Result<Self, Error> {
        let failed = |reason: String| Error::Handshake { waypoint: waypoint.address, reason };
        let config =
            tls::client(trust, identity, &waypoint.identity).map_err(|error| failed(error.to_string()))?;
        let stream =
            secure(waypoint.address, source, config).await.map_err(|error| failed(error.to_string()))?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let Some(certificate) = certificates.first().map(|first| first.clone().into_owned()) else {
            return Err(failed("the server sent no certificate".to_owned()));
        };

        let handshake = h2::client::Builder::new()
            .initial_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(1 << 20)
            .enable_push(false)
            .handshake(stream);
        let (requests, mut connection) = handshake.await.map_err(|error| failed(error.to_string()))?;
        let Some(mut ping) = connection.ping_pong() else {
            return Err(failed("the connection gave its ping away".to_owned()));
        };
        tokio::select! {
            biased;
            ended = &mut connection => {
                return Err(failed(ended.err().map_or_else(|| "closed by the waypoint".to_owned(), |error| error.to_string())));
            }
            answer = ping.ping(Ping::opaque()) => answer.map_err(|error| failed(error.to_string()))?,
        };
        let task = tokio::spawn(async move {
            // Whoever uses a tunnel of a broken connection is told by the tunnel.
            let _ = connection.await;
        });
        Ok(Self { requests, certificate, task: Arc::new(AbortOnDropHandle::new(task)) })
    }

    /// The certificate that the waypoint showed.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Opens a tunnel to `authority`, such as `10.96.0.10:80`, with `headers` on the CONNECT.
    pub async fn tunnel(&self, authority: &str, headers: &HeaderMap) -> Result<(Tunnel, HeaderMap), Error> {
        let authority = authority.parse::<http::uri::Authority>();
        let uri = authority.map(|authority| {
            let mut parts = http::uri::Parts::default();
            parts.authority = Some(authority);
            Uri::from_parts(parts)
        });
        let Ok(Ok(uri)) = uri else {
            return Err(Error::Refused { status: 400, body: "not a host and port".to_owned() });
        };
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = uri;
        request.headers_mut().clone_from(headers);

        let mut ready = self.requests.clone().ready().await?;
        let (response, send) = ready.send_request(request, false)?;
        let (parts, receive) = response.await?.into_parts();
        if parts.status == StatusCode::OK {
            return Ok((Tunnel::new(send, receive, Some(Arc::clone(&self.task))), parts.headers));
        }
        Err(Error::Refused { status: parts.status.as_u16(), body: text(receive).await })
    }

    /// Asks for something without any tunnel, which no client of a waypoint should; gives the status.
    pub async fn request(&self, request: Request<()>) -> Result<u16, Error> {
        let mut ready = self.requests.clone().ready().await?;
        let (response, _) = ready.send_request(request, true)?;
        Ok(response.await?.status().as_u16())
    }
}

async fn secure(
    to: SocketAddr,
    source: IpAddr,
    config: rustls::ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::from(to.ip()), stream).await
}

/// The body of a refusal; what cannot be read of it is left out.
async fn text(mut body: RecvStream) -> String {
    let mut bytes = Vec::new();
    while let Some(Ok(data)) = poll_fn(|cx| body.poll_data(cx)).await {
        bytes.extend_from_slice(&data);
        if bytes.len() >= BODY_LIMIT {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
