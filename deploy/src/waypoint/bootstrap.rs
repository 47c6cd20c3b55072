//! ConfigMap: what a waypoint's Envoy is started with, and the one that sees it off.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use proto::{Place, envoy};
use rapidhash::v3::rapidhash_v3;
use serde_json::{Value, json};

use super::{MakeError, Waypoint, metadata};
use crate::proxy::{self, Proxy, ProxyFiles};

/// Where the ConfigMap is mounted.
pub(super) const CONFIG: &str = "/etc/portolan";
/// Where the token and the root certificate are.
pub(super) const SECRETS: &str = "/var/run/secrets/portolan";
/// The bootstrap's file.
pub(super) const BOOTSTRAP: &str = "bootstrap.json";
/// The file of the Envoy that ends it.
pub(super) const DRAIN: &str = "drain.json";

/// Where Envoy's admin interface listens: in a pod nobody else can reach it.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);

/// What of the grace of a pod is left for Envoy to end in.
const LEFT: Duration = Duration::from_secs(10);

fn files() -> ProxyFiles {
    ProxyFiles::mounted(SECRETS, CONFIG)
}

/// The name of the ConfigMap.
pub(super) fn name(waypoint: &Waypoint<'_>) -> String {
    format!("{}-bootstrap", waypoint.installation.name)
}

/// The bootstrap, as text. It is the same for every pod: what differs is in their arguments.
pub(super) fn bootstrap(waypoint: &Waypoint<'_>) -> Result<String, MakeError> {
    let bootstrap = proxy::bootstrap(&Proxy {
        gateway: waypoint.gateway,
        name: "pod",
        place: &Place::default(),
        xds: &waypoint.template.xds,
        admin: Some(ADMIN),
        files: &files(),
    });
    let mut bootstrap = proto::render_any(&envoy::pack(&bootstrap))?;
    let (listeners, admin) = proxy::listeners(ADMIN);
    let resources = &mut bootstrap["static_resources"];
    resources["listeners"] = listeners;
    if let Some(clusters) = resources["clusters"].as_array_mut() {
        clusters.push(admin);
    }
    Ok(format!("{:#}\n", sorted(bootstrap)))
}

/// Envoy reads its bootstrap once, so pods are replaced when it changes.
pub(super) fn digest(bootstrap: &str) -> String {
    format!("{:016x}", rapidhash_v3(bootstrap.as_bytes()))
}

/// `grace` is how long a pod may take to end.
pub(super) fn config_map(
    waypoint: &Waypoint<'_>,
    bootstrap: &str,
    grace: Option<Duration>,
) -> Result<Value, MakeError> {
    let latest = grace.unwrap_or_default().saturating_sub(LEFT).max(Duration::from_secs(1));
    let mut data = json!({
        BOOTSTRAP: bootstrap,
        DRAIN: format!("{:#}\n", proxy::drain(ADMIN, latest)),
    });
    for (name, content) in files().secrets()? {
        data[name] = json!(String::from_utf8_lossy(&content));
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata::metadata(waypoint, &name(waypoint)),
        "data": data,
    }))
}

/// The value with the fields of its maps in one order, whatever order they were made in: a message holds
/// its maps in none, and a different text would replace every pod.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: std::collections::BTreeMap<_, _> =
                map.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}
