//! What we drop of an object before keeping it: what nobody downstream reads costs memory, and is a
//! change of the mesh each time it changes.

use std::sync::Arc;

use proto::{
    Kind, Object,
    gateway::GatewayClass,
    kubernetes::{
        Container, ContainerPort, EndpointSlice, ObjectMeta, Pod, PodCondition, PodSpec, PodStatus,
    },
};
use serde_json::{Value, json};

/// Annotations that say how an object came to be, not what it means.
const HISTORY: [&str; 2] =
    ["kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"];

/// The part of `object` that a derivation may read. Two objects that differ only in the rest are equal
/// afterwards, so that a change of it is no change.
pub fn trim(object: Object) -> Object {
    match object {
        Object::Namespace(namespace) => {
            let mut namespace = Arc::unwrap_or_clone(namespace);
            trim_metadata(&mut namespace.metadata);
            (namespace.spec, namespace.status) = (None, None);
            Object::Namespace(Arc::new(namespace))
        }
        Object::Service(service) => {
            let mut service = Arc::unwrap_or_clone(service);
            trim_metadata(&mut service.metadata);
            service.status = None;
            Object::Service(Arc::new(service))
        }
        Object::EndpointSlice(slice) => {
            let mut slice = Arc::unwrap_or_clone(slice);
            trim_metadata(&mut slice.metadata);
            trim_targets(&mut slice);
            Object::EndpointSlice(Arc::new(slice))
        }
        Object::ConfigMap(config) => {
            let mut config = Arc::unwrap_or_clone(config);
            trim_metadata(&mut config.metadata);
            config.data.mesh_networks = Value::Null;
            Object::ConfigMap(Arc::new(config))
        }
        Object::Pod(pod) => Object::Pod(Arc::new(trim_pod(Arc::unwrap_or_clone(pod)))),
        // The statuses of the kinds below are written by us. Keeping them would make each write of
        // ours a change that we then react to.
        Object::GatewayClass(class) => Object::GatewayClass(trim_class(class)),
        Object::Gateway(gateway) => {
            let mut gateway = Arc::unwrap_or_clone(gateway);
            trim_metadata(&mut gateway.metadata);
            gateway.status = None;
            Object::Gateway(Arc::new(gateway))
        }
        Object::HTTPRoute(route) => {
            let mut route = Arc::unwrap_or_clone(route);
            trim_metadata(&mut route.metadata);
            route.status = None;
            Object::HTTPRoute(Arc::new(route))
        }
        Object::GRPCRoute(route) => {
            let mut route = Arc::unwrap_or_clone(route);
            trim_metadata(&mut route.metadata);
            route.status = None;
            Object::GRPCRoute(Arc::new(route))
        }
        Object::TCPRoute(route) => {
            let mut route = Arc::unwrap_or_clone(route);
            trim_metadata(&mut route.metadata);
            route.status = None;
            Object::TCPRoute(Arc::new(route))
        }
        Object::TLSRoute(mut route) => {
            trim_metadata(&mut Arc::make_mut(&mut route).metadata);
            Object::TLSRoute(route)
        }
        Object::ReferenceGrant(mut grant) => {
            trim_metadata(&mut Arc::make_mut(&mut grant).metadata);
            Object::ReferenceGrant(grant)
        }
        Object::ServiceEntry(entry) => {
            let mut entry = Arc::unwrap_or_clone(entry);
            trim_metadata(&mut entry.metadata);
            entry.status = allocated(&entry.status);
            Object::ServiceEntry(Arc::new(entry))
        }
        Object::WorkloadEntry(entry) => {
            let mut entry = Arc::unwrap_or_clone(entry);
            trim_metadata(&mut entry.metadata);
            entry.status = health(&entry.status);
            Object::WorkloadEntry(Arc::new(entry))
        }
        Object::AuthorizationPolicy(mut policy) => {
            trim_metadata(&mut Arc::make_mut(&mut policy).metadata);
            Object::AuthorizationPolicy(policy)
        }
        Object::RequestAuthentication(mut policy) => {
            trim_metadata(&mut Arc::make_mut(&mut policy).metadata);
            Object::RequestAuthentication(policy)
        }
    }
}

