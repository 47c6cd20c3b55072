//! The ports at which a policy does not hold as it is written: of a tunnel nothing can be asked that only
//! the requests in it would tell.

use proto::Kind;

use super::{Condition, Truth};
use crate::{
    derive::Reads,
    inputs::Inputs,
    mesh::{protocol::Protocol, service},
    policy::{
        authorization::{Action, Authorization, Rule},
        target::Target,
    },
    problem::FieldPath,
};

/// `None` where the policy holds whole. What is behind a Gateway or a class as a whole is not listed here:
/// one service more must not be a new status of every policy of the mesh.
pub(super) fn of(reads: &Reads, inputs: &Inputs, policy: &Authorization) -> Option<Condition> {
    let rules = || policy.judgement.rules.iter();
    let list =
        |fields: Vec<&FieldPath>| fields.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let asked = list(rules().flat_map(Rule::inside_only).collect());
    let unknown = list(rules().flat_map(Rule::unknown_at_first).collect());
    if unknown.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    let tcp = ports(reads, inputs, policy, Protocol::Tcp);
    if !asked.is_empty() && !tcp.is_empty() {
        let effect = match policy.judgement.action {
            Action::Allow => "what asks it allows nothing there",
            Action::Deny => "it is taken as given there, and more is denied",
            Action::Audit => "it is taken as given there, and more is reported",
        };
        parts.push(format!("{}: {asked} cannot be asked of a connection, so {effect}", tcp.join(", ")));
    }
    let undeclared = ports(reads, inputs, policy, Protocol::Sniffed);
    if policy.judgement.decides() && !undeclared.is_empty() {
        parts.push(format!(
            "{}: nobody knows {unknown} before it shows what a connection carries, so nothing but HTTP gets through; declare what the port speaks",
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

fn ports(reads: &Reads, inputs: &Inputs, policy: &Authorization, protocol: Protocol) -> Vec<String> {
    let buckets = policy.targets.iter().filter_map(|target| match target {
        Target::Service(key) => Some(service::Bucket::DeclaredBy(key.reference(Kind::Service))),
        Target::Entry(key) => Some(service::Bucket::DeclaredBy(key.reference(Kind::ServiceEntry))),
        Target::Gateway(_) | Target::Class(_) | Target::ClassFromAnywhere(_) => None,
    });
    let services = buckets.flat_map(|bucket| inputs.services.bucket(reads, &bucket).collect::<Vec<_>>());
    let listed = services.flat_map(|(_, service)| {
        let ports = service.ports.iter().filter(|port| port.protocol == protocol);
        ports.map(|port| format!("port {} of {}", port.number, service.host)).collect::<Vec<_>>()
    });
    listed.collect()
}
