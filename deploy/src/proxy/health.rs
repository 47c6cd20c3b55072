//! What a waypoint's Envoy answers besides tunnels: whether it is ready, and how it does.
//!
//! Both are the admin interface's answers, which itself listens on loopback only. These listeners open
//! with all others, when the first configuration has arrived: before that nobody is told that it is ready.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// Where a kubelet asks whether it is ready.
pub const READY_PORT: u16 = 15021;
/// See [`READY_PORT`].
pub const READY_PATH: &str = "/healthz/ready";
/// Where Prometheus asks how it does.
pub const METRICS_PORT: u16 = 15090;
/// See [`METRICS_PORT`].
pub const METRICS_PATH: &str = "/stats/prometheus";

/// The name of the cluster that is the admin interface.
const ADMIN: &str = "admin";

/// The static listeners, and the cluster of the admin interface at `admin`, as Envoy's JSON.
pub fn listeners(admin: SocketAddr) -> (Value, Value) {
    let listeners = json!([
        listener("ready", READY_PORT, READY_PATH, "/ready"),
        listener("metrics", METRICS_PORT, METRICS_PATH, METRICS_PATH),
    ]);
    (listeners, cluster(ADMIN, admin))
}

/// A cluster of one address.
pub(super) fn cluster(name: &str, address: SocketAddr) -> Value {
    json!({
        "name": name,
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(address)}}]}],
        },
    })
}

pub(super) fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// An HTTP connection manager with these filters before the router, and one virtual host.
pub(super) fn manager(name: &str, filters: &[Value], routes: &Value) -> Value {
    let last = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let filters: Vec<_> = filters.iter().cloned().chain([last]).collect();
    json!({
        "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "generate_request_id": false,
                "http_filters": filters,
                "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]},
            },
        }],
    })
}

/// Nothing but a GET of `path` gets through to the admin interface, and there to `asks`.
fn listener(name: &str, port: u16, path: &str, asks: &str) -> Value {
    let get = json!([{"name": ":method", "string_match": {"exact": "GET"}}]);
    let routes = json!([{
        "match": {"path": path, "headers": get},
        "route": {"cluster": ADMIN, "prefix_rewrite": asks},
    }]);
    // One socket for both families, like the one for tunnels.
    let address = json!({"socket_address": {"address": "::", "port_value": port, "ipv4_compat": true}});
    json!({
        "name": name,
        "address": address,
        "filter_chains": [manager(name, &[], &routes)],
        // The probe must find it while connections of others are being refused.
        "ignore_global_conn_limit": true,
    })
}
