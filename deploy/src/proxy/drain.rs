//! The Envoy that runs beside a waypoint's when that is to end: it sees to it that nothing is cut short.
//!
//! A kubelet stops a container by a signal, on which Envoy ends at once with all its connections. What runs
//! before that (`preStop`) must be in the image, and ours has no shell and one program: Envoy. So a second
//! one is started with this configuration. Its health checks are requests, and they are all it does:
//!
//! ```text
//! fail     POST /healthcheck/fail to the waypoint's admin interface: it is not ready any more, and tells
//!          its callers on each connection, with the next response, to open no more streams there
//! idle     GET /stats there: healthy once no tunnel is open; unstarted: if there never were any
//! finish   POST to the listener below, which waits a while for those who have not heard yet, then goes
//!          where `idle` or `unstarted` are healthy: to /quitquitquit of our own admin interface
//! latest   the same after the whole time, whatever is still open
//! ```
//!
//! When it has ended, the kubelet sends its signal, and nobody is there to miss the waypoint.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::{Value, json};

use super::health::{cluster, manager, socket};

/// Where it listens itself, on loopback.
const OWN_ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15001);
const TIMER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15002);

/// How long tunnels may still come: until every node has heard that the pod is leaving.
const SETTLE: Duration = Duration::from_secs(5);

/// The bootstrap of that Envoy, as JSON, for the waypoint's Envoy whose admin interface is at `admin`.
/// It ends when no tunnel is open any more, and after `latest` at the latest.
pub fn drain(admin: SocketAddr, latest: Duration) -> Value {
    let settle = SETTLE.min(latest);
    json!({
        "node": {"id": "drain", "cluster": "drain"},
        "admin": {"address": socket(OWN_ADMIN)},
        "static_resources": {
            "listeners": [timer(settle, latest)],
            "clusters": [
                checked(cluster("fail", admin), "POST", "/healthcheck/fail", None, Duration::from_secs(5)),
                gate("idle", admin, "http.connect_terminate.downstream_rq_active"),
                gate("unstarted", admin, "listener_manager.workers_started"),
                cluster("end", OWN_ADMIN),
                checked(cluster("finish-idle", TIMER), "POST", "/idle", None, 2 * settle + Duration::from_secs(1)),
                checked(cluster("finish-unstarted", TIMER), "POST", "/unstarted", None, 2 * settle + Duration::from_secs(1)),
                checked(cluster("finish-latest", TIMER), "POST", "/latest", None, 2 * latest + Duration::from_secs(1)),
            ],
        },
    })
}

/// Waits, then asks our own admin interface to end us.
fn timer(settle: Duration, latest: Duration) -> Value {
    let fault = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
    let route = |path: &str, cluster: &str, wait: Duration| {
        json!({
            "match": {"path": path},
            "route": {"cluster": cluster, "prefix_rewrite": "/quitquitquit"},
            "typed_per_filter_config": {"envoy.filters.http.fault": {
                "@type": fault,
                "delay": {"fixed_delay": seconds(wait), "percentage": {"numerator": 100}},
            }},
        })
    };
    let routes = json!([
        route("/idle", "idle", settle),
        route("/unstarted", "unstarted", settle),
        route("/latest", "end", latest),
    ]);
    let fault = json!({"name": "envoy.filters.http.fault", "typed_config": {"@type": fault}});
    json!({"name": "timer", "address": socket(TIMER), "filter_chains": [manager("timer", &[fault], &routes)]})
}

/// A cluster that leads to our own admin interface, and is healthy only while that statistic of the
/// waypoint's Envoy is zero.
fn gate(name: &str, admin: SocketAddr, statistic: &str) -> Value {
    let mut gate = cluster(name, OWN_ADMIN);
    let endpoint = &mut gate["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    endpoint["health_check_config"] = json!({"port_value": admin.port()});
    // Otherwise a cluster of which nothing is healthy is taken for one that is checked wrongly.
    gate["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 0}});
    let path = format!("/stats?filter=^{}$", statistic.replace('.', r"\."));
    let hexadecimal = |mut text: String, byte: u8| {
        let digits =
            [byte >> 4, byte & 0xf].map(|half| char::from_digit(half.into(), 16).unwrap_or_default());
        text.extend(digits);
        text
    };
    let expected = format!("{statistic}: 0\n").bytes().fold(String::new(), hexadecimal);
    checked(gate, "GET", &path, Some(&expected), Duration::from_secs(1))
}

/// The cluster with a health check once a second that waits `timeout` for its answer, of which `expected`
/// has to be a part (hexadecimal).
fn checked(mut cluster: Value, method: &str, path: &str, expected: Option<&str>, timeout: Duration) -> Value {
    let mut request = json!({"host": "localhost", "path": path, "method": method});
    if let Some(expected) = expected {
        request["receive"] = json!([{"text": expected}]);
    }
    cluster["health_checks"] = json!([{
        "timeout": seconds(timeout),
        "interval": "1s",
        "no_traffic_interval": "1s",
        "healthy_threshold": 1,
        "unhealthy_threshold": 1,
        "http_health_check": request,
    }]);
    cluster
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}
