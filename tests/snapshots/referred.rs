//! ConfigMaps that Gateways refer to, where somebody has to look for them first.

use proto::{Kind, Object, ObjectRef};
use serde_json::{Value, json};
use translate::{
    Audience, Change, Commit, Installing, Mesh, Missing, References, Settings,
    status::{Condition, Truth},
};

fn mesh() -> Mesh {
    Mesh::new(Settings { references: References::Followed, ..Settings::default() })
}

fn set(manifest: Value) -> Change {
    Change::Set(Object::decode(manifest).unwrap().object)
}

fn gateway(name: &str, parameters: &str) -> Change {
    set(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": "default", "labels": {"istio.io/waypoint-for": "service"}},
        "spec": {
            "gatewayClassName": "istio-waypoint",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            "infrastructure": {"parametersRef": {"group": "", "kind": "ConfigMap", "name": parameters}},
        },
    }))
}

fn config_map(name: &str) -> ObjectRef {
    ObjectRef { kind: Kind::ConfigMap, namespace: "default".into(), name: name.into() }
}

fn patches(name: &str) -> Change {
    set(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
        "data": {"deployment": "spec: {replicas: 4}"},
    }))
}

/// What is done for the Gateway `a`, and what its Accepted says.
fn of(commit: &Commit) -> (&'static str, Condition) {
    let audience = Audience { namespace: "default".into(), name: "a".into() };
    let word = match commit.waypoints.get(&audience).map(|plan| &plan.as_ref().unwrap().installing) {
        Some(Installing::Ours(installation)) if installation.patches.is_empty() => "unpatched",
        Some(Installing::Ours(_)) => "patched",
        Some(Installing::Held) => "held",
        Some(Installing::Others) => "others",
        None => "as before",
    };
    let gateway = ObjectRef { kind: Kind::Gateway, ..config_map("a") };
    let status = commit.statuses[&gateway].as_ref().unwrap();
    (word, status.conditions.iter().find(|condition| condition.kind == "Accepted").unwrap().clone())
}

#[test]
fn nothing_is_made_or_said_of_a_gateway_before_its_patches_are_known() {
    let mut mesh = mesh();
    let (word, accepted) = of(&mesh.commit([gateway("a", "own")]));
    assert_eq!((word, accepted.truth, accepted.reason), ("held", Truth::Unknown, "Pending"));
    let (word, accepted) = of(&mesh.commit([patches("own")]));
    assert_eq!((word, accepted.truth), ("patched", Truth::True));
    let gone = [Change::Remove(config_map("own")), Change::Missing(config_map("own"), Some(Missing::Absent))];
    let (word, accepted) = of(&mesh.commit(gone));
    assert_eq!((word, accepted.truth, accepted.reason), ("held", Truth::False, "InvalidParameters"));
    let back = [patches("own"), Change::Missing(config_map("own"), None)];
    assert_eq!(of(&mesh.commit(back)).0, "patched");
}

#[test]
fn a_config_map_that_may_not_be_read_is_said_where_it_is_referred_to() {
    let mut mesh = mesh();
    mesh.commit([gateway("a", "own")]);
    let refused = Missing::Unreadable("our account may not".to_owned());
    let (word, accepted) = of(&mesh.commit([Change::Missing(config_map("own"), Some(refused))]));
    assert_eq!((word, accepted.truth), ("held", Truth::False));
    let says = "ConfigMap default/own cannot be read: our account may not";
    assert!(accepted.message.contains(says), "{}", accepted.message);
}

#[test]
fn a_config_map_is_wanted_for_as_long_as_any_gateway_refers_to_it() {
    let mut mesh = mesh();
    let wanted = |commit: Commit| -> Vec<(String, bool)> {
        commit.config_maps.into_iter().map(|(object, wanted)| (object.name.to_string(), wanted)).collect()
    };
    let says = |name: &str, wanted: bool| (name.to_owned(), wanted);
    assert_eq!(wanted(mesh.commit([gateway("a", "own"), gateway("b", "own")])), [says("own", true)]);
    assert_eq!(wanted(mesh.commit([gateway("a", "other")])), [says("other", true)]);
    assert_eq!(wanted(mesh.commit([patches("own")])), []);
    let gone = ObjectRef { kind: Kind::Gateway, ..config_map("b") };
    assert_eq!(wanted(mesh.commit([Change::Remove(gone)])), [says("own", false)]);
}
