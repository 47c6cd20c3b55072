//! What is fuzzed: a policy as anybody may write it, and what Envoy is told because of it.
//!
//! The bytes are a manifest in JSON, of an AuthorizationPolicy or a RequestAuthentication. Nothing that
//! is written in one may end the process, be rejected by Envoy, or leave something behind when the
//! policy is gone. `tests/fuzz` has the target for cargo-fuzz; `tests/judgement/mutations.rs` runs the
//! same with mutations of every policy in the snapshots.

use std::{cell::RefCell, collections::BTreeMap};

use proto::{Name, Object, TypeUrl, Version, constraints, render_message};
use regex::Regex;
use serde_json::{Value, json};
use translate::{Audience, Change, Commit, Mesh, Settings};

/// A waypoint with an HTTP port, a TCP port, and one that does not say what it speaks.
const MESH: &str = r#"[
  {"apiVersion": "v1", "kind": "Namespace",
   "metadata": {"name": "app", "labels": {"istio.io/use-waypoint": "waypoint"}}},
  {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
   "metadata": {"name": "waypoint", "namespace": "app"},
   "spec": {"gatewayClassName": "istio-waypoint",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]}},
  {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "app"},
   "spec": {"clusterIP": "10.0.0.1",
            "ports": [{"name": "http", "port": 80}, {"name": "tcp", "port": 90}, {"name": "any", "port": 100}]}}
]"#;

type Sent = BTreeMap<(Audience, TypeUrl, Name), Version>;

struct Tried {
    mesh: Mesh,
    sent: Sent,
}

thread_local! {
    static TRIED: RefCell<Option<Tried>> = const { RefCell::new(None) };
}

/// Applies the policy to a small mesh and takes it away again.
///
/// Bytes that are no manifest of a policy are nothing to apply: `false`.
///
/// # Panics
/// If Envoy would reject something, or if something is left behind.
pub fn policy(bytes: &[u8]) -> bool {
    let Some(object) = read(bytes) else { return false };
    TRIED.with_borrow_mut(|tried| {
        // A panic leaves none, and the next policy starts afresh.
        let Tried { mut mesh, sent } = tried.take().unwrap_or_else(start);
        let with = mesh.commit([Change::Set(object.clone())]);
        check(&with);
        let mut now = sent.clone();
        apply(&mut now, &with);
        let without = mesh.commit([Change::Remove(object.reference())]);
        check(&without);
        apply(&mut now, &without);
        assert!(now == sent, "something is left of a policy that is gone");
        *tried = Some(Tried { mesh, sent });
    });
    true
}

/// The policy, attached to everything in the mesh whatever it says of its targets.
fn read(bytes: &[u8]) -> Option<Object> {
    let mut manifest: Value = serde_json::from_slice(bytes).ok()?;
    let kind = manifest.get("kind")?.as_str()?;
    if !["AuthorizationPolicy", "RequestAuthentication"].contains(&kind) {
        return None;
    }
    let annotations = manifest.pointer("/metadata/annotations").cloned().unwrap_or(Value::Null);
    manifest["apiVersion"] = json!("security.istio.io/v1");
    manifest["metadata"] = json!({"name": "fuzzed", "namespace": "app", "annotations": annotations});
    let target = json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "waypoint"}]);
    if let Some(Value::Object(spec)) = manifest.get_mut("spec") {
        spec.insert("targetRefs".to_owned(), target);
    }
    Some(Object::decode(manifest).ok()?.object)
}

fn start() -> Tried {
    let mut mesh = Mesh::new(Settings::default());
    let manifests: Vec<Value> = serde_json::from_str(MESH).unwrap_or_default();
    let objects = manifests.into_iter().filter_map(|manifest| Object::decode(manifest).ok());
    let commit = mesh.commit(objects.map(|decoded| Change::Set(decoded.object)));
    let mut sent = Sent::new();
    apply(&mut sent, &commit);
    assert!(sent.len() > 10, "the mesh has no waypoint: {sent:?}");
    Tried { mesh, sent }
}

fn apply(sent: &mut Sent, commit: &Commit) {
    for (audience, delta) in &commit.resources {
        for resource in &delta.set {
            let key = (audience.clone(), resource.type_url, resource.name.clone());
            sent.insert(key, resource.version);
        }
        for (type_url, name) in &delta.removed {
            sent.remove(&(audience.clone(), *type_url, name.clone()));
        }
    }
}

/// Envoy's constraints, and its expressions: those that do not compile are rejected too.
fn check(commit: &Commit) {
    for resource in commit.resources.values().flat_map(|delta| &delta.set) {
        let (type_url, name, body) = (resource.type_url.as_str(), &resource.name, resource.body.plain());
        let broken = constraints::violations(type_url, body);
        assert!(matches!(&broken, Ok(broken) if broken.is_empty()), "{type_url} {name}: {broken:?}");
        let Ok(value) = render_message(type_url, body) else { continue };
        for expression in expressions(&value) {
            let compiled = Regex::new(expression);
            assert!(compiled.is_ok(), "{type_url} {name}: {expression:?}: {compiled:?}");
        }
    }
}

fn expressions(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("regex").and_then(Value::as_str);
            own.into_iter().chain(fields.values().flat_map(expressions)).collect()
        }
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}
