//! Generated meshes, and the edits that are measured in them.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use proto::Object;
use serde::Serialize;
use serde_json::{Value, json};
use translate::Change;

/// How large a mesh is. Every waypoint has a namespace of its own, with the same number of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// How many services, each with two pods, a route and a policy.
    pub services: u32,
    /// How many waypoints they are behind.
    pub waypoints: u32,
}

/// Something that a user or the cluster does to one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Edit {
    /// An AuthorizationPolicy allows another method.
    Policy,
    /// An HTTPRoute changes its weights.
    Route,
    /// An endpoint is no longer ready.
    Endpoint,
    /// Objects are written again without another meaning: a resync, a controller's status.
    Nothing,
}

impl Edit {
    /// Every edit.
    pub const ALL: [Self; 4] = [Self::Policy, Self::Route, Self::Endpoint, Self::Nothing];

    /// What a table calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Route => "route",
            Self::Endpoint => "endpoint",
            Self::Nothing => "no-op write",
        }
    }
}

impl Shape {
    /// Everything that there is, in the order of the services.
    pub fn objects(self) -> Result<Vec<Change>> {
        let waypoints = (0..self.waypoints).flat_map(waypoint);
        let services = (0..self.services).flat_map(|service| self.service(service));
        decode(waypoints.chain(services))
    }

    /// An edit of one service, and the edit that takes it back.
    pub fn edit(self, edit: Edit, service: u32) -> Result<[Vec<Change>; 2]> {
        let there_and_back = match edit {
            Edit::Policy => [true, false].map(|edited| vec![self.policy(service, edited)]),
            Edit::Route => [true, false].map(|edited| vec![self.route(service, edited)]),
            Edit::Endpoint => [true, false].map(|edited| vec![self.slice(service, edited)]),
            Edit::Nothing => {
                ["2", "1"].map(|version| self.service(service).map(|it| rewritten(it, version)).collect())
            }
        };
        let [there, back] = there_and_back.map(decode);
        Ok([there?, back?])
    }

    fn namespace(self, service: u32) -> String {
        namespace(service / (self.services / self.waypoints))
    }

    /// The next service of the same namespace, so that clusters are shared as real routes share them.
    fn neighbour(self, service: u32) -> u32 {
        let each = self.services / self.waypoints;
        service / each * each + (service + 1) % each
    }

    fn service(self, service: u32) -> impl Iterator<Item = Value> {
        let namespace = self.namespace(service);
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name(service), "namespace": namespace},
            "spec": {
                "clusterIP": Ipv4Addr::from_bits(0x0a60_0000 + service).to_string(),
                "ports": [{"name": "http", "port": 8080, "targetPort": 8080}],
            },
        });
        let pods = [0, 1].map(|pod| pod_of(service, pod, &namespace));
        let [first, second] = pods;
        [
            object,
            first,
            second,
            self.slice(service, false),
            self.route(service, false),
            self.policy(service, false),
        ]
        .into_iter()
    }

    fn policy(self, service: u32, edited: bool) -> Value {
        let methods: &[&str] = if edited { &["GET", "POST"] } else { &["GET"] };
        let caller =
            format!("cluster.local/ns/{}/sa/{}", self.namespace(service), name(self.neighbour(service)));
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": name(service), "namespace": self.namespace(service), "generation": generation(edited)},
            "spec": {
                "targetRefs": [{"kind": "Service", "group": "", "name": name(service)}],
                "action": "ALLOW",
                "rules": [{
                    "from": [{"source": {"principals": [caller]}}],
                    "to": [{"operation": {"methods": methods}}],
                }],
            },
        })
    }

    fn route(self, service: u32, edited: bool) -> Value {
        let (own, other) = if edited { (80, 20) } else { (90, 10) };
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": name(service), "namespace": self.namespace(service), "generation": generation(edited)},
            "spec": {
                "parentRefs": [{"kind": "Service", "group": "", "name": name(service), "port": 8080}],
                "rules": [{"backendRefs": [
                    {"name": name(service), "port": 8080, "weight": own},
                    {"name": name(self.neighbour(service)), "port": 8080, "weight": other},
                ]}],
            },
        })
    }

    fn slice(self, service: u32, edited: bool) -> Value {
        let endpoints = [0, 1].map(|pod| {
            json!({
                "addresses": [pod_address(service, pod)],
                "conditions": {"ready": pod == 0 || !edited},
                "targetRef": {"kind": "Pod", "namespace": self.namespace(service), "name": pod_name(service, pod)},
            })
        });
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": name(service), "namespace": self.namespace(service), "generation": generation(edited),
                "labels": {"kubernetes.io/service-name": name(service)},
            },
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        })
    }
}

/// Names have one length in every mesh, so that bytes can be compared.
fn name(service: u32) -> String {
    format!("service-{service:05}")
}

fn namespace(waypoint: u32) -> String {
    format!("namespace-{waypoint:03}")
}

fn pod_name(service: u32, pod: u32) -> String {
    format!("{}-{pod}", name(service))
}

fn pod_address(service: u32, pod: u32) -> String {
    Ipv4Addr::from_bits(0x0a80_0000 + 2 * service + pod).to_string()
}

fn generation(edited: bool) -> i64 {
    if edited { 2 } else { 1 }
}

fn waypoint(waypoint: u32) -> [Value; 2] {
    let namespace = namespace(waypoint);
    [
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace, "labels": {
                "istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "waypoint",
            }},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "waypoint", "namespace": namespace, "labels": {"istio.io/waypoint-for": "service"}},
            "spec": {
                "gatewayClassName": "istio-waypoint",
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            },
        }),
    ]
}

/// The first of the two pods is captured, the second is not: a mesh on its way to ambient.
fn pod_of(service: u32, pod: u32, namespace: &str) -> Value {
    let mode = if pod == 0 { "ambient" } else { "none" };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod_name(service, pod), "namespace": namespace, "labels": {
            "app": name(service), "version": "v1", "istio.io/dataplane-mode": mode,
        }},
        "spec": {"serviceAccountName": name(service), "containers": [{"name": "main", "image": "registry.example/main:1"}]},
        "status": {"phase": "Running", "podIP": pod_address(service, pod)},
    })
}

/// The object as another writer leaves it that changes nothing we read.
fn rewritten(mut object: Value, version: &str) -> Value {
    object["metadata"]["resourceVersion"] = version.into();
    object["metadata"]["managedFields"] =
        json!([{"manager": "kubelet", "operation": "Update", "apiVersion": "v1"}]);
    if object["kind"] == "Pod" {
        object["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "reason": version}]);
    }
    if object["kind"] == "HTTPRoute" {
        let parent = &object["spec"]["parentRefs"][0];
        object["status"] = json!({"parents": [
            {"parentRef": parent, "controllerName": "example/other", "conditions": []},
        ]});
    }
    object
}

fn decode(values: impl IntoIterator<Item = Value>) -> Result<Vec<Change>> {
    let decoded = values.into_iter().map(|value| {
        let decoded = Object::decode(value).context("a generated object cannot be read")?;
        Ok(Change::Set(decoded.object))
    });
    decoded.collect()
}
