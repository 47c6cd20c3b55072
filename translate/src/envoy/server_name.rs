//! The listener `main_internal_tls`: tunnels to ports where the name that a TLS client asks for (SNI)
//! decides. It reads the name, and sends all bytes as they are through a tunnel of ours to
//! `tls_router`, whose authority is made of that name: what it may be is said by virtual hosts
//! there, which change without a drain, and match wildcards.
//!
//! It is a listener of its own because looking at the first bytes takes waiting for them.

use proto::envoy::{
    Listener, NetworkSetFilterState, TcpProxy, TlsInspector, core, listener, seconds, tcp_proxy,
};

use super::{
    dispatch,
    extension::{listener_filter, network_filter},
    filter_state::{
        DISPATCHED, LOCAL_ADDRESS, LOCAL_PRINCIPAL, ORIGINAL_DESTINATION, PEER_PRINCIPAL, REMOTE_ADDRESS,
        local_string, shared, shared_string,
    },
    main_internal, tls_router,
};

/// The listener and the cluster that leads to it.
pub(crate) const NAME: &str = "main_internal_tls";

/// Holds the name behind a mark, or the mark alone: a name may be all that stands for none elsewhere.
/// No caller has a word in the tunnel that carries it.
pub(crate) const HEADER: &str = "x-wp-sni";
/// What stands in front of the name. No name of a host begins with it, and it means nothing to RE2.
pub(crate) const MARK: &str = "=";
const SERVER_NAME: &str = "portolan.server_name";

pub(crate) fn emit() -> Listener {
    let mut listener = main_internal::internal(NAME);
    listener
        .listener_filters
        .push(listener_filter("envoy.filters.listener.tls_inspector", &TlsInspector::default()));
    Listener {
        // A client that waits for the server to speak first goes on after this, as one that asks for no name.
        listener_filters_timeout: Some(seconds(1)),
        continue_on_listener_filters_timeout: true,
        filter_chains: vec![listener::FilterChain {
            name: "default".to_owned(),
            filters: vec![
                network_filter("envoy.filters.network.set_filter_state", &hand_on()),
                network_filter("envoy.filters.network.tcp_proxy", &proxy()),
            ],
            ..listener::FilterChain::default()
        }],
        ..listener
    }
}

/// What crosses an internal connection does so once; this is what has to cross the next one too.
fn hand_on() -> NetworkSetFilterState {
    let again = |key: &str| shared_string(key, &format!("%FILTER_STATE({key}:PLAIN)%"));
    NetworkSetFilterState {
        on_new_connection: vec![
            shared(LOCAL_ADDRESS, "%DOWNSTREAM_LOCAL_ADDRESS%"),
            shared(REMOTE_ADDRESS, "%DOWNSTREAM_REMOTE_ADDRESS%"),
            again(PEER_PRINCIPAL),
            again(LOCAL_PRINCIPAL),
            // For backends that are whatever was dialled: what the tunnel of ours is for is no address.
            shared(ORIGINAL_DESTINATION, "%DOWNSTREAM_LOCAL_ADDRESS%"),
            local_string(SERVER_NAME, &format!("{MARK}%REQUESTED_SERVER_NAME%")),
        ],
        ..NetworkSetFilterState::default()
    }
}

fn proxy() -> TcpProxy {
    let header = |name: &str, state: &str| core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: name.to_owned(),
            value: format!("%FILTER_STATE({state}:PLAIN)%"),
            ..core::HeaderValue::default()
        }),
        ..core::HeaderValueOption::default()
    };
    TcpProxy {
        stat_prefix: "tls".to_owned(),
        cluster_specifier: Some(tcp_proxy::tcp_proxy::ClusterSpecifier::Cluster(tls_router::NAME.to_owned())),
        tunneling_config: Some(tcp_proxy::tcp_proxy::TunnelingConfig {
            // In lower case, with a dash for no name, and a mark in front of what is no host name.
            hostname: tls_router::authority("%REQUESTED_SERVER_NAME%"),
            headers_to_add: vec![header(dispatch::HEADER, DISPATCHED), header(HEADER, SERVER_NAME)],
            ..Default::default()
        }),
        // As silent as the connection inside may be.
        idle_timeout: Some(seconds(0)),
        ..TcpProxy::default()
    }
}
