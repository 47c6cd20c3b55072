//! A tiny mesh behind one waypoint, in which sets of policies take turns.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use proto::{Object, ObjectRef, TypeUrl, envoy::RouteConfiguration};
use serde_json::{Value, json};
use tests::{
    judgement::{Chain, ServiceKind},
    token::Issuer,
};
use translate::{Bind, Change, Mesh, Settings, why::Inquiry};

use crate::filters::Port;

/// Address, port, and whether what goes there are connections.
pub(crate) const PORTS: [(&str, u16, bool); 5] = [
    ("10.0.0.1", 80, false),
    ("10.0.0.1", 9000, true),
    ("10.0.0.1", 7000, false),
    ("10.0.0.1", 80, false),
    ("10.0.0.2", 80, false),
];

pub(crate) struct Waypoint {
    mesh: Mesh,
    policies: BTreeSet<ObjectRef>,
    /// By the resource's name.
    ports: BTreeMap<String, Port>,
}

impl Waypoint {
    pub(crate) fn new(trust_domain: &str) -> Self {
        let trust_domain = trust_domain.into();
        let settings = Settings { bind: Bind::GatewayAddress, trust_domain, ..Settings::default() };
        let mut waypoint =
            Self { mesh: Mesh::new(settings), policies: BTreeSet::new(), ports: BTreeMap::new() };
        waypoint.commit(manifests().into_iter().map(set).collect());
        waypoint
    }

    /// These policies, and no others any more, in a mesh of these aliases.
    pub(crate) fn enforce(&mut self, policies: &[Value], aliases: &[String]) {
        let now = policies.iter().map(|policy| ObjectRef::of_manifest(policy).unwrap());
        let now: BTreeSet<_> = now.collect();
        let mut changes: Vec<_> = self.policies.difference(&now).cloned().map(Change::Remove).collect();
        changes.extend(policies.iter().cloned().map(set));
        changes.push(set(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "istio-system", "name": "istio"},
            "data": {"mesh": json!({
                "trustDomainAliases": aliases, "extensionProviders": providers(),
                // Random requests are judged as they are.
                "pathNormalization": {"normalization": "NONE"},
            }).to_string()},
        })));
        self.policies = now;
        self.commit(changes);
    }

    fn commit(&mut self, changes: Vec<Change>) {
        let commit = self.mesh.commit(changes);
        for resource in commit.resources.values().flat_map(|delta| &delta.set) {
            if resource.type_url == TypeUrl::Route {
                let config = RouteConfiguration::decode(resource.body.plain().as_ref()).unwrap();
                self.ports.insert(resource.name.to_string(), Port::read(&config));
            }
        }
    }

    pub(crate) fn inquiry(&self) -> Inquiry<'_> {
        self.mesh.inquiry()
    }

    pub(crate) fn port(&self, address: &str, port: u16) -> &Port {
        &self.ports[&format!("app/{}:{port}", service(address))]
    }
}

/// Those of the Service `web`.
pub(crate) fn ports_by_name() -> BTreeMap<String, u16> {
    [("http", 80), ("tcp", 9000), ("any", 7000)].map(|(name, port)| (name.to_owned(), port)).into()
}

/// What policies attach to where that address is dialled.
pub(crate) fn chain(address: &str) -> Chain<'static> {
    Chain {
        service: Some((ServiceKind::Service, "app", service(address))),
        gateway: ("app", "waypoint"),
        class: "istio-waypoint",
        root: "istio-system",
    }
}

fn service(address: &str) -> &'static str {
    if address == "10.0.0.1" { "web" } else { "cart" }
}

fn providers() -> Value {
    let at = |name: &str| json!({"service": format!("{name}.app.svc.cluster.local"), "port": 9191});
    json!([
        {"name": "opa", "envoyExtAuthzHttp": at("opa")}, {"name": "opa-n", "envoyExtAuthzGrpc": at("opa-n")},
    ])
}

fn set(manifest: Value) -> Change {
    Change::Set(Object::decode(manifest).unwrap().object)
}

fn manifests() -> Vec<Value> {
    let service = |name: &str, address: &str, ports: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "app", "name": name},
            "spec": {"clusterIP": address, "ports": ports},
        })
    };
    vec![
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "app", "labels": {"istio.io/use-waypoint": "waypoint"}},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"namespace": "app", "name": "waypoint"},
            "spec": {
                "gatewayClassName": "istio-waypoint",
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            },
        }),
        service(
            "web",
            "10.0.0.1",
            json!([
                {"name": "http", "port": 80}, {"name": "tcp", "port": 9000}, {"name": "any", "port": 7000},
            ]),
        ),
        // Of any issuer, so that somebody reads every token.
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
            "metadata": {"namespace": "app", "name": "tokens"},
            "spec": {
                "targetRefs": [
                    {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint"},
                ],
                "jwtRules": [{"jwks": Issuer::new("key").unwrap().jwks()}],
            },
        }),
        service("cart", "10.0.0.2", json!([{"name": "http", "port": 80}])),
        service("opa", "10.0.0.3", json!([{"name": "http", "port": 9191}])),
        service("opa-n", "10.0.0.4", json!([{"name": "grpc", "port": 9191}])),
    ]
}
