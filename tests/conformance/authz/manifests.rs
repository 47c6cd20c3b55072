//! The objects that the sets of one mesh are judged by.

use std::{collections::BTreeSet, sync::LazyLock};

use anyhow::Result;
use serde_json::{Value, json};
use tests::{lab::Setup, token::Issuer};

use super::cases::{Mesh, Set};

/// Whose tokens every rule of every set takes.
pub(super) static ISSUER: LazyLock<Issuer> = LazyLock::new(|| Issuer::new("key").expect("a key can be made"));

/// The port of the pod that answers, by what the set speaks.
const HTTP: u16 = 8080;
const TCP: u16 = 9000;

/// The ports of every Service.
const PORTS: [u16; 3] = [80, 8080, 9090];

/// A waypoint, one more at the IPv6 address if there is one, a pod that answers, and the Services of each set
/// with its policies.
pub(super) fn setup(mesh: &Mesh, sets: &[Set], ipv6: bool) -> Result<Setup> {
    let mut objects = vec![namespace(), gateway("waypoint", "127.10.0.2"), pod()];
    objects.extend(configuration(mesh));
    objects.extend(ipv6.then(|| gateway("waypoint-v6", "::1")));
    for set in sets {
        let addresses: BTreeSet<_> = set.dialled().map(|address| address.ip()).collect();
        let mut targets = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            let name = format!("set-{}-{index}", set.number);
            let waypoint = if address.is_ipv6() { "waypoint-v6" } else { "waypoint" };
            objects.extend(service(&name, &address.to_string(), waypoint, set.tcp));
            targets.push(json!({"group": "", "kind": "Service", "name": name}));
        }
        if !set.tokens.is_empty() {
            let rules = set.tokens.iter().cloned().map(|mut rule| {
                rule["jwks"] = json!(ISSUER.jwks());
                rule
            });
            objects.push(json!({
                "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
                "metadata": {"name": format!("set-{}", set.number), "namespace": "foo"},
                "spec": {"targetRefs": targets, "jwtRules": rules.collect::<Vec<_>>()},
            }));
        }
        for (index, policy) in set.policies.iter().enumerate() {
            let mut metadata = policy.metadata.clone();
            if !metadata.is_object() {
                metadata = json!({});
            }
            metadata["name"] = json!(format!("set-{}-{index}", set.number));
            metadata["namespace"] = json!("foo");
            let mut spec = policy.spec.clone();
            spec["targetRefs"] = json!(targets);
            objects.push(json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                                "metadata": metadata, "spec": spec}));
        }
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    Ok(Setup::default().file("cases.json", &serde_json::to_string_pretty(&list)?))
}

/// The mesh configuration as Istio has it, unless nothing is configured.
fn configuration(mesh: &Mesh) -> Option<Value> {
    let Mesh { trust_domains, normalization } = mesh;
    let mut config = json!({});
    if let [first, aliases @ ..] = trust_domains.as_slice() {
        config["trustDomain"] = json!(first);
        config["trustDomainAliases"] = json!(aliases);
    }
    if !normalization.is_empty() {
        config["pathNormalization"] = json!({"normalization": normalization});
    }
    (*mesh != Mesh::default()).then(|| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": config.to_string()},
        })
    })
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"}})
}

fn gateway(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": "foo"},
        "spec": {
            "gatewayClassName": "istio-waypoint",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            "addresses": [{"type": "IPAddress", "value": address}],
        },
    })
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "echo", "namespace": "foo"},
        "spec": {"serviceAccountName": "echo", "containers": [{"name": "echo", "ports": [
            {"name": "http", "containerPort": HTTP}, {"name": "tcp", "containerPort": TCP}]}]},
        "status": {"phase": "Running", "podIP": "127.10.0.11"},
    })
}

fn service(name: &str, address: &str, waypoint: &str, tcp: bool) -> [Value; 2] {
    let (protocol, target) = if tcp { ("tcp", TCP) } else { ("http", HTTP) };
    let named = |port: u16| if port == 80 { protocol.to_owned() } else { format!("{protocol}-{port}") };
    let ports = PORTS.map(|port| json!({"name": named(port), "port": port, "targetPort": target}));
    let slices = PORTS.map(|port| json!({"name": named(port), "port": target}));
    [
        json!({"apiVersion": "v1", "kind": "Service",
               "metadata": {"name": name, "namespace": "foo", "labels": {"istio.io/use-waypoint": waypoint}},
               "spec": {"clusterIP": address, "ports": ports}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
               "metadata": {"name": format!("{name}-1"), "namespace": "foo",
                            "labels": {"kubernetes.io/service-name": name}},
               "addressType": "IPv4", "ports": slices,
               "endpoints": [{"addresses": ["127.10.0.11"], "conditions": {"ready": true},
                              "targetRef": {"kind": "Pod", "name": "echo", "namespace": "foo"}}]}),
    ]
}
