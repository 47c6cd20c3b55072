//! What the tunnel tells the requests inside it, by filter state that crosses the internal connection.

use proto::envoy::{
    HttpSetFilterState,
    filter_state::{FilterStateValue, filter_state_value},
};

use super::extension::format;

/// The caller's SPIFFE URI.
pub(crate) const PEER_PRINCIPAL: &str = "io.istio.peer_principal";
/// Our own SPIFFE URI.
pub(crate) const LOCAL_PRINCIPAL: &str = "io.istio.local_principal";
/// What the caller dialled, as it stands in `:authority` of the tunnel.
pub(crate) const CONNECT_AUTHORITY: &str = "io.istio.connect_authority";
/// The key of the scope that the tunnel was dispatched by. What is inside goes by the same.
pub(crate) const DISPATCHED: &str = "portolan.dispatched";
/// Where the tunnel comes from: Envoy restores it as the remote address of the inner connection.
pub(crate) const REMOTE_ADDRESS: &str = "envoy.filters.listener.original_dst.remote_ip";
/// What the caller dialled, which Envoy restores as the local address.
pub(crate) const LOCAL_ADDRESS: &str = "envoy.filters.listener.original_dst.local_ip";
/// The identity that the destination of a tunnel must prove.
pub(crate) const UPSTREAM_SUBJECT_ALT_NAMES: &str = "envoy.network.upstream_subject_alt_names";
/// Where a cluster goes whose only endpoint is what was dialled.
pub(crate) const ORIGINAL_DESTINATION: &str = "envoy.network.transport_socket.original_dst_address";
/// The cluster that a TCP proxy goes to.
pub(crate) const TCP_PROXY_CLUSTER: &str = "envoy.tcp_proxy.cluster";

/// A string that the next connection gets too, and that keeps tunnels of different callers apart.
///
/// The hashable factory takes part in choosing the internal connection. With the plain string one,
/// requests of two callers can share a connection and be judged as each other.
pub(crate) fn shared_string(key: &str, value: &str) -> FilterStateValue {
    FilterStateValue { factory_key: "envoy.hashable_string".to_owned(), ..shared(key, value) }
}

/// An object of the type that Envoy has for this key, which the next connection gets too.
///
/// Without the value there is no object: a dash in its place would match "any identity".
pub(crate) fn shared(key: &str, value: &str) -> FilterStateValue {
    let mut text = format(value);
    text.omit_empty_values = true;
    FilterStateValue {
        shared_with_upstream: filter_state_value::SharedWithUpstream::Once.into(),
        skip_if_empty: true,
        key: Some(filter_state_value::Key::ObjectKey(key.to_owned())),
        value: Some(filter_state_value::Value::FormatString(text)),
        ..FilterStateValue::default()
    }
}

/// Sets nothing, and has the route of the request chosen once more, by its headers as they are now.
pub(crate) fn reroute() -> HttpSetFilterState {
    HttpSetFilterState { clear_route_cache: true, ..HttpSetFilterState::default() }
}

/// A string for the filters of this connection only.
pub(crate) fn local_string(key: &str, value: &str) -> FilterStateValue {
    FilterStateValue { factory_key: "envoy.string".to_owned(), ..local(key, value) }
}

/// An object for the filters of this connection only.
pub(crate) fn local(key: &str, value: &str) -> FilterStateValue {
    FilterStateValue {
        shared_with_upstream: filter_state_value::SharedWithUpstream::None.into(),
        ..shared(key, value)
    }
}
