//! A server with a certificate of its own, and clients that speak to it through real sockets.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use proto::{
    Delta, Name, Resource, TypeUrl, Version, envoy,
    envoy::discovery::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse,
        aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use xds::{Authenticate, Cache, Client, Denied, Group, Limits, Observation, Peer, Revocation, ServeError};

/// The group of every client here.
pub(super) const GROUP: &str = "ns/gateway";

/// Another group that every client may have.
pub(super) const SECOND: &str = "ns/second";

/// Patience for what must happen at all: far beyond what it takes, so that a busy machine passes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Knows three tokens: `good`, `brief` which expires within a moment, and `doubtful` which may be taken back.
/// After a slash, any name.
struct Tokens(Arc<watch::Sender<bool>>);

impl Authenticate for Tokens {
    async fn authenticate(&self, peer: &Peer) -> Result<Client, Denied> {
        let token = peer.token.as_deref().unwrap_or_default();
        let (kind, name) = token.split_once('/').unwrap_or((token, "someone"));
        let expires = match kind {
            "good" | "doubtful" => None,
            "brief" => Some(SystemTime::now() + Duration::from_millis(300)),
            _ => return Err(Denied::Unauthenticated("the token is missing or unknown".to_owned())),
        };
        let revocation = if kind == "doubtful" { Revocation::by(self.0.subscribe()) } else { <_>::default() };
        let groups = [group(), Group(SECOND.into())].into();
        Ok(Client { groups, name: name.to_owned(), expires, revocation })
    }
}

/// A running server.
pub(super) struct Running {
    pub(super) cache: Arc<Cache>,
    pub(super) address: SocketAddr,
    pub(super) observations: Arc<Mutex<Vec<Observation>>>,
    pub(super) root: String,
    pub(super) take_back: Arc<watch::Sender<bool>>,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    pub(super) async fn start(limits: Limits) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (root, tls) = identity();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cache, stop) = (Arc::new(Cache::new()), CancellationToken::new());
        let observations = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&observations);
        let observer = Arc::new(move |observation: &Observation| seen.lock().push(observation.clone()));
        let take_back = Arc::new(watch::Sender::new(false));
        let (tokens, tls) = (Tokens(Arc::clone(&take_back)), Arc::new(tls));
        let serving = xds::serve(listener, tls, Arc::clone(&cache), tokens, observer, limits, stop.clone());
        Self { cache, address, observations, root, take_back, stop, serving: tokio::spawn(serving) }
    }

    pub(super) fn publish(&self, name: &str, version: u64, bytes: usize) {
        let set = vec![Arc::new(resource(name, version, bytes))];
        self.cache.publish(&group(), &Delta { set, removed: Vec::new() });
    }

    /// A connection, as of one Envoy.
    pub(super) async fn connect(&self) -> AggregatedDiscoveryServiceClient<Channel> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.root))
            .domain_name("portolan.test");
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
        AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(256 << 20)
    }

    /// How the server ends a stream that sends `bytes` instead of a request: its `grpc-status`.
    pub(super) async fn send_raw(&self, bytes: &'static [u8]) -> String {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.root.as_bytes()).unwrap()).unwrap();
        let mut tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = "portolan.test".try_into().unwrap();
        let socket = TlsConnector::from(Arc::new(tls)).connect(name, socket).await.unwrap();
        let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
        let connection = tokio::spawn(connection);
        let method = "https://portolan.test/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
        let request = http::Request::post(method)
            .header("content-type", "application/grpc")
            .header("authorization", "Bearer good");
        let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(bytes.into(), false).unwrap();
        let mut responses = soon(response).await.unwrap().into_body();
        while soon(responses.data()).await.is_some() {}
        let trailers = soon(responses.trailers()).await.unwrap().unwrap();
        connection.abort();
        trailers["grpc-status"].to_str().unwrap().to_owned()
    }

    /// A stream on a connection of its own, its first request sent.
    pub(super) async fn open(&self, token: &str, first: DeltaDiscoveryRequest) -> Result<Stream, Status> {
        Stream::open(&mut self.connect().await, token, first).await
    }

    pub(super) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the server has returned.
    pub(super) async fn stopped(self) {
        self.stop.cancel();
        soon(self.serving).await.unwrap().unwrap();
    }
}

/// A client's end of a stream.
pub(super) struct Stream {
    requests: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Stream {
    pub(super) async fn open(
        client: &mut AggregatedDiscoveryServiceClient<Channel>,
        token: &str,
        first: DeltaDiscoveryRequest,
    ) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::unbounded_channel();
        requests.send(first).unwrap();
        let mut request = Request::new(UnboundedReceiverStream::new(receiver));
        if !token.is_empty() {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let responses = soon(client.delta_aggregated_resources(request)).await?.into_inner();
        Ok(Self { requests, responses })
    }

    pub(super) fn send(&self, request: DeltaDiscoveryRequest) {
        // Where the stream has ended, the test sees it in what it reads.
        let _ = self.requests.send(request);
    }

    /// The next response; `Err` is how the stream ended.
    pub(super) async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let message = soon(self.responses.message()).await?;
        message.ok_or_else(|| Status::ok("the server ended the stream"))
    }

    /// The next response, acknowledged.
    pub(super) async fn take(&mut self) -> DeltaDiscoveryResponse {
        let response = self.next().await.unwrap();
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        self.send(DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() });
        response
    }
}

/// A first request for all clusters, from a node that claims to be `gateway`.
pub(super) fn clusters(gateway: &str) -> DeltaDiscoveryRequest {
    built(gateway, envoy::OLDEST)
}

/// The same, from an Envoy of that version.
pub(super) fn built(gateway: &str, version: (u32, u32, u32)) -> DeltaDiscoveryRequest {
    use envoy::core::{BuildVersion, node::UserAgentVersionType::UserAgentBuildVersion};
    let (major_number, minor_number, patch) = version;
    let version = Some(envoy::SemanticVersion { major_number, minor_number, patch });
    let node = Some(envoy::core::Node {
        metadata: Some(envoy::string_struct([("GATEWAY", gateway)])),
        user_agent_version_type: Some(UserAgentBuildVersion(BuildVersion { version, metadata: None })),
        ..Default::default()
    });
    DeltaDiscoveryRequest { node, type_url: TypeUrl::Cluster.as_str().to_owned(), ..Default::default() }
}

/// A cluster of that size, as far as this room can tell.
pub(super) fn resource(name: &str, version: u64, bytes: usize) -> Resource {
    let body = vec![b'x'; bytes].into();
    Resource { type_url: TypeUrl::Cluster, name: name.into(), version: Version(version), wave: 0, body }
}

fn group() -> Group {
    Group(Name::from(GROUP))
}

/// What must come, and a failure instead of a hang when it does not.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it did not come")
}

/// A root, and a server's TLS with a certificate that it has signed.
fn identity() -> (String, rustls::ServerConfig) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "root of the test");
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec!["portolan.test".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "server of the test");
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    (issuer.pem(), tls)
}
