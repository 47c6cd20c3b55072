//! What all objects of a waypoint have in common: their names, their labels and whose they are.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Waypoint;

/// The controller of our classes.
pub const CONTROLLER: &str = "portolan.dev/waypoint-controller";
/// As whom we write objects: the owner of the fields that we set.
pub const FIELD_MANAGER: &str = CONTROLLER;
/// On every object: which controller made it. The value is the controller's name in the form that Istio
/// gives its own, and not one of Istio's, so that an istiod beside us leaves the object alone.
pub const MANAGED_LABEL: &str = "gateway.istio.io/managed";
/// See [`MANAGED_LABEL`].
pub const MANAGED: &str = "portolan.dev-waypoint-controller";
/// On every object, and on the pods: which Gateway (GEP-1762).
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
const GATEWAY_CLASS_NAME: &str = "gateway.networking.k8s.io/gateway-class-name";

/// The labels of every object.
pub(super) fn labels(waypoint: &Waypoint<'_>) -> BTreeMap<String, String> {
    let own = [
        (GATEWAY_NAME, &*waypoint.gateway.name),
        (GATEWAY_CLASS_NAME, &*waypoint.installation.class),
        (MANAGED_LABEL, MANAGED),
    ];
    with(&waypoint.installation.labels, &own)
}

/// `map`, and in it these.
pub(super) fn with(map: &BTreeMap<String, String>, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut map = map.clone();
    map.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    map
}

/// By what the pods are found, and never by more: a selector cannot be changed.
pub(super) fn selector(waypoint: &Waypoint<'_>) -> Value {
    json!({ GATEWAY_NAME: *waypoint.gateway.name })
}

/// The metadata of an object of that name. The Gateway owns it, so it goes when the Gateway goes.
pub(super) fn metadata(waypoint: &Waypoint<'_>, name: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "namespace": *waypoint.gateway.namespace,
        "labels": labels(waypoint),
    });
    if !waypoint.installation.annotations.is_empty() {
        metadata["annotations"] = json!(waypoint.installation.annotations);
    }
    if let Some(uid) = &waypoint.installation.uid {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "name": *waypoint.gateway.name,
            "uid": uid,
            "controller": true,
        }]);
    }
    metadata
}

/// Who the proxies are. Nothing is mounted from it unless a pod asks: ours asks for one token, for us.
pub(super) fn service_account(waypoint: &Waypoint<'_>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(waypoint, waypoint.service_account),
        "automountServiceAccountToken": false,
    })
}