/// Whether anything of the status of the kind's objects is kept. Where nothing is, it need not even be
/// readable: what others write there must not cost anybody the object.
pub(crate) const fn keeps_status(kind: Kind) -> bool {
    match kind {
        Kind::Pod | Kind::ServiceEntry | Kind::WorkloadEntry => true,
        Kind::Namespace
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::ConfigMap
        | Kind::GatewayClass
        | Kind::Gateway
        | Kind::HTTPRoute
        | Kind::GRPCRoute
        | Kind::TCPRoute
        | Kind::TLSRoute
        | Kind::ReferenceGrant
        | Kind::AuthorizationPolicy
        | Kind::RequestAuthentication => false,
    }
}

fn trim_metadata(metadata: &mut ObjectMeta) {
    let ObjectMeta {
        annotations,
        creation_timestamp: _,
        deletion_grace_period_seconds,
        deletion_timestamp: _,
        finalizers,
        generate_name,
        generation: _,
        labels: _,
        managed_fields,
        name: _,
        namespace: _,
        owner_references,
        resource_version,
        self_link,
        uid: _,
    } = metadata;
    *deletion_grace_period_seconds = None;
    *finalizers = None;
    *generate_name = None;
    *managed_fields = None;
    *owner_references = None;
    *resource_version = None;
    *self_link = None;
    if let Some(annotations) = annotations {
        annotations.retain(|name, _| !HISTORY.contains(&name.as_str()));
    }
    *annotations = annotations.take().filter(|annotations| !annotations.is_empty());
}

/// Of the status of a ServiceEntry the addresses are others' word; the conditions are ours.
fn allocated(status: &Value) -> Value {
    status.get("addresses").map_or(Value::Null, |addresses| json!({ "addresses": addresses }))
}

/// Of the status of a WorkloadEntry its health is others' word, without its times; what else is there
/// is ours.
fn health(status: &Value) -> Value {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let health = conditions.filter(|condition| condition["type"] == "Healthy");
    let health: Vec<_> =
        health.map(|condition| json!({ "type": "Healthy", "status": condition["status"] })).collect();
    if health.is_empty() { Value::Null } else { json!({ "conditions": health }) }
}

/// A pod moves its resource version with every heartbeat of a probe; an endpoint must not move with it.
fn trim_targets(slice: &mut EndpointSlice) {
    for target in slice.endpoints.iter_mut().filter_map(|endpoint| endpoint.target_ref.as_mut()) {
        target.resource_version = None;
    }
}

fn trim_class(class: Arc<GatewayClass>) -> Arc<GatewayClass> {
    let mut class = Arc::unwrap_or_clone(class);
    trim_metadata(&mut class.metadata);
    class.status = None;
    Arc::new(class)
}

/// Of a pod we read who it is, what owns it, where it runs, on which ports it listens and whether it
/// is ready. The rest is the bulk of a cluster.
fn trim_pod(pod: Pod) -> Pod {
    let Pod { mut metadata, spec, status } = pod;
    let owners = metadata.owner_references.take();
    trim_metadata(&mut metadata);
    metadata.owner_references = owners;
    let spec = spec.map(|spec| PodSpec {
        containers: spec.containers.into_iter().map(trim_container).collect(),
        service_account_name: spec.service_account_name,
        node_name: spec.node_name,
        host_network: spec.host_network,
        ..PodSpec::default()
    });
    let status = status.map(|status| PodStatus {
        phase: status.phase,
        pod_ip: status.pod_ip,
        pod_ips: status.pod_ips,
        conditions: status.conditions.map(|conditions| conditions.into_iter().map(trim_condition).collect()),
        ..PodStatus::default()
    });
    Pod { metadata, spec, status }
}

