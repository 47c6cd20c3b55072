//! How many proxies a waypoint has, and how many of them may be away at once.

use serde_json::{Value, json};

use super::{Waypoint, metadata};

/// As many as the load asks for. A proxy that ends takes streams with it that outlast its grace, so it
/// grows at once and shrinks late: one at a time, half an hour apart, after an hour of little load.
pub(super) fn autoscaler(waypoint: &Waypoint<'_>) -> Value {
    let name = &*waypoint.installation.name;
    json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata::metadata(waypoint, name),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            // All traffic of its services goes through it, so one of them is never all.
            "minReplicas": 2,
            "maxReplicas": 10,
            // In cores, not in shares of what is requested: that is little, so that idle ones cost little.
            "metrics": [{
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "1"}},
            }],
            "behavior": {"scaleDown": {
                "stabilizationWindowSeconds": 3600,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 1800}],
            }},
        },
    })
}

/// One at a time. A minimum that stays would stop the draining of a node for ever where there is one only.
pub(super) fn disruption_budget(waypoint: &Waypoint<'_>) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata::metadata(waypoint, &waypoint.installation.name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": metadata::selector(waypoint)},
        },
    })
}
