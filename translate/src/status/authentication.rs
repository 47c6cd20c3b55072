//! What we say about a RequestAuthentication that names its targets.

use proto::Kind;

use super::{
    Status,
    policy::{accepted, places},
    programmed::Known,
};
use crate::{
    bind::waypoint_of::WaypointOf,
    derive::{Derived, Reads},
    inputs::Inputs,
    mesh::{name::Key, protocol::Protocol, service},
    policy::{
        authentication::{Authentication, Keys},
        target::Target,
    },
    problem::{FieldPath, Problem, Reason},
    settings::Settings,
};

/// `None` for a policy without targets: no waypoint enforces that one.
pub(super) fn of(
    reads: &Reads,
    known: Known<'_>,
    waypoint_of: &Derived<WaypointOf>,
    settings: &Settings,
    key: &Key,
) -> Option<Status> {
    let inputs = known.inputs;
    let policy = inputs.authentications.get(reads, key)?;
    if !policy.targeted {
        return None;
    }
    let mut problems = policy.problems.clone();
    problems.extend(without_keys(reads, inputs, policy));
    problems.extend(policy.targets.iter().filter_map(|target| on_tcp(reads, inputs, target)));
    let problems = problems.iter().map(ToString::to_string);
    let accepted = accepted(reads, inputs, waypoint_of, settings, &policy.targets, problems);
    let programmed = known.programmed(reads, &places(reads, inputs, waypoint_of, settings, &policy.targets));
    Some(Status {
        observed_generation: policy.generation,
        conditions: vec![accepted, programmed],
        ..Status::default()
    })
}

/// The rules whose keys are not there, or not as new as they should be.
fn without_keys(reads: &Reads, inputs: &Inputs, policy: &Authentication) -> Vec<Problem> {
    let rules = policy.rules.iter().enumerate().filter_map(|(index, rule)| {
        let Keys::Fetched { source, .. } = &rule.keys else { return None };
        let fetched = inputs.keys.get(reads, source).map(|fetched| (**fetched).clone()).unwrap_or_default();
        let message = match (fetched.keys, fetched.failure) {
            (Some(_), None) => return None,
            (Some(_), Some(why)) => format!("{why}; the keys that were fetched before stay"),
            (None, Some(why)) => format!("{why}; every token is rejected until there are keys"),
            (None, None) => format!("every token is rejected until the keys at {source} are fetched"),
        };
        let at = FieldPath::new("spec").field("jwtRules").index(index);
        Some(Problem { at, reason: Reason::Invalid, message })
    });
    rules.collect()
}

/// The ports of a target that carry no requests, so no tokens.
fn on_tcp(reads: &Reads, inputs: &Inputs, target: &Target) -> Option<Problem> {
    let (name, services) = match target {
        Target::Service(service) => (
            format!("Service {service}"),
            inputs.services.get(reads, &service.clone().into()).into_iter().collect(),
        ),
        Target::Entry(entry) => {
            let declared = service::Bucket::DeclaredBy(entry.reference(Kind::ServiceEntry));
            let hosts = inputs.services.bucket(reads, &declared);
            (format!("ServiceEntry {entry}"), hosts.map(|(_, service)| service).collect::<Vec<_>>())
        }
        // Of all the services there, those with such ports are no mistake of this policy.
        Target::Gateway(_) | Target::Class(_) | Target::ClassFromAnywhere(_) => return None,
    };
    let ports = services.into_iter().flat_map(|service| &service.ports);
    let mut tcp: Vec<_> =
        ports.filter(|port| port.protocol == Protocol::Tcp).map(|port| port.number.to_string()).collect();
    tcp.dedup();
    (!tcp.is_empty()).then(|| Problem {
        at: FieldPath::new("spec").field("targetRefs"),
        reason: Reason::UnsupportedValue,
        message: format!(
            "{name}: no tokens are checked on TCP ports, which carry no requests: {}",
            tcp.join(", ")
        ),
    })
}
