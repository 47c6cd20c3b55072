//! The listener `main_internal`: the HTTP requests inside the tunnels, each judged and routed by
//! the route configuration of the address that its tunnel dials.

use proto::envoy::{
    BoolValue, Cluster, HttpConnectionManager, InternalUpstreamTransport, Listener, OriginalDst, RawBuffer,
    Router, StringValue, cluster, core, endpoint, http_connection_manager as hcm, http_filter_chain,
    http_rbac, listener, pack, rbac, route, seconds, xds_core, xds_matcher,
};

use super::{
    access_log, cluster as clusters, dispatch,
    extension::{http_filter, internal_address, listener_filter, network_filter, transport_socket, typed},
    scope, trusted,
};
use crate::mesh::mesh_config::Normalization;

/// The listener and the cluster that leads to it.
pub(crate) const NAME: &str = "main_internal";
/// The filter that a RouteConfiguration fills with the filters of its service.
pub(crate) const SERVICE_FILTERS: &str = "svc";

pub(crate) fn emit(normalization: Normalization) -> Listener {
    Listener {
        filter_chain_matcher: Some(xds_matcher::Matcher {
            on_no_match: Some(Box::new(choose(http_chain(normalization)))),
            ..xds_matcher::Matcher::default()
        }),
        filter_chains: http_chains(),
        ..internal(NAME)
    }
}

/// One chain for each way to normalize paths, always all of them. Which one a new tunnel takes is the
/// matcher's to say, and a listener that changes in nothing but its matcher drains no chain: tunnels
/// that are open keep the way they began with.
pub(crate) fn http_chains() -> Vec<listener::FilterChain> {
    let chain = |normalization| listener::FilterChain {
        name: http_chain(normalization).to_owned(),
        filters: vec![network_filter(
            "envoy.filters.network.http_connection_manager",
            &manager(normalization),
        )],
        ..listener::FilterChain::default()
    };
    Normalization::ALL.map(chain).into()
}

/// The name of the chain for HTTP that normalizes paths like that.
pub(crate) const fn http_chain(normalization: Normalization) -> &'static str {
    match normalization {
        Normalization::None => "http-none",
        Normalization::Base => "http-base",
        Normalization::MergeSlashes => "http-merge-slashes",
        Normalization::DecodeAndMergeSlashes => "http-decode-and-merge-slashes",
    }
}

/// The choice of a chain.
pub(crate) fn choose(chain: &str) -> xds_matcher::matcher::OnMatch {
    let action = xds_core::TypedExtensionConfig {
        name: chain.to_owned(),
        typed_config: Some(pack(&StringValue { value: chain.to_owned() })),
    };
    xds_matcher::matcher::OnMatch {
        on_match: Some(xds_matcher::matcher::on_match::OnMatch::Action(action)),
        ..Default::default()
    }
}

/// A listener that takes connections from our own tunnels, with their addresses restored.
pub(crate) fn internal(name: &str) -> Listener {
    Listener {
        name: name.to_owned(),
        listener_specifier: Some(listener::listener::ListenerSpecifier::InternalListener(
            listener::listener::InternalListenerConfig {},
        )),
        traffic_direction: core::TrafficDirection::Inbound.into(),
        listener_filters: vec![listener_filter("envoy.filters.listener.original_dst", &OriginalDst {})],
        ..Listener::default()
    }
}

