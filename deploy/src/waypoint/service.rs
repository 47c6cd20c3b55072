//! Service: where callers find the proxies of a waypoint.

use serde_json::{Value, json};

use super::{Waypoint, metadata};
use crate::proxy::READY_PORT;

/// The only port on which ztunnel looks for a waypoint.
const HBONE_PORT: u16 = 15008;

pub(super) fn service(waypoint: &Waypoint<'_>) -> Value {
    let installation = waypoint.installation;
    let mut metadata = metadata::metadata(waypoint, &installation.name);
    // A namespace whose services are to go through a waypoint would send the waypoint through itself.
    metadata["labels"]["istio.io/use-waypoint"] = json!("none");
    // A proxy near the caller is as good as any other.
    let near = [("networking.istio.io/traffic-distribution", "PreferClose")];
    metadata["annotations"] = json!(metadata::with(&installation.annotations, &near));
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": installation.service_type,
            "ipFamilyPolicy": "PreferDualStack",
            "selector": metadata::selector(waypoint),
            "ports": [
                port("status-port", READY_PORT, "tcp"),
                port(&installation.port, HBONE_PORT, "hbone"),
            ],
        },
    })
}

fn port(name: &str, number: u16, speaks: &str) -> Value {
    json!({"name": name, "port": number, "targetPort": number, "protocol": "TCP", "appProtocol": speaks})
}
