//! The listener and cluster `connect_originate`: opens a tunnel to a pod that ambient captures, and
//! goes on only if the pod proves the identity that its service account gives it.

use proto::envoy::{
    Cluster, HttpProtocolOptions, Listener, NetworkSetFilterState, TcpProxy, UInt32Value, cluster, core,
    http_protocol, listener, metadata, pack, seconds, tcp_proxy,
};

use super::{
    access_log, cluster as clusters,
    extension::{network_filter, transport_socket},
    filter_state::{UPSTREAM_SUBJECT_ALT_NAMES, shared},
    main_internal, tls,
};
use crate::mesh::waypoint::HBONE_PORT;

/// The listener, and the cluster behind it.
pub(crate) const NAME: &str = "connect_originate";
/// Endpoint metadata: which address the tunnel is for.
pub(crate) const DESTINATION: &str = "envoy.filters.listener.original_dst";
/// Endpoint metadata: what the tunnel's far end must prove.
pub(crate) const TUNNEL: &str = "istio.tunnel";

pub(crate) fn emit() -> Listener {
    let pin = NetworkSetFilterState {
        on_new_connection: vec![shared(
            UPSTREAM_SUBJECT_ALT_NAMES,
            &format!("%DYNAMIC_METADATA({TUNNEL}:san)%"),
        )],
        ..NetworkSetFilterState::default()
    };
    let tunnel = TcpProxy {
        stat_prefix: NAME.to_owned(),
        cluster_specifier: Some(tcp_proxy::tcp_proxy::ClusterSpecifier::Cluster(NAME.to_owned())),
        tunneling_config: Some(tcp_proxy::tcp_proxy::TunnelingConfig {
            hostname: "%DOWNSTREAM_LOCAL_ADDRESS%".to_owned(),
            ..Default::default()
        }),
        idle_timeout: Some(seconds(0)),
        access_log: vec![access_log::failed_upstream()],
        ..TcpProxy::default()
    };
    Listener {
        traffic_direction: core::TrafficDirection::Outbound.into(),
        filter_chains: vec![listener::FilterChain {
            name: "default".to_owned(),
            filters: vec![
                network_filter("envoy.filters.network.set_filter_state", &pin),
                network_filter("envoy.filters.network.tcp_proxy", &tunnel),
            ],
            ..listener::FilterChain::default()
        }],
        ..main_internal::internal(NAME)
    }
}

/// HTTP/2 with tunnels in it.
pub(crate) fn http2() -> http_protocol::http_protocol_options::UpstreamProtocolOptions {
    use http_protocol::http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
    };
    let http2 = core::Http2ProtocolOptions { allow_connect: true, ..Default::default() };
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2)),
    })
}

pub(crate) fn emit_cluster(trust_domain: &str) -> Cluster {
    let http2 =
        HttpProtocolOptions { upstream_protocol_options: Some(http2()), ..HttpProtocolOptions::default() };
    let path = metadata::metadata_key::PathSegment {
        segment: Some(metadata::metadata_key::path_segment::Segment::Key("waypoint".to_owned())),
    };
    Cluster {
        name: NAME.to_owned(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::OriginalDst.into(),
        )),
        lb_policy: cluster::cluster::LbPolicy::ClusterProvided.into(),
        connect_timeout: Some(seconds(10)),
        circuit_breakers: Some(clusters::no_limits()),
        lb_config: Some(cluster::cluster::LbConfig::OriginalDstLbConfig(
            cluster::cluster::OriginalDstLbConfig {
                upstream_port_override: Some(UInt32Value { value: u32::from(HBONE_PORT) }),
                metadata_key: Some(metadata::MetadataKey { key: DESTINATION.to_owned(), path: vec![path] }),
                ..Default::default()
            },
        )),
        typed_extension_protocol_options: [(clusters::HTTP_OPTIONS.to_owned(), pack(&http2))].into(),
        transport_socket: Some(transport_socket("envoy.transport_sockets.tls", &tls::upstream(trust_domain))),
        ..Cluster::default()
    }
}
