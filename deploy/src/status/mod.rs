//! The status of an object as Kubernetes has it: what of it is ours, and what is to be written of that.
//!
//! Pure: a status goes in, the object's live one beside it, and out comes the `status` of a server-side
//! apply with our field manager, or nothing. [`Applied::write`] is the rule.
//!
//! Lists of conditions, of listeners and of supported features are maps in Kubernetes' and Gateway API's
//! kinds, so an apply holds our entries only. A route's `parents` and the conditions of Istio's kinds are one
//! value (`listType=atomic`, which is what a list without a type is): an apply holds the entries of others as
//! well, as they were read, and has to carry the `resourceVersion` that they were read at.
//!
//! [`run`] does it: what to write is decided by `ledger`, when by `pace`, and `server` writes.

mod classes;
mod entries;
mod kept;
mod ledger;
mod lines;
mod pace;
mod page;
mod permissions;
mod server;
mod write;
mod writer;

pub use permissions::permissions;
pub use write::{Urgency, Write};
pub use writer::{Inbox, Options, Timing, field_manager, run};

use proto::{Kind, ObjectRef};
use serde_json::{Value, json};
use translate::{
    CONTROLLER, Classes,
    status::{Address, Condition, ListenerStatus, ParentStatus, Status},
};

use self::server::resource;

/// All that we say of an object, as it would be applied. Conditions have no `lastTransitionTime`.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Of whom.
    pub object: ObjectRef,
    /// As in `gateway.networking.k8s.io/v1`.
    pub api_version: String,
    /// The `status`, with nothing in it that is not ours.
    pub status: Value,
    /// The types of conditions that are ours on such an object, said or not.
    own: &'static [&'static str],
    /// Whether anything is said at all.
    says: bool,
}

/// The most that the API takes for a condition's message (`maxLength` of `metav1.Condition`).
const LONGEST: usize = 32_768;

const ROUTE: &[&str] = &[];
const GATEWAY: &[&str] = &["Accepted", "Programmed"];
const CLASS: &[&str] = &["Accepted"];
const BOUND: &[&str] = &["istio.io/WaypointBound", PROGRAMMED];
const POLICY: &[&str] = &["WaypointAccepted", "Programmed", "FullyEnforced"];
/// Where istiod says for itself what it makes of waypoints, ours among them.
const BOUND_BESIDE: &[&str] = &[PROGRAMMED];
const POLICY_BESIDE: &[&str] = &["portolan.dev/Accepted", "Programmed", "FullyEnforced"];
const PROGRAMMED: &str = "portolan.dev/Programmed";

impl Applied {
    /// What `status` is on the object; `None` for nothing to say makes it say nothing, so that what was
    /// said before goes. `None` for a kind that has no status of that form.
    pub fn new(object: &ObjectRef, status: Option<&Status>, classes: Classes) -> Option<Self> {
        let own = own(object.kind, classes)?;
        let version = object.kind.versions().first().copied().unwrap_or_default();
        let api_version = resource(object.kind, version).api_version;
        let nothing = Status::default();
        let says = status.is_some();
        let status = body(object.kind, status.unwrap_or(&nothing), own);
        Some(Self { object: object.clone(), api_version, status, own, says })
    }
}

/// Which conditions are ours; `None` for a kind of which nothing is said in its status.
fn own(kind: Kind, classes: Classes) -> Option<&'static [&'static str]> {
    let beside = classes == Classes::Beside;
    Some(match kind {
        Kind::Gateway => GATEWAY,
        Kind::GatewayClass => CLASS,
        Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute => ROUTE,
        Kind::Service | Kind::ServiceEntry | Kind::WorkloadEntry if beside => BOUND_BESIDE,
        Kind::Service | Kind::ServiceEntry | Kind::WorkloadEntry => BOUND,
        Kind::AuthorizationPolicy | Kind::RequestAuthentication if beside => POLICY_BESIDE,
        Kind::AuthorizationPolicy | Kind::RequestAuthentication => POLICY,
        Kind::Namespace | Kind::EndpointSlice | Kind::Pod | Kind::ConfigMap | Kind::ReferenceGrant => {
            return None;
        }
    })
}

fn body(kind: Kind, status: &Status, own: &[&str]) -> Value {
    let Status { observed_generation, conditions, parents, listeners, addresses, features } = status;
    let generation = *observed_generation;
    let said = |conditions: &[Condition]| -> Vec<Value> {
        conditions.iter().map(|one| condition(one, one.kind, generation)).collect()
    };
    match kind {
        Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute => {
            let parents = parents.iter().map(|ParentStatus { parent_ref, conditions }| {
                let parent_ref: Value = serde_json::from_str(parent_ref).unwrap_or_default();
                json!({"parentRef": parent_ref, "controllerName": CONTROLLER, "conditions": said(conditions)})
            });
            json!({"parents": parents.collect::<Vec<_>>()})
        }
        Kind::Gateway => {
            let listeners = listeners.iter().map(|listener| {
                let ListenerStatus { name, attached_routes, supported_kinds, conditions } = listener;
                let kinds = supported_kinds.iter();
                let kinds = kinds.map(|kind| json!({"group": kind.group(), "kind": kind.name()}));
                json!({
                    "name": &**name,
                    "attachedRoutes": attached_routes,
                    "supportedKinds": kinds.collect::<Vec<_>>(),
                    "conditions": said(conditions),
                })
            });
            let addresses = addresses.iter();
            let addresses = addresses.map(|Address { kind, value }| json!({"type": kind, "value": value}));
            json!({
                "conditions": said(conditions),
                "listeners": listeners.collect::<Vec<_>>(),
                "addresses": addresses.collect::<Vec<_>>(),
            })
        }
        Kind::GatewayClass => {
            let features = features.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
            json!({"conditions": said(conditions), "supportedFeatures": features})
        }
        Kind::Service
        | Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::AuthorizationPolicy
        | Kind::RequestAuthentication
        | Kind::Namespace
        | Kind::EndpointSlice
        | Kind::Pod
        | Kind::ConfigMap
        | Kind::ReferenceGrant => {
            let named = conditions.iter().filter_map(|one| Some((one, name(one.kind, own)?)));
            let named = named.map(|(one, kind)| condition(one, kind, generation));
            json!({"conditions": named.collect::<Vec<_>>()})
        }
    }
}

/// What a condition is called; where somebody else says the one of its name, by a name of ours or not at all.
fn name(kind: &'static str, own: &[&str]) -> Option<&'static str> {
    let other = (kind == "WaypointAccepted").then_some("portolan.dev/Accepted");
    [Some(kind), other].into_iter().flatten().find(|name| own.contains(name))
}

fn condition(condition: &Condition, kind: &str, generation: Option<i64>) -> Value {
    let Condition { kind: _, truth, reason, message } = condition;
    let mut value =
        json!({"type": kind, "status": truth.as_str(), "reason": reason, "message": cut(message)});
    if let Some(generation) = generation {
        value["observedGeneration"] = generation.into();
    }
    value
}

fn cut(message: &str) -> String {
    // Characters, as the API counts them.
    if message.chars().count() <= LONGEST {
        return message.to_owned();
    }
    message.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
