//! Clusters: one for each port of a service that some route of a waypoint leads to.

use proto::{
    Place, TypeUrl,
    envoy::{
        Cluster, HttpProtocolOptions, InternalUpstreamTransport, RawBuffer, UInt32Value, cluster, core,
        http_protocol, internal_upstream::internal_upstream_transport, metadata, pack, percent, seconds,
    },
};

use super::{
    assignment::near,
    connect_originate,
    extension::{ads, transport_socket},
    found, scope, sniffed,
};
use crate::{
    bind::upstream_of::Upstream,
    derive::Row,
    emit::Emit,
    mesh::{
        name::{ANY_PORT, Key, PortKey, ScopeKey, ServiceKey},
        protocol::Protocol,
    },
    settings::Settings,
};

/// Under which key a cluster holds its HTTP options.
pub(crate) const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The cluster of a service port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServiceCluster {
    pub(crate) protocol: Protocol,
    pub(crate) upstream: Upstream,
    /// We call it ourselves, by gRPC: it speaks HTTP/2, whatever else comes its way.
    pub(crate) called: bool,
}

impl Row for ServiceCluster {
    const TABLE: &'static str = "cluster";
    type Key = PortKey;
    /// Its service port, whatever the waypoint.
    type Bucket = (ServiceKey, u16);

    fn buckets(key: &PortKey, _row: &Self) -> Vec<(ServiceKey, u16)> {
        vec![(key.service.clone(), key.port)]
    }
}

impl Emit for ServiceCluster {
    const TYPE: TypeUrl = TypeUrl::Cluster;
    type Message = Cluster;

    fn waypoint(key: &PortKey) -> &Key {
        &key.waypoint
    }

    fn name(key: &PortKey, settings: &Settings) -> String {
        key.cluster_name(&settings.cluster_domain)
    }

    fn emit(&self, key: &PortKey, settings: &Settings) -> Cluster {
        self.emit_at(key, settings, &Place::default())
    }

    fn is_placed(&self) -> bool {
        self.upstream.is_placed()
    }

    fn emit_at(&self, key: &PortKey, settings: &Settings, place: &Place) -> Cluster {
        let name = Self::name(key, settings);
        let options =
            if self.called { Some(http2()) } else { self.protocol.may_be_http().then(as_downstream) };
        let http = options.map(|options| (HTTP_OPTIONS.to_owned(), pack(&options)));
        Cluster {
            typed_extension_protocol_options: http.into_iter().collect(),
            // The port that a connection goes to is what its caller dialled: it is not for others.
            connection_pool_per_downstream_connection: key.port == ANY_PORT,
            ..match &self.upstream {
                Upstream::Endpoints => by_endpoints(name),
                Upstream::Names { names, lookup, nearness } => {
                    found::by_names(name, names, *lookup, &near(*nearness, place))
                }
                Upstream::Dialled { port } => found::as_dialled(name, *port, self.protocol),
                Upstream::Requested { wildcard: _ } => found::as_requested(name),
            }
        }
    }
}

/// The cluster for what is not HTTP behind a port that does not say: it has the endpoints of the port's
/// own cluster, and is found by what the tunnel was dispatched by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SniffedCluster {
    pub(crate) port: PortKey,
    pub(crate) upstream: Upstream,
}

impl Row for SniffedCluster {
    const TABLE: &'static str = "sniffed cluster";
    type Key = ScopeKey;
    type Bucket = ();

