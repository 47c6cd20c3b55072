//! Lists of entries that are told apart by a name: conditions, listeners.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The entries of `list`, each by what its field `by` says.
pub(super) fn by<'v>(list: &'v Value, by: &str) -> BTreeMap<&'v str, &'v Value> {
    let entries = list.as_array().into_iter().flatten();
    entries.filter_map(|entry| Some((entry[by].as_str()?, entry))).collect()
}

/// A condition with the fields that we write and no others, as comparable values.
pub(super) fn comparable(condition: &Value) -> Value {
    let mut fields = Map::new();
    for field in ["type", "status", "reason", "message"] {
        fields.insert(field.to_owned(), condition[field].clone());
    }
    fields.insert("observedGeneration".to_owned(), generation(condition));
    Value::Object(fields)
}

/// Protobuf's JSON writes such a number as text.
fn generation(condition: &Value) -> Value {
    let written = &condition["observedGeneration"];
    let read = written.as_i64().or_else(|| written.as_str()?.parse().ok());
    read.map_or(Value::Null, |number| json!(number))
}

/// How a condition that is to be said differs from the live one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    None,
    /// It held for that generation and is only not confirmed at the moment.
    Unconfirmed,
    Real,
}

/// The conditions to write, with their times, and how they differ from those of ours that are live.
///
/// `now` is the time of those whose status changes. What we cannot tell yet leaves what was known.
pub(super) fn conditions(
    live: &Value,
    said: &Value,
    is_own: impl Fn(&str) -> bool,
    now: &str,
) -> (Vec<Value>, Difference) {
    let live = by(live, "type");
    let mut difference = Difference::None;
    let mut written = Vec::new();
    for condition in said.as_array().into_iter().flatten() {
        let before = condition["type"].as_str().and_then(|kind| live.get(kind).copied());
        let kept = before.filter(|_| condition["status"] == "Unknown");
        let mut condition = comparable(kept.unwrap_or(condition));
        difference = difference.max(differs(before, &condition));
        let since = before.filter(|before| before["status"] == condition["status"]);
        let since = since.and_then(|before| before["lastTransitionTime"].as_str()).unwrap_or(now);
        condition["lastTransitionTime"] = since.into();
        if condition["observedGeneration"].is_null()
            && let Some(fields) = condition.as_object_mut()
        {
            fields.remove("observedGeneration");
        }
        written.push(condition);
    }
    let said = by(said, "type");
    if live.keys().any(|kind| is_own(kind) && !said.contains_key(kind)) {
        difference = Difference::Real;
    }
    (written, difference)
}

fn differs(before: Option<&Value>, after: &Value) -> Difference {
    let Some(before) = before.map(comparable) else { return Difference::Real };
    if before == *after {
        return Difference::None;
    }
    let unconfirmed = before["status"] == "True"
        && after["status"] == "False"
        && after["reason"] == "Pending"
        && before["observedGeneration"] == after["observedGeneration"];
    if unconfirmed { Difference::Unconfirmed } else { Difference::Real }
}
