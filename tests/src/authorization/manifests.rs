//! The objects that the sets of one mesh are judged by.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Mesh, Set};

/// Where everything is: policies, Services, the pod that answers.
pub const NAMESPACE: &str = "foo";

/// The port of the pod that answers, by what the set speaks.
const HTTP: u16 = 8080;
const TCP: u16 = 9000;

/// The ports of every Service.
const PORTS: [u16; 3] = [80, 8080, 9090];

/// A waypoint, one more at the IPv6 address if there is one, a pod that answers, and the Services of each set
/// with its policies. Tokens are taken that a key of `jwks` signed, and callers of other trust domains that
/// the root `foreign` vouches for.
pub fn manifests(mesh: &Mesh, sets: &[Set], jwks: &str, foreign: &str, ipv6: bool) -> Vec<Value> {
    let mut objects = vec![namespace(), gateway("waypoint", "127.10.0.2"), pod()];
    objects.extend(configuration(mesh, sets, foreign));
    objects.extend(ipv6.then(|| gateway("waypoint-v6", "::1")));
    for set in sets {
        for (index, address) in set.dialled().iter().enumerate() {
            let waypoint = if address.is_ipv6() { "waypoint-v6" } else { "waypoint" };
            objects.extend(service(&set.service(index), &address.to_string(), waypoint, set.tcp));
        }
        objects.extend(set.authentication(jwks));
        objects.extend(set.authorization());
    }
    objects
}

impl Set {
    /// The ports of its Services, by name.
    pub fn ports(&self) -> impl Iterator<Item = (String, u16)> {
        PORTS.iter().map(|port| (port_name(*port, self.tcp), *port))
    }

    /// Its AuthorizationPolicies.
    pub fn authorization(&self) -> Vec<Value> {
        let manifest = |(index, policy): (usize, &super::Policy)| {
            let mut metadata = policy.metadata.clone();
            if !metadata.is_object() {
                metadata = json!({});
            }
            metadata["name"] = json!(format!("set-{}-{index}", self.number));
            metadata["namespace"] = json!(NAMESPACE);
            let mut spec = policy.spec.clone();
            spec["targetRefs"] = self.targets();
            json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                   "metadata": metadata, "spec": spec})
        };
        self.policies.iter().enumerate().map(manifest).collect()
    }

    /// Its RequestAuthentication, if it has rules for tokens.
    fn authentication(&self, jwks: &str) -> Option<Value> {
        let with_keys = |rule: &Value| {
            let mut rule = rule.clone();
            rule["jwks"] = json!(jwks);
            rule
        };
        let rules: Vec<Value> = self.tokens.iter().map(with_keys).collect();
        (!rules.is_empty()).then(|| {
            json!({
                "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
                "metadata": {"name": format!("set-{}", self.number), "namespace": NAMESPACE},
                "spec": {"targetRefs": self.targets(), "jwtRules": rules},
            })
        })
    }

    fn targets(&self) -> Value {
        let services = 0..self.dialled().len();
        services.map(|index| json!({"group": "", "kind": "Service", "name": self.service(index)})).collect()
    }

    fn service(&self, index: usize) -> String {
        format!("set-{}-{index}", self.number)
    }
}

fn port_name(port: u16, tcp: bool) -> String {
    let protocol = if tcp { "tcp" } else { "http" };
    if port == 80 { protocol.to_owned() } else { format!("{protocol}-{port}") }
}

/// The mesh configuration as Istio has it, unless nothing is configured.
fn configuration(mesh: &Mesh, sets: &[Set], foreign: &str) -> Option<Value> {
    let Mesh { trust_domains, normalization } = mesh;
    let mut config = json!({});
    if let [first, aliases @ ..] = trust_domains.as_slice() {
        config["trustDomain"] = json!(first);
        config["trustDomainAliases"] = json!(aliases);
    }
    if !normalization.is_empty() {
        config["pathNormalization"] = json!({"normalization": normalization});
    }
    let domains = sets.iter().flat_map(|set| set.cases.iter().filter_map(|case| set.foreign(case)));
    let domains: BTreeSet<&str> = domains.collect();
    if !domains.is_empty() {
        config["caCertificates"] = json!([{"pem": foreign, "trustDomains": domains}]);
    }
    (config != json!({})).then(|| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": config.to_string()},
        })
    })
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

fn gateway(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "gatewayClassName": "istio-waypoint",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            "addresses": [{"type": "IPAddress", "value": address}],
        },
    })
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "echo", "namespace": NAMESPACE},
        "spec": {"serviceAccountName": "echo", "containers": [{"name": "echo", "ports": [
            {"name": "http", "containerPort": HTTP}, {"name": "tcp", "containerPort": TCP}]}]},
        "status": {"phase": "Running", "podIP": "127.10.0.11"},
    })
}

fn service(name: &str, address: &str, waypoint: &str, tcp: bool) -> [Value; 2] {
    let target = if tcp { TCP } else { HTTP };
    let named = |port| port_name(port, tcp);
    let ports = PORTS.map(|port| json!({"name": named(port), "port": port, "targetPort": target}));
    let slices = PORTS.map(|port| json!({"name": named(port), "port": target}));
    [
        json!({"apiVersion": "v1", "kind": "Service",
               "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"istio.io/use-waypoint": waypoint}},
               "spec": {"clusterIP": address, "ports": ports}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
               "metadata": {"name": format!("{name}-1"), "namespace": NAMESPACE,
                            "labels": {"kubernetes.io/service-name": name}},
               "addressType": "IPv4", "ports": slices,
               "endpoints": [{"addresses": ["127.10.0.11"], "conditions": {"ready": true},
                              "targetRef": {"kind": "Pod", "name": "echo", "namespace": NAMESPACE}}]}),
    ]
}
