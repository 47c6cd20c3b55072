//! Statuses as Kubernetes shows them.

use proto::ObjectRef;
use serde::Serialize;
use serde_json::Value;
use translate::status::{Address, Condition, ListenerStatus, ParentStatus, Status};

/// What is said about one object.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectStatus {
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed_generation: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<ConditionView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parents: Vec<Parent>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    listeners: Vec<Listener>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<AddressView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    supported_features: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct AddressView {
    #[serde(rename = "type")]
    kind: &'static str,
    value: String,
}

#[derive(Debug, Serialize)]
struct ConditionView {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Parent {
    parent_ref: Value,
    conditions: Vec<ConditionView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listener {
    name: String,
    attached_routes: u32,
    supported_kinds: Vec<SupportedKind>,
    conditions: Vec<ConditionView>,
}

#[derive(Debug, Serialize)]
struct SupportedKind {
    group: &'static str,
    kind: &'static str,
}

/// The status of `object`, to be printed.
pub(super) fn view(object: &ObjectRef, status: &Status) -> ObjectStatus {
    let Status { observed_generation, conditions, parents, listeners, addresses, features } = status;
    let address = |Address { kind, value }: &Address| AddressView { kind, value: value.clone() };
    let ObjectRef { kind, namespace, name } = object;
    ObjectStatus {
        kind: kind.name(),
        namespace: namespace.to_string(),
        name: name.to_string(),
        observed_generation: *observed_generation,
        conditions: views(conditions),
        parents: parents.iter().map(parent).collect(),
        listeners: listeners.iter().map(listener).collect(),
        addresses: addresses.iter().map(address).collect(),
        supported_features: features.clone(),
    }
}

fn parent(parent: &ParentStatus) -> Parent {
    let ParentStatus { parent_ref, conditions } = parent;
    // It is JSON text; were it not, the text is still what a reader needs.
    let parent_ref =
        serde_json::from_str(parent_ref).unwrap_or_else(|_| Value::String(parent_ref.to_string()));
    Parent { parent_ref, conditions: views(conditions) }
}

fn listener(listener: &ListenerStatus) -> Listener {
    let ListenerStatus { name, attached_routes, supported_kinds, conditions } = listener;
    let kinds = supported_kinds.iter().map(|kind| SupportedKind { group: kind.group(), kind: kind.name() });
    Listener {
        name: name.to_string(),
        attached_routes: *attached_routes,
        supported_kinds: kinds.collect(),
        conditions: views(conditions),
    }
}

fn views(conditions: &[Condition]) -> Vec<ConditionView> {
    let view = |condition: &Condition| {
        let Condition { kind, truth, reason, message } = condition;
        ConditionView { kind, status: truth.as_str(), reason, message: message.clone() }
    };
    conditions.iter().map(view).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use translate::status::Truth;

    use super::*;

    fn accepted() -> Vec<Condition> {
        vec![Condition {
            kind: "Accepted",
            truth: Truth::True,
            reason: "Accepted",
            message: "all is well".to_owned(),
        }]
    }

    #[test]
    fn a_route_shows_its_parents_as_it_wrote_them() {
        let route =
            ObjectRef { kind: proto::Kind::HTTPRoute, namespace: "bookinfo".into(), name: "reviews".into() };
        let status = Status {
            observed_generation: Some(3),
            parents: vec![ParentStatus {
                parent_ref: r#"{"kind":"Service","name":"reviews","port":9080}"#.into(),
                conditions: accepted(),
            }],
            ..Status::default()
        };
        let expected = json!({
            "kind": "HTTPRoute", "namespace": "bookinfo", "name": "reviews", "observedGeneration": 3,
            "parents": [{
                "parentRef": {"kind": "Service", "name": "reviews", "port": 9080},
                "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "all is well"}],
            }],
        });
        assert_eq!(serde_json::to_value(view(&route, &status)).unwrap(), expected);
    }

    #[test]
    fn a_gateway_shows_its_listeners() {
        let gateway =
            ObjectRef { kind: proto::Kind::Gateway, namespace: "default".into(), name: "waypoint".into() };
        let mesh = ListenerStatus {
            name: "mesh".into(),
            attached_routes: 2,
            supported_kinds: vec![proto::Kind::HTTPRoute],
            conditions: Vec::new(),
        };
        let status = Status { conditions: accepted(), listeners: vec![mesh], ..Status::default() };
        let shown = serde_json::to_value(view(&gateway, &status)).unwrap();
        assert_eq!(
            shown["listeners"],
            json!([{
                "name": "mesh",
                "attachedRoutes": 2,
                "supportedKinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}],
                "conditions": [],
            }])
        );
        assert_eq!(shown["conditions"][0]["type"], "Accepted");
    }
}