fn trim_container(container: Container) -> Container {
    let ports = container.ports.map(|ports| ports.into_iter().map(trim_port).collect());
    Container { name: container.name, ports, ..Container::default() }
}

fn trim_port(port: ContainerPort) -> ContainerPort {
    ContainerPort {
        container_port: port.container_port,
        name: port.name,
        protocol: port.protocol,
        ..ContainerPort::default()
    }
}

fn trim_condition(condition: PodCondition) -> PodCondition {
    PodCondition { type_: condition.type_, status: condition.status, ..PodCondition::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trimmed(value: Value) -> Object {
        trim(Object::decode(value).unwrap().object)
    }

    #[test]
    fn what_a_pod_is_and_where_it_listens_is_kept_and_its_heartbeat_is_not() {
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d8f", "uid": "r", "controller": true,
        });
        let pod = |resource_version: &str, probed: &str, image: &str| {
            trimmed(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": "p", "uid": "u", "generation": 1, "labels": {"app": "web"},
                    "resourceVersion": resource_version, "creationTimestamp": "2026-01-02T03:04:05Z",
                    "managedFields": [{"manager": resource_version}],
                    "ownerReferences": [owner],
                    "annotations": {
                        "ambient.istio.io/redirection": "enabled",
                        "kubectl.kubernetes.io/last-applied-configuration": image,
                    },
                },
                "spec": {
                    "serviceAccountName": "web", "nodeName": "n",
                    "containers": [{"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}],
                },
                "status": {
                    "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
                    "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": probed}],
                },
            }))
        };
        let kept = pod("1", "2026-01-02T03:04:05Z", "a");
        assert_eq!(kept, pod("2", "2026-01-02T03:04:06Z", "b"));

        let Object::Pod(kept) = kept else { panic!("{kept:?}") };
        let expected = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "p", "namespace": "default", "uid": "u", "generation": 1, "labels": {"app": "web"},
                "creationTimestamp": "2026-01-02T03:04:05Z",
                "annotations": {"ambient.istio.io/redirection": "enabled"},
                "ownerReferences": [owner],
            },
            "spec": {
                "serviceAccountName": "web", "nodeName": "n",
                "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}],
            },
            "status": {
                "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        assert_eq!(serde_json::to_value(&*kept).unwrap(), expected);
    }

    #[test]
    fn our_own_status_is_no_change_of_the_object() {
        let gateway = |status: Value| {
            trimmed(json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "w"},
                "spec": {
                    "gatewayClassName": "istio-waypoint",
                    "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
                },
                "status": status,
            }))
        };
        let written = json!({"addresses": [{"type": "IPAddress", "value": "10.0.0.9"}]});
        assert_eq!(gateway(written), gateway(json!({})));
    }

    #[test]
    fn an_endpoint_does_not_move_with_the_resource_version_of_its_pod() {
        let slice = |version: &str| {
            trimmed(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {
                    "name": "s",
                    "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": version},
                },
                "endpoints": [{
                    "addresses": ["10.0.0.1"],
                    "targetRef": {"kind": "Pod", "name": "p", "resourceVersion": version},
                }],
            }))
        };
        assert_eq!(slice("1"), slice("2"));
    }

    #[test]
    fn a_machine_moves_with_its_health_and_not_with_each_probe() {
        let machine = |healthy: &str, probed: &str| {
            trimmed(json!({
                "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": {"name": "vm"},
                "spec": {"address": "10.0.0.1"},
                "status": {"conditions": [
                    {"type": "Healthy", "status": healthy, "lastProbeTime": probed},
                    {"type": "istio.io/WaypointBound", "status": "True", "lastTransitionTime": probed},
                ]},
            }))
        };
        assert_eq!(machine("True", "2026-01-02T03:04:05Z"), machine("True", "2026-01-02T03:04:06Z"));
        assert_ne!(machine("True", "2026-01-02T03:04:05Z"), machine("False", "2026-01-02T03:04:05Z"));
    }
}
