//! The door: TLS, authentication and limits, and then a stream that pulls from a session.

mod accept;
mod stream;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::Stream;
use proto::envoy::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
};
use tokio::{net::TcpListener, sync::mpsc, time};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use self::{
    accept::Introduction,
    stream::{Conversation, Introduced},
};
use crate::{Authenticate, Cache, Limits, Observation, Observer, Peer, authn::Client, limits::Admissions};

/// Silence after which a connection is asked whether it is still there, and how long it may take to
/// answer. A dead proxy is noticed within their sum.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// How much a client may send unread, per stream and per connection, in bytes.
const WINDOWS: (u32, u32) = (1 << 20, 4 << 20);

/// HTTP/2 streams of one connection. Envoy uses one.
const STREAMS_PER_CONNECTION: u32 = 64;

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The TLS configuration would let no gRPC client in.
    #[error("the TLS configuration does not offer h2; add b\"h2\" to its alpn_protocols")]
    NoHttp2,
    /// The listener or the HTTP/2 server failed.
    #[error("the xDS server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves the cache's snapshots as an aggregated discovery service, delta only, until `stop`.
///
/// The caller decides all of TLS: put a certificate resolver into `tls` and certificates rotate
/// without a restart. It returns within [`Limits::farewell`] and a moment after `stop`, and then no
/// task of it is left; dropping the future cuts every connection.
pub async fn serve<A: Authenticate>(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    cache: Arc<Cache>,
    authenticate: A,
    observer: Observer,
    limits: Limits,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    if !tls.alpn_protocols.iter().any(|protocol| protocol == b"h2") {
        return Err(ServeError::NoHttp2);
    }
    let service = Discovery {
        cache,
        authenticate,
        observer,
        limits: limits.clone(),
        stop: stop.clone(),
        admissions: Arc::default(),
        streams: AtomicU64::new(0),
    };
    let service =
        AggregatedDiscoveryServiceServer::new(service).max_decoding_message_size(limits.request_bytes);
    let (accepted, incoming) = mpsc::channel(limits.handshakes);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop.clone().cancelled_owned());

    // tonic gives every connection a task of its own, which only ends when the connection does.
    let severed = CancellationToken::new();
    let _sever_on_return = severed.clone().drop_guard();
    let accepting = accept::accept(listener, tls, &limits, &stop, &severed, accepted);
    let parting = async {
        stop.cancelled().await;
        time::sleep(limits.farewell).await;
        severed.cancel();
    };
    tokio::pin!(server);
    let result = tokio::select! {
        result = &mut server => Some(result),
        ((), ()) = async { tokio::join!(accepting, parting) } => None,
    };
    match result {
        Some(result) => Ok(result?),
        None => Ok(server.await?),
    }
}

struct Discovery<A> {
    cache: Arc<Cache>,
    authenticate: A,
    observer: Observer,
    limits: Limits,
    stop: CancellationToken,
    admissions: Arc<Admissions>,
    /// The number of the next stream.
    streams: AtomicU64,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<A: Authenticate> AggregatedDiscoveryService for Discovery<A> {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only delta xDS is served; set api_type to DELTA_GRPC in ads_config"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let introduction = request.extensions().get::<Introduction>().cloned().unwrap_or_default();
        let address = introduction.address;
        let admitted = self.admit(&request, &introduction).await;
        let (client, admission) = admitted.inspect_err(|status| {
            (self.observer)(&Observation::Refused { address, message: status.message().to_owned() });
        })?;
        introduction.accept();
        let conversation = Conversation::new(
            Introduced { client, address, number: self.streams.fetch_add(1, Ordering::Relaxed) },
            request.into_inner(),
            Arc::clone(&self.cache),
            admission,
            Arc::clone(&self.observer),
            &self.limits,
            self.stop.clone(),
        );
        Ok(Response::new(Box::pin(conversation.responses())))
    }
}

impl<A: Authenticate> Discovery<A> {
    /// Who it is, and a place for it. Nothing is read from the stream before that.
    async fn admit(
        &self,
        request: &Request<Streaming<DeltaDiscoveryRequest>>,
        introduction: &Introduction,
    ) -> Result<(Client, crate::limits::Admission), Status> {
        let peer = Peer {
            token: bearer(request.metadata()),
            certificates: introduction.certificates.to_vec(),
            address: introduction.address,
        };
        let decided = time::timeout(self.limits.introduction, self.authenticate.authenticate(&peer)).await;
        let client = decided
            .map_err(|_| Status::unavailable("authentication takes too long at the moment; try again"))??;
        let admission = self.admissions.admit(&client, &self.limits)?;
        Ok((client, admission))
    }
}

/// The token of `authorization: Bearer …`; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(metadata: &tonic::metadata::MetadataMap) -> Option<String> {
    let (scheme, token) = metadata.get("authorization")?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}
