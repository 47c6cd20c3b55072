//! The smallest object of each kind that an API server takes.

use proto::{Kind, ObjectRef};
use serde_json::{Value, json};

/// An object of `kind` called `name`, labelled `label`. One that has no namespace is called after it too.
pub(crate) fn manifest(kind: Kind, namespace: &str, name: &str, label: &str) -> Value {
    let parent = json!([{"group": "", "kind": "Service", "name": "web", "port": 80}]);
    let rest = match kind {
        Kind::Namespace => json!({}),
        Kind::Service => json!({"spec": {"ports": [{"name": "http", "port": 80}]}}),
        Kind::EndpointSlice => json!({
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}],
            "ports": [{"name": "http", "port": 80}],
        }),
        Kind::Pod => json!({
            "spec": {"containers": [{"name": "c", "image": "none"}], "nodeName": "n"},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]},
        }),
        Kind::ConfigMap => json!({"data": {"mesh": format!("trustDomainAliases: [{label}.example]")}}),
        Kind::GatewayClass => json!({"spec": {"controllerName": "example.com/controller"}}),
        Kind::Gateway => json!({"spec": {
            "gatewayClassName": "istio-waypoint",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        }}),
        Kind::HTTPRoute | Kind::GRPCRoute | Kind::TLSRoute => json!({"spec": {"parentRefs": parent}}),
        Kind::TCPRoute => json!({"spec": {"parentRefs": parent, "rules": [{"backendRefs": []}]}}),
        Kind::ReferenceGrant => json!({"spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "a"}],
            "to": [{"group": "", "kind": "Service"}],
        }}),
        Kind::ServiceEntry => {
            json!({"spec": {"hosts": ["a.example"], "ports": [{"number": 80, "name": "http"}]}})
        }
        Kind::WorkloadEntry => json!({"spec": {"address": "10.0.0.1"}}),
        Kind::AuthorizationPolicy => json!({"spec": {"action": "DENY", "rules": [{}]}}),
        Kind::RequestAuthentication => json!({"spec": {"jwtRules": [{"issuer": "a"}]}}),
    };
    let object = reference(kind, namespace, name);
    let version = kind.versions()[0];
    let group = kind.group();
    let mut manifest = rest;
    manifest["apiVersion"] =
        if group.is_empty() { version.into() } else { format!("{group}/{version}").into() };
    manifest["kind"] = kind.name().into();
    manifest["metadata"] = json!({"name": &*object.name, "labels": {"test": label}});
    if kind.namespaced() {
        manifest["metadata"]["namespace"] = namespace.into();
    }
    manifest
}

/// Who that object is.
pub(crate) fn reference(kind: Kind, namespace: &str, name: &str) -> ObjectRef {
    if kind.namespaced() {
        ObjectRef { kind, namespace: namespace.into(), name: name.into() }
    } else {
        ObjectRef { kind, namespace: "".into(), name: format!("{namespace}-{name}").into() }
    }
}
