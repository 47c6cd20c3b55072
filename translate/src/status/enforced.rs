//! The ports at which a policy does not hold as it is written: of a tunnel nothing can be asked that only
//! the requests in it would tell.

use std::sync::Arc;

use proto::Kind;

use super::{Condition, Truth};
use crate::{
    bind::{asked_of::Asked, policies_of::PoliciesOf, waypoint_of::WaypointOf},
    derive::{Derived, Reads},
    inputs::Inputs,
    mesh::{
        name::{Key, ServiceKey},
        protocol::Protocol,
        service,
    },
    policy::{
        authorization::{Action, Authorization, Layer, Rule, custom},
        target::Target,
    },
    problem::FieldPath,
};

/// `None` where the policy holds whole. What is behind a Gateway or a class as a whole is not listed here:
/// one service more must not be a new status of every policy of the mesh.
pub(super) fn of(
    reads: &Reads,
    inputs: &Inputs,
    waypoint_of: &Derived<WaypointOf>,
    policies_of: &Derived<PoliciesOf>,
    (key, policy): (&Key, &Authorization),
) -> Option<Condition> {
    let rules = || policy.judgement.rules.iter();
    let list =
        |fields: Vec<&FieldPath>| fields.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let unknown = list(rules().flat_map(Rule::unknown_at_first).collect());
    let asks = policy.judgement.asks.is_some();
    if unknown.is_empty() && !asks {
        return None;
    }
    let services = services(reads, inputs, policy);
    let mut parts = Vec::new();
    let (mut heard, mut silent) = (false, None);
    for (service, _) in services.iter().filter(|_| asks) {
        let waypoint = waypoint_of.get(reads, service).and_then(|row| row.bound().cloned());
        let policies = waypoint.and_then(|waypoint| policies_of.get(reads, &(waypoint, service.clone())));
        let ours = |asked: &&Asked| asked.policies.iter().any(|(of, _)| of == key);
        heard |= policies.is_some_and(|policies| policies.asked.iter().any(|asked| ours(&asked)));
        silent = silent.or_else(|| policies.and_then(|policies| policies.silent(Layer::Tcp).find(ours)));
    }
    // Nobody is asked anew when the name is known.
    let names = rules().filter(|_| heard && silent.is_none()).flat_map(Rule::names);
    let asked = list(rules().flat_map(Rule::inside_only).chain(names).collect());
    let tcp = ports(&services, Protocol::Tcp);
    if let Some(silent) = silent.filter(|_| !tcp.is_empty()) {
        let why = custom::unheard(silent);
        parts.push(format!("{}: {why}, so what the rules match is denied there", tcp.join(", ")));
    }
    if !asked.is_empty() && !tcp.is_empty() {
        let effect = match policy.judgement.action {
            Action::Allow => "what asks it allows nothing there",
            Action::Deny if heard && silent.is_none() => {
                "it is taken as given there, and the provider is asked about more"
            }
            Action::Deny => "it is taken as given there, and more is denied",
            Action::Audit => "it is taken as given there, and more is reported",
        };
        parts.push(format!("{}: {asked} cannot be asked of a connection, so {effect}", tcp.join(", ")));
    }
    let undeclared = ports(&services, Protocol::Sniffed);
    let late = match &policy.judgement.asks {
        Some(provider) if heard => Some(format!("nobody asks extension provider {provider:?}")),
        Some(_) | None => (!unknown.is_empty()).then(|| format!("nobody knows {unknown}")),
    };
    if let Some(what) = late.filter(|_| policy.judgement.decides() && !undeclared.is_empty()) {
        parts.push(format!(
            "{}: {what} before it shows what a connection carries, so nothing but HTTP gets through; declare what the port speaks",
            undeclared.join(", ")
        ));
    }
    (!parts.is_empty()).then(|| Condition {
        kind: "FullyEnforced",
        truth: Truth::False,
        reason: "UnsupportedValue",
        message: parts.join("; "),
    })
}

fn services(
    reads: &Reads,
    inputs: &Inputs,
    policy: &Authorization,
) -> Vec<(ServiceKey, Arc<service::Service>)> {
    let buckets = policy.targets.iter().filter_map(|target| match target {
        Target::Service(key) => Some(service::Bucket::DeclaredBy(key.reference(Kind::Service))),
        Target::Entry(key) => Some(service::Bucket::DeclaredBy(key.reference(Kind::ServiceEntry))),
        Target::Gateway(_) | Target::Class(_) | Target::ClassFromAnywhere(_) => None,
    });
    let found = buckets.flat_map(|bucket| inputs.services.bucket(reads, &bucket).collect::<Vec<_>>());
    found.map(|(key, service)| (key.clone(), Arc::clone(service))).collect()
}

fn ports<'s>(
    services: impl IntoIterator<Item = &'s (ServiceKey, Arc<service::Service>)>,
    protocol: Protocol,
) -> Vec<String> {
    let listed = services.into_iter().flat_map(|(_, service)| {
        let ports = service.ports.iter().filter(|port| port.protocol == protocol);
        ports.map(|port| format!("port {} of {}", port.number, service.host)).collect::<Vec<_>>()
    });
    listed.collect()
}
