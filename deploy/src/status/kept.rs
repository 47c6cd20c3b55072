//! What is kept of an object's live status: as much as it takes to decide whether to write, as text.

use proto::Kind;
use serde_json::{Value, json};
use translate::Classes;
use watch::Live;

use super::own;

/// A live status. A tree of JSON is several times as large as its text, and there are many.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) uid: Box<str>,
    pub(super) version: Box<str>,
    /// The version of the API that the server has it in.
    pub(super) api: Box<str>,
    /// Whether something of ours is there.
    pub(super) applied: bool,
    /// Empty for none.
    text: Box<str>,
}

impl Kept {
    pub(super) fn of(kind: Kind, classes: Classes, live: Live) -> Self {
        let Live { uid, version, api, applied, status } = live;
        let status = part(kind, classes, status);
        let text = if status.is_null() { Box::default() } else { status.to_string().into() };
        Self { uid, version, api, applied, text }
    }

    /// The part of the status that was kept.
    pub(super) fn status(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// Whether the same is said there.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        (&self.uid, self.applied, &self.text) == (&other.uid, other.applied, &other.text)
    }
}

/// Null if there is nothing.
fn part(kind: Kind, classes: Classes, mut status: Value) -> Value {
    let mut take = |field: &str| match status.get_mut(field).map(Value::take) {
        Some(Value::Array(list)) if !list.is_empty() => list,
        Some(_) | None => Vec::new(),
    };
    let lists = match kind {
        Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute => {
            vec![("parents", take("parents"))]
        }
        Kind::Gateway => {
            let lists = ["listeners", "addresses"].map(|field| (field, take(field)));
            lists.into_iter().chain([("conditions", owned(take("conditions"), kind, classes))]).collect()
        }
        Kind::GatewayClass => vec![
            ("supportedFeatures", take("supportedFeatures")),
            ("conditions", owned(take("conditions"), kind, classes)),
        ],
        Kind::Service => vec![("conditions", owned(take("conditions"), kind, classes))],
        // One value: those of others are written with ours.
        Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::AuthorizationPolicy
        | Kind::RequestAuthentication => vec![("conditions", take("conditions"))],
        Kind::Namespace | Kind::EndpointSlice | Kind::Pod | Kind::ConfigMap | Kind::ReferenceGrant => {
            Vec::new()
        }
    };
    let mut kept = Value::Null;
    for (field, list) in lists {
        if !list.is_empty() {
            kept[field] = json!(list);
        }
    }
    kept
}

fn owned(conditions: Vec<Value>, kind: Kind, classes: Classes) -> Vec<Value> {
    let own = own(kind, classes).unwrap_or_default();
    let is_own = |condition: &Value| condition["type"].as_str().is_some_and(|kind| own.contains(&kind));
    conditions.into_iter().filter(is_own).collect()
}