    fn buckets(_key: &ScopeKey, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Emit for SniffedCluster {
    const TYPE: TypeUrl = TypeUrl::Cluster;
    type Message = Cluster;

    fn waypoint(key: &ScopeKey) -> &Key {
        &key.waypoint
    }

    fn name(key: &ScopeKey, _settings: &Settings) -> String {
        sniffed::tcp_cluster_name(&scope::key(&key.dialled))
    }

    fn emit(&self, key: &ScopeKey, settings: &Settings) -> Cluster {
        self.emit_at(key, settings, &Place::default())
    }

    fn is_placed(&self) -> bool {
        self.upstream.is_placed()
    }

    fn emit_at(&self, key: &ScopeKey, settings: &Settings, place: &Place) -> Cluster {
        let name = Self::name(key, settings);
        match &self.upstream {
            Upstream::Endpoints => by_endpoints(name),
            Upstream::Names { names, lookup, nearness } => {
                found::by_names(name, names, *lookup, &near(*nearness, place))
            }
            Upstream::Dialled { port } => found::as_dialled(name, *port, Protocol::Sniffed),
            Upstream::Requested { wildcard: _ } => found::as_requested(name),
        }
    }
}

/// A cluster of endpoints that are asked in HTTP.
pub(super) fn for_http(name: String) -> Cluster {
    let http = (HTTP_OPTIONS.to_owned(), pack(&as_downstream()));
    Cluster { typed_extension_protocol_options: [http].into(), ..by_endpoints(name) }
}

fn by_endpoints(name: String) -> Cluster {
    let host = |name: &str| internal_upstream_transport::MetadataValueSource {
        kind: Some(metadata::MetadataKind {
            kind: Some(metadata::metadata_kind::Kind::Host(metadata::metadata_kind::Host {})),
        }),
        name: name.to_owned(),
    };
    // Towards an endpoint with a plain address the transport is transparent, so that one cluster
    // holds captured pods and others side by side.
    let transport = InternalUpstreamTransport {
        passthrough_metadata: vec![host(connect_originate::DESTINATION), host(connect_originate::TUNNEL)],
        transport_socket: Some(transport_socket("envoy.transport_sockets.raw_buffer", &RawBuffer {})),
    };
    let Cluster { common_lb_config, .. } = base();
    Cluster {
        name,
        common_lb_config: common_lb_config
            .map(|config| cluster::cluster::CommonLbConfig { override_host_status: Some(kept()), ..config }),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::Eds.into(),
        )),
        eds_cluster_config: Some(cluster::cluster::EdsClusterConfig {
            eds_config: Some(ads()),
            ..Default::default()
        }),
        lb_policy: cluster::cluster::LbPolicy::LeastRequest.into(),
        transport_socket: Some(transport_socket("envoy.transport_sockets.internal_upstream", &transport)),
        ..base()
    }
}

/// Who comes back gets an endpoint that is about to go as long as it serves. This is said of every
/// cluster: one that changes when a route begins to keep sessions would lose its connections.
fn kept() -> core::HealthStatusSet {
    use core::HealthStatus::{Degraded, Draining, Healthy, Unknown};
    core::HealthStatusSet { statuses: [Unknown, Healthy, Degraded, Draining].map(Into::into).to_vec() }
}

/// What the clusters of all services have in common.
pub(super) fn base() -> Cluster {
    Cluster {
        connect_timeout: Some(seconds(10)),
        circuit_breakers: Some(no_limits()),
        common_lb_config: Some(cluster::cluster::CommonLbConfig {
            // Endpoints that are not ready are not asked for help when few are left.
            healthy_panic_threshold: Some(percent::Percent { value: 0.0 }),
            ..Default::default()
        }),
        ..Cluster::default()
    }
}

/// HTTP/1.1 or HTTP/2, as the caller speaks: gRPC needs it, and backends of one protocol expect it.
fn as_downstream() -> HttpProtocolOptions {
    HttpProtocolOptions {
        upstream_protocol_options: Some(
            http_protocol::http_protocol_options::UpstreamProtocolOptions::UseDownstreamProtocolConfig(
                http_protocol::http_protocol_options::UseDownstreamHttpConfig {
                    http_protocol_options: Some(core::Http1ProtocolOptions::default()),
                    http2_protocol_options: Some(core::Http2ProtocolOptions::default()),
                    ..Default::default()
                },
            ),
        ),
        ..HttpProtocolOptions::default()
    }
}

fn http2() -> HttpProtocolOptions {
    use http_protocol::http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
    };
    HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(
                ProtocolConfig::Http2ProtocolOptions(core::Http2ProtocolOptions::default()),
            ),
        })),
        ..HttpProtocolOptions::default()
    }
}

/// Envoy's own limits (1024 of each) are for an edge; a user who wants limits sets them.
pub(crate) fn no_limits() -> cluster::CircuitBreakers {
    let most = Some(UInt32Value { value: u32::MAX });
    cluster::CircuitBreakers {
        thresholds: vec![cluster::circuit_breakers::Thresholds {
            max_connections: most,
            max_pending_requests: most,
            max_requests: most,
            max_retries: most,
            ..Default::default()
        }],
        ..cluster::CircuitBreakers::default()
    }
}
