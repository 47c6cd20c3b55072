//! Whether an object is what we made of it.

use rapidhash::v3::rapidhash_v3;
use serde_json::{Map, Value};

/// On every object: what we last made of it. It differs when something that we said is not said any more,
/// which cannot be seen in the object itself.
pub(super) const APPLIED: &str = "portolan.dev/applied";

/// The object with its mark.
pub(super) fn marked(object: &Value) -> Value {
    let mut marked = object.clone();
    // A map of JSON is sorted, so its text stands for it.
    let mark = format!("{:016x}", rapidhash_v3(object.to_string().as_bytes()));
    marked["metadata"]["annotations"][APPLIED] = mark.into();
    marked
}

/// What `live` has in the places in which `wanted` says something. The server adds defaults elsewhere.
pub(super) fn seen(wanted: &Value, live: Option<&Value>) -> Value {
    match (wanted, live) {
        (_, None) => Value::Null,
        (Value::Object(wanted), Some(Value::Object(live))) => {
            let fields = wanted.iter().map(|(name, value)| (name.clone(), seen(value, live.get(name))));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        (Value::Array(wanted), Some(Value::Array(live))) if wanted.len() == live.len() => {
            Value::Array(wanted.iter().zip(live).map(|(wanted, live)| seen(wanted, Some(live))).collect())
        }
        (_, Some(live)) => live.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_of_the_server_are_no_drift_and_everything_else_is() {
        let wanted = json!({"spec": {"ports": [{"port": 1}], "type": "ClusterIP", "list": ["a"]}});
        let is_as_wanted = |live: Value| seen(&wanted, Some(&live)) == wanted;
        let with = |port: Value, kind: &str, list: Value| json!({"spec": {"ports": port, "type": kind, "list": list, "more": 1}});
        assert!(is_as_wanted(with(json!([{"port": 1, "protocol": "TCP"}]), "ClusterIP", json!(["a"]))));
        assert!(!is_as_wanted(with(json!([{"port": 2}]), "ClusterIP", json!(["a"]))));
        assert!(!is_as_wanted(with(json!([{"port": 1}, {"port": 2}]), "ClusterIP", json!(["a"]))));
        assert!(!is_as_wanted(with(json!([{"port": 1}]), "NodePort", json!(["a"]))));
        assert!(!is_as_wanted(with(json!([{"port": 1}]), "ClusterIP", json!([]))));
        assert!(!is_as_wanted(json!({})));
    }

    #[test]
    fn the_mark_changes_with_what_is_said_and_with_nothing_else() {
        let mark = |object: &Value| marked(object)["metadata"]["annotations"][APPLIED].clone();
        assert_eq!(mark(&json!({"a": 1, "b": 2})), mark(&json!({"b": 2, "a": 1})));
        assert_ne!(mark(&json!({"a": 1, "b": 2})), mark(&json!({"a": 1})));
    }
}
