//! Clusters whose endpoints the proxy finds itself: by DNS, by what the caller dialled, by what a
//! request asks for.

use proto::{
    Name,
    envoy::{
        Any, Cluster, DnsCluster, DnsLookupFamily, DynamicForwardProxy, DynamicForwardProxyCluster,
        UInt32Value, cluster, core, dns_cache, dns_cluster, dynamic_forward_proxy,
        dynamic_forward_proxy_cluster, endpoint, pack, seconds,
    },
};

use super::{assignment::by_locality, cluster::base};
use crate::{
    bind::upstream_of::{Lookup, Named},
    mesh::{endpoint::Locality, name::ANY_PORT, protocol::Protocol},
};

/// Names, each looked up again when its answer expires.
pub(super) fn by_names(
    name: String,
    names: &[Named],
    lookup: Lookup,
    rank: &impl Fn(&Locality, &Name) -> Option<u32>,
) -> Cluster {
    let endpoints = names.iter().filter_map(|one| {
        let rank = rank(&one.locality, &one.locality.sub_zone)?;
        Some((rank, one.locality.clone(), one.weight, lb_endpoint(one)))
    });
    let dns = DnsCluster {
        respect_dns_ttl: true,
        // For answers that say nothing of their age; Envoy's own five seconds are hard on a server.
        dns_refresh_rate: Some(seconds(60)),
        dns_failure_refresh_rate: Some(dns_cluster::RefreshRate {
            base_interval: Some(seconds(5)),
            max_interval: Some(seconds(60)),
        }),
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        all_addresses_in_single_endpoint: match lookup {
            Lookup::All => false,
            Lookup::One => true,
        },
        ..DnsCluster::default()
    };
    Cluster {
        load_assignment: Some(by_locality(name.clone(), endpoints)),
        name,
        cluster_discovery_type: Some(found_by("envoy.cluster.dns", pack(&dns))),
        lb_policy: cluster::cluster::LbPolicy::LeastRequest.into(),
        ..base()
    }
}

fn found_by(extension: &str, config: Any) -> cluster::cluster::ClusterDiscoveryType {
    cluster::cluster::ClusterDiscoveryType::ClusterType(cluster::cluster::CustomClusterType {
        name: extension.to_owned(),
        typed_config: Some(config),
    })
}

fn lb_endpoint(one: &Named) -> endpoint::LbEndpoint {
    let address = core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: one.host.clone(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(one.port))),
            ..core::SocketAddress::default()
        })),
    };
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
            address: Some(address),
            ..endpoint::Endpoint::default()
        })),
        ..endpoint::LbEndpoint::default()
    }
}

/// The address that the caller dials. Behind an internal listener that is the connection's own; the
/// tunnel of a TCP port has it as its authority, which chose the service before.
pub(super) fn as_dialled(name: String, port: u16, protocol: Protocol) -> Cluster {
    let by_authority = match protocol {
        Protocol::Tcp => true,
        Protocol::Http | Protocol::Sniffed => false,
    };
    let config = cluster::cluster::OriginalDstLbConfig {
        use_http_header: by_authority,
        http_header_name: if by_authority { ":authority".to_owned() } else { String::new() },
        upstream_port_override: (port != ANY_PORT).then(|| UInt32Value { value: u32::from(port) }),
        ..Default::default()
    };
    Cluster {
        name,
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::OriginalDst.into(),
        )),
        lb_policy: cluster::cluster::LbPolicy::ClusterProvided.into(),
        lb_config: Some(cluster::cluster::LbConfig::OriginalDstLbConfig(config)),
        ..base()
    }
}

/// The host that a request names, looked up when it is asked for.
pub(super) fn as_requested(name: String) -> Cluster {
    let proxy = DynamicForwardProxyCluster {
        cluster_implementation_specifier: Some(
            dynamic_forward_proxy_cluster::ClusterImplementationSpecifier::DnsCacheConfig(cache(&name)),
        ),
        // It asks for checks of certificates, and there is no TLS here to check.
        allow_insecure_cluster_options: true,
        ..DynamicForwardProxyCluster::default()
    };
    Cluster {
        name,
        cluster_discovery_type: Some(found_by("envoy.clusters.dynamic_forward_proxy", pack(&proxy))),
        lb_policy: cluster::cluster::LbPolicy::ClusterProvided.into(),
        ..base()
    }
}

/// The filter that looks up a request's host before it is sent to that cluster.
pub(super) fn requested(cluster: &str) -> DynamicForwardProxy {
    DynamicForwardProxy {
        implementation_specifier: Some(dynamic_forward_proxy::ImplementationSpecifier::DnsCacheConfig(
            cache(cluster),
        )),
        ..DynamicForwardProxy::default()
    }
}

/// Filter and cluster share a cache by its name, and have to agree on all of it.
fn cache(cluster: &str) -> dns_cache::DnsCacheConfig {
    dns_cache::DnsCacheConfig {
        name: cluster.to_owned(),
        dns_lookup_family: cluster::cluster::DnsLookupFamily::V4Preferred.into(),
        ..dns_cache::DnsCacheConfig::default()
    }
}
