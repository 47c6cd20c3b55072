//! The live status and ours: what is to be written, or nothing.

use proto::Kind;
use serde_json::{Value, json};
use translate::CONTROLLER;

use super::{
    Applied,
    entries::{self, Difference, by},
};

/// What is to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The `status` of the apply; `None` for an apply without any, which takes away all that was ours.
    pub status: Option<Value>,
    /// When it is worth a write.
    pub urgency: Urgency,
    /// Whether it would take away what others have written since the live status was read: then
    /// `metadata.resourceVersion` of the apply is that of the live object, so that it fails.
    pub exclusive: bool,
}

/// When a write is worth it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// It says something new.
    Now,
    /// It takes back what is true again in a moment, mostly: proxies have been sent a new version of what
    /// the object is in.
    IfItLasts,
}

impl Applied {
    /// What to apply where the object's status is `live`; `None` if it says all of that already.
    ///
    /// `now`, as in `2026-01-31T00:00:00Z`, becomes the `lastTransitionTime` of the conditions whose
    /// `status` changes; the others keep theirs. Entries of others are never changed. Where nothing is said,
    /// whoever asks knows that something of ours is there: Gateways and classes do not show whose it is.
    pub fn write(&self, live: &Value, now: &str) -> Option<Write> {
        let said = &self.status;
        match self.object.kind {
            Kind::HTTPRoute | Kind::GRPCRoute | Kind::TCPRoute | Kind::TLSRoute => self.route(live, now),
            Kind::Gateway | Kind::GatewayClass | Kind::Service if !self.says => self.withdraw(live),
            Kind::Gateway => {
                let (conditions, mut difference) = self.conditions(live, now);
                let (listeners, in_listeners) = listeners(live, said, now);
                difference = difference.max(in_listeners);
                let mut status = json!({"conditions": conditions, "listeners": listeners});
                // Once there, an address stays: ztunnel would send past the waypoint without it.
                let silent = said["addresses"].as_array().is_none_or(Vec::is_empty);
                let addresses = if silent { &live["addresses"] } else { &said["addresses"] };
                if !addresses.is_null() {
                    status["addresses"] = addresses.clone();
                }
                if !silent && live["addresses"] != *addresses {
                    difference = Difference::Real;
                }
                write(status, difference)
            }
            Kind::GatewayClass => {
                let (conditions, mut difference) = self.conditions(live, now);
                let names = |status: &Value| -> Vec<String> {
                    by(&status["supportedFeatures"], "name").into_keys().map(str::to_owned).collect()
                };
                if names(live) != names(said) {
                    difference = Difference::Real;
                }
                let features = &said["supportedFeatures"];
                write(json!({"conditions": conditions, "supportedFeatures": features}), difference)
            }
            Kind::ServiceEntry
            | Kind::WorkloadEntry
            | Kind::AuthorizationPolicy
            | Kind::RequestAuthentication => {
                let (ours, difference) = self.conditions(live, now);
                let others = live["conditions"].as_array().into_iter().flatten();
                let is_own = |kind: &str| self.own.contains(&kind);
                let others = others.filter(|one| !one["type"].as_str().is_some_and(is_own)).cloned();
                let conditions: Vec<_> = others.chain(ours).collect();
                let written = write(json!({"conditions": conditions}), difference)?;
                Some(Write { exclusive: true, ..written })
            }
            Kind::Service
            | Kind::Namespace
            | Kind::EndpointSlice
            | Kind::Pod
            | Kind::ConfigMap
            | Kind::ReferenceGrant => {
                let (conditions, difference) = self.conditions(live, now);
                write(json!({"conditions": conditions}), difference)
            }
        }
    }

    fn withdraw(&self, live: &Value) -> Option<Write> {
        let own = by(&live["conditions"], "type").into_keys().any(|kind| self.own.contains(&kind));
        let more = ["listeners", "addresses", "supportedFeatures"];
        let more = more.iter().any(|field| live[field].as_array().is_some_and(|list| !list.is_empty()));
        (own || more).then_some(Write { status: None, urgency: Urgency::Now, exclusive: true })
    }

    fn conditions(&self, live: &Value, now: &str) -> (Vec<Value>, Difference) {
        let is_own = |kind: &str| self.own.contains(&kind);
        entries::conditions(&live["conditions"], &self.status["conditions"], is_own, now)
    }

    fn route(&self, live: &Value, now: &str) -> Option<Write> {
        let live = live["parents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let (mine, mut parents): (Vec<_>, Vec<_>) =
            live.iter().cloned().partition(|parent| parent["controllerName"] == CONTROLLER);
        let said = self.status["parents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let gone = |parent: &Value| !said.iter().any(|said| said["parentRef"] == parent["parentRef"]);
        let mut difference = if mine.iter().any(gone) { Difference::Real } else { Difference::None };
        for parent in said {
            let before = mine.iter().find(|mine| mine["parentRef"] == parent["parentRef"]);
            let conditions = before.map_or(&Value::Null, |before| &before["conditions"]);
            // Within an entry of ours everything is ours.
            let (conditions, differs) = entries::conditions(conditions, &parent["conditions"], |_| true, now);
            difference = difference.max(if before.is_none() { Difference::Real } else { differs });
            let mut parent = parent.clone();
            parent["conditions"] = conditions.into();
            parents.push(parent);
        }
        let written = write(json!({"parents": parents}), difference)?;
        Some(Write { exclusive: true, ..written })
    }
}

fn listeners(live: &Value, said: &Value, now: &str) -> (Vec<Value>, Difference) {
    let before = by(&live["listeners"], "name");
    let mut difference = Difference::None;
    let mut written = Vec::new();
    for listener in said["listeners"].as_array().into_iter().flatten() {
        let before = listener["name"].as_str().and_then(|name| before.get(name).copied());
        let conditions = before.map_or(&Value::Null, |before| &before["conditions"]);
        let (conditions, differs) = entries::conditions(conditions, &listener["conditions"], |_| true, now);
        difference = difference.max(differs);
        let same = |field: &str| before.is_some_and(|before| before[field] == listener[field]);
        if !same("attachedRoutes") || !same("supportedKinds") {
            difference = Difference::Real;
        }
        let mut listener = listener.clone();
        listener["conditions"] = conditions.into();
        written.push(listener);
    }
    let said = by(&said["listeners"], "name");
    if before.keys().any(|name| !said.contains_key(name)) {
        difference = Difference::Real;
    }
    (written, difference)
}

fn write(status: Value, difference: Difference) -> Option<Write> {
    let urgency = match difference {
        Difference::None => return None,
        Difference::Unconfirmed => Urgency::IfItLasts,
        Difference::Real => Urgency::Now,
    };
    Some(Write { status: Some(status), urgency, exclusive: false })
}