/// The cluster that leads to one of our internal listeners.
pub(crate) fn emit_cluster(name: &str) -> Cluster {
    let transport = InternalUpstreamTransport {
        transport_socket: Some(transport_socket("envoy.transport_sockets.raw_buffer", &RawBuffer {})),
        ..InternalUpstreamTransport::default()
    };
    let address = internal_address(name, String::new());
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::Static.into(),
        )),
        // A second wall between callers, beside the hashable filter state: tunnels of two of them
        // never share an internal connection.
        connection_pool_per_downstream_connection: true,
        circuit_breakers: Some(clusters::no_limits()),
        load_assignment: Some(proto::envoy::ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![endpoint::LocalityLbEndpoints {
                lb_endpoints: vec![endpoint::LbEndpoint {
                    host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
                        endpoint::Endpoint { address: Some(address), ..endpoint::Endpoint::default() },
                    )),
                    ..endpoint::LbEndpoint::default()
                }],
                ..endpoint::LocalityLbEndpoints::default()
            }],
            ..proto::envoy::ClusterLoadAssignment::default()
        }),
        transport_socket: Some(transport_socket("envoy.transport_sockets.internal_upstream", &transport)),
        ..Cluster::default()
    }
}

/// The connection manager of everything that is HTTP inside a tunnel.
fn manager(normalization: Normalization) -> HttpConnectionManager {
    use hcm::http_connection_manager::PathWithEscapedSlashesAction;
    let escaped_slashes = match normalization {
        Normalization::None | Normalization::Base | Normalization::MergeSlashes => {
            PathWithEscapedSlashesAction::KeepUnchanged
        }
        Normalization::DecodeAndMergeSlashes => PathWithEscapedSlashesAction::UnescapeAndForward,
    };
    HttpConnectionManager {
        stat_prefix: "waypoint".to_owned(),
        normalize_path: Some(BoolValue { value: normalization >= Normalization::Base }),
        merge_slashes: normalization >= Normalization::MergeSlashes,
        path_with_escaped_slashes_action: escaped_slashes.into(),
        stream_idle_timeout: Some(seconds(0)),
        server_header_transformation: hcm::http_connection_manager::ServerHeaderTransformation::PassThrough
            .into(),
        upgrade_configs: vec![hcm::http_connection_manager::UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }],
        early_header_mutation_extensions: vec![typed("dispatch", &dispatch::as_the_tunnel())],
        http_filters: vec![
            trusted::filter(),
            http_filter("no-connect", &no_connect()),
            http_filter(SERVICE_FILTERS, &http_filter_chain::FilterChainConfig::default()),
            http_filter("envoy.filters.http.router", &Router::default()),
        ],
        access_log: vec![access_log::all(), access_log::audited(), access_log::tried()],
        route_specifier: Some(scope::by_header(dispatch::HEADER)),
        ..HttpConnectionManager::default()
    }
}

/// Whether a request is a CONNECT.
pub(crate) fn connect() -> route::HeaderMatcher {
    route::HeaderMatcher {
        name: ":method".to_owned(),
        header_match_specifier: Some(route::header_matcher::HeaderMatchSpecifier::StringMatch(
            proto::envoy::matcher::StringMatcher {
                match_pattern: Some(proto::envoy::matcher::string_matcher::MatchPattern::Exact(
                    "CONNECT".to_owned(),
                )),
                ..Default::default()
            },
        )),
        ..route::HeaderMatcher::default()
    }
}

/// A CONNECT inside a tunnel would meet the route that is there for tunnels.
fn no_connect() -> http_rbac::Rbac {
    let policy = rbac::Policy {
        permissions: vec![rbac::Permission { rule: Some(rbac::permission::Rule::Header(connect())) }],
        principals: vec![rbac::Principal { identifier: Some(rbac::principal::Identifier::Any(true)) }],
        ..rbac::Policy::default()
    };
    http_rbac::Rbac {
        rules: Some(rbac::Rbac {
            action: rbac::rbac::Action::Deny.into(),
            policies: [("inner-connect".to_owned(), policy)].into(),
            ..rbac::Rbac::default()
        }),
        ..http_rbac::Rbac::default()
    }
}

/// The filters of a service, as its RouteConfiguration puts them in the filter `svc`.
pub(crate) fn service_filters(filters: Vec<core::TypedExtensionConfig>) -> proto::envoy::Any {
    pack(&http_filter_chain::FilterChainConfigPerRoute {
        filter_chain: Some(http_filter_chain::FilterChain { filters }),
    })
}
