//! Deployment: the pods of a waypoint, each a stock Envoy and nothing else.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    ROOT_CONFIG_MAP, ROOT_KEY, Waypoint,
    bootstrap::{self, BOOTSTRAP, CONFIG, DRAIN, SECRETS},
    metadata,
};
use crate::proxy::{METRICS_PATH, METRICS_PORT, READY_PATH, READY_PORT};

/// Istio's name for it, so that patches written for Istio's waypoints find it.
const CONTAINER: &str = "istio-proxy";
/// The user and group of the process, as Istio has it; any but root would do.
const USER: u32 = 1337;
/// How long a pod may take to end, in seconds. It takes as long as its tunnels do, and no longer.
const GRACE: u32 = 300;
/// How long a token is good for, in seconds. A kubelet replaces it when a fifth of that is left: time
/// enough for an API server to come back.
const TOKEN_LIFETIME: u32 = 43_200;

/// `digest` stands for the bootstrap: another one, and the pods are replaced.
pub(super) fn deployment(waypoint: &Waypoint<'_>, digest: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata::metadata(waypoint, &waypoint.installation.name),
        // How many is the autoscaler's word: whoever states it here too takes it back with each write.
        "spec": {
            "selector": {"matchLabels": metadata::selector(waypoint)},
            // A new one first, then an old one less.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels(waypoint), "annotations": annotations(waypoint, digest)},
                "spec": pod(waypoint),
            },
        },
    })
}

/// How long a pod of that Deployment may take to end.
pub(super) fn grace(deployment: &Value) -> Option<Duration> {
    let grace = &deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    grace.as_u64().map(Duration::from_secs)
}

fn labels(waypoint: &Waypoint<'_>) -> Value {
    let own = [
        ("sidecar.istio.io/inject", "false"),
        // Nobody captures what it sends and receives: it speaks HBONE itself.
        ("istio.io/dataplane-mode", "none"),
        ("service.istio.io/canonical-name", &*waypoint.gateway.name),
        ("service.istio.io/canonical-revision", "latest"),
    ];
    json!(metadata::with(&metadata::labels(waypoint), &own))
}

fn annotations(waypoint: &Waypoint<'_>, digest: &str) -> Value {
    let port = METRICS_PORT.to_string();
    let own = [
        ("istio.io/rev", &*waypoint.installation.revision),
        ("portolan.dev/bootstrap", digest),
        ("prometheus.io/path", METRICS_PATH),
        ("prometheus.io/port", &*port),
        ("prometheus.io/scrape", "true"),
    ];
    json!(metadata::with(&waypoint.installation.annotations, &own))
}

fn pod(waypoint: &Waypoint<'_>) -> Value {
    let spread = |topology: &str| {
        json!({
            "topologyKey": topology,
            "maxSkew": 1,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": metadata::selector(waypoint)},
        })
    };
    let token =
        json!({"audience": waypoint.template.audience, "expirationSeconds": TOKEN_LIFETIME, "path": "token"});
    let root = json!({"name": ROOT_CONFIG_MAP, "items": [{"key": ROOT_KEY, "path": "root.pem"}]});
    json!({
        "serviceAccountName": waypoint.service_account,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [spread("kubernetes.io/hostname"), spread("topology.kubernetes.io/zone")],
        "containers": [container(waypoint)],
        "volumes": [
            {"name": "config", "configMap": {"name": bootstrap::name(waypoint)}},
            // One volume, so that the kubelet replaces both in one step, and Envoy hears of it.
            {"name": "identity", "projected": {"sources": [{"serviceAccountToken": token}, {"configMap": root}]}},
        ],
    })
}

fn container(waypoint: &Waypoint<'_>) -> Value {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    json!({
        "name": CONTAINER,
        "image": waypoint.template.image,
        "command": ["envoy"],
        "args": arguments(waypoint),
        "env": [
            field("POD_NAME", "metadata.name"),
            field("NODE_NAME", "spec.nodeName"),
            {"name": "CPU_LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        ],
        "ports": [
            {"name": "hbone", "containerPort": 15008, "protocol": "TCP"},
            {"name": "status-port", "containerPort": READY_PORT, "protocol": "TCP"},
            {"name": "http-envoy-prom", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "2", "memory": "1Gi"},
        },
        "securityContext": {
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        // Ready within a second of its configuration; and a control plane that is away is nothing that a
        // restart would mend, so it is waited for.
        "startupProbe": probe(1, 600),
        "readinessProbe": probe(15, 4),
        "lifecycle": {"preStop": {"exec": {"command": ending()}}},
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG, "readOnly": true},
            {"name": "identity", "mountPath": SECRETS, "readOnly": true},
        ],
    })
}

/// `$(NAME)` is replaced by the kubelet.
fn arguments(waypoint: &Waypoint<'_>) -> Value {
    let node = json!({
        "node": {"id": format!("waypoint~{}~$(POD_NAME)", waypoint.gateway), "locality": {"sub_zone": "$(NODE_NAME)"}},
    });
    json!([
        "--config-path",
        format!("{CONFIG}/{BOOTSTRAP}"),
        "--config-yaml",
        node.to_string(),
        "--concurrency",
        "$(CPU_LIMIT)",
        "--disable-hot-restart",
        "--log-level",
        "warning",
    ])
}

/// See [`crate::proxy::drain`].
fn ending() -> Value {
    json!([
        "envoy",
        "--config-path",
        format!("{CONFIG}/{DRAIN}"),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ])
}

fn probe(period: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": READY_PATH, "port": READY_PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 1,
        "failureThreshold": failures,
    })
}
