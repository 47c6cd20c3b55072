//! The listener `tls_router`: connections by the name that they ask for, which `main_internal_tls`
//! has made the authority of a tunnel. The port's RouteConfiguration has a virtual host for each.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    Name,
    envoy::{
        BoolValue, Cluster, HttpConnectionManager, HttpProtocolOptions, Listener, Router, UInt32Value, core,
        http_connection_manager as hcm, http_rbac, listener, pack, route, seconds,
    },
};

use super::{
    access_log, cluster as clusters, connect_originate, dispatch,
    extension::{http_filter, network_filter},
    main_internal, request_route, scope,
};
use crate::{
    bind::by_name::{ByName, Named},
    mesh::name::PortKey,
    route::hostname::Hostname,
    settings::Settings,
};

/// The listener and the cluster that leads to it.
pub(crate) const NAME: &str = "tls_router";

/// The filters that a RouteConfiguration fills with the policies of its port that ask for names, as
/// `connect_terminate` has them for tunnels.
pub(crate) const NAME_AUDIT: &str = "name-audit";
/// See [`NAME_AUDIT`].
pub(crate) const NAME_DENY: &str = "name-deny";
/// See [`NAME_AUDIT`].
pub(crate) const NAME_ALLOW: &str = "name-allow";

/// The authority of a tunnel for that name. No address that a caller can dial ends like this, so the
/// virtual hosts for names and the one for callers' tunnels never meet.
pub(crate) fn authority(name: &str) -> String {
    format!("{name}.sni")
}

pub(crate) fn emit() -> Listener {
    Listener {
        filter_chains: vec![listener::FilterChain {
            name: "default".to_owned(),
            filters: vec![network_filter("envoy.filters.network.http_connection_manager", &manager())],
            ..listener::FilterChain::default()
        }],
        ..main_internal::internal(NAME)
    }
}

fn manager() -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: NAME.to_owned(),
        codec_type: hcm::http_connection_manager::CodecType::Http2.into(),
        http2_protocol_options: Some(core::Http2ProtocolOptions {
            allow_connect: true,
            ..core::Http2ProtocolOptions::default()
        }),
        stream_idle_timeout: Some(seconds(0)),
        upgrade_configs: vec![hcm::http_connection_manager::UpgradeConfig {
            upgrade_type: "CONNECT".to_owned(),
            ..Default::default()
        }],
        http_filters: vec![
            http_filter(NAME_AUDIT, &http_rbac::Rbac::default()),
            http_filter(NAME_DENY, &http_rbac::Rbac::default()),
            http_filter(NAME_ALLOW, &http_rbac::Rbac::default()),
            http_filter("envoy.filters.http.router", &Router::default()),
        ],
        access_log: vec![access_log::all(), access_log::audited(), access_log::tried()],
        route_specifier: Some(scope::by_header(dispatch::HEADER)),
        generate_request_id: Some(BoolValue { value: false }),
        ..HttpConnectionManager::default()
    }
}

pub(crate) fn emit_cluster() -> Cluster {
    let options = HttpProtocolOptions {
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            // The pool of a caller's connection outlives it for as long as a connection in it is idle.
            max_requests_per_connection: Some(UInt32Value { value: 1 }),
            ..core::HttpProtocolOptions::default()
        }),
        upstream_protocol_options: Some(connect_originate::http2()),
        ..HttpProtocolOptions::default()
    };
    Cluster {
        typed_extension_protocol_options: [(clusters::HTTP_OPTIONS.to_owned(), pack(&options))].into(),
        ..main_internal::emit_cluster(NAME)
    }
}

/// The virtual hosts of the names: Envoy takes an exact one before a wildcard, and the longest
/// wildcard first, as Gateway API has it for hostnames. Names with the same routes are one virtual host.
///
/// A group is for the callers of its namespace, the last for everybody; each stands alone, so a name
/// of one group is, in another, whatever covers it there. There is always a virtual host for every
/// other name, or those would meet the tunnel's own route.
pub(crate) fn virtual_hosts(
    groups: &[(Option<&Name>, &ByName)],
    for_callers_of: impl Fn(&Name, route::Route) -> route::Route,
    key: &PortKey,
    settings: &Settings,
) -> Vec<route::VirtualHost> {
    let groups = || groups.iter().filter(|(_, by_name)| !by_name.is_empty());
    if groups().next().is_none() {
        return Vec::new();
    }
    let names: BTreeSet<Option<&Hostname>> =
        groups().flat_map(|(_, by_name)| by_name.names()).chain([None]).collect();
    let mut alike: BTreeMap<Vec<&str>, (Option<&Hostname>, Vec<String>)> = BTreeMap::new();
    for name in names {
        let routes = groups().map(|(_, by_name)| by_name.of(name).map_or(NOT_FOUND, |named| &named.name));
        let domain = authority(&name.map_or_else(|| "*".to_owned(), ToString::to_string));
        alike.entry(routes.collect()).or_insert_with(|| (name, Vec::new())).1.push(domain);
    }
    let hosts = alike.into_iter().map(|(routes, (name, domains))| route::VirtualHost {
        name: routes.join(","),
        domains,
        routes: groups()
            .map(|(namespace, by_name)| {
                let route = by_name.of(name).map_or_else(not_found, |named| to(named, key, settings));
                match namespace {
                    Some(namespace) => for_callers_of(namespace, route),
                    None => route,
                }
            })
            .collect(),
        ..Default::default()
    });
    hosts.collect()
}

/// What connections meet that ask for a name that no route has.
const NOT_FOUND: &str = "not-found";

fn not_found() -> route::Route {
    route::Route { action: Some(request_route::respond(404)), ..request_route::tunnel_match(NOT_FOUND) }
}

fn to(Named { name, forward }: &Named, key: &PortKey, settings: &Settings) -> route::Route {
    request_route::tunnel(name, request_route::connections(forward, key, settings))
}
