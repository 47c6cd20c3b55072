//! What we say about a policy that names its targets.

use std::collections::BTreeSet;

use proto::{Kind, Name};

use super::{
    Condition, Status, Truth, enforced,
    programmed::{Known, Place},
};
use crate::{
    bind::{asked_of, policies_of::PoliciesOf, waypoint_of::WaypointOf},
    derive::{Derived, Reads},
    inputs::Inputs,
    mesh::{
        mesh_config::RootNamespace,
        name::{Key, PortKey},
        service,
        waypoint::EVERY_WAYPOINT,
    },
    policy::{authorization::custom, target::Target},
    settings::Settings,
};

/// `None` for a policy without targets: that one is ztunnel's to enforce and to answer for.
pub(super) fn of(
    reads: &Reads,
    known: Known<'_>,
    waypoint_of: &Derived<WaypointOf>,
    policies_of: &Derived<PoliciesOf>,
    settings: &Settings,
    key: &Key,
) -> Option<Status> {
    let inputs = known.inputs;
    let policy = inputs.authorizations.get(reads, key)?;
    if !policy.targeted {
        return None;
    }
    let unasked = policy.judgement.asks.as_ref().and_then(|name| unasked(reads, inputs, name));
    let too_early = custom::too_early(&policy.judgement).map(|at| {
        format!("{at}: nobody knows this yet when an extension provider is asked, so it is taken as given")
    });
    let problems = policy.problems.iter().map(ToString::to_string).chain(unasked).chain(too_early);
    let condition = accepted(reads, inputs, waypoint_of, settings, &policy.targets, problems);
    let programmed = known.programmed(reads, &places(reads, inputs, waypoint_of, settings, &policy.targets));
    let in_part = enforced::of(reads, inputs, waypoint_of, policies_of, (key, policy));
    Some(Status {
        observed_generation: policy.generation,
        conditions: [condition, programmed].into_iter().chain(in_part).collect(),
        ..Status::default()
    })
}

/// Whether the policy governs something, and what is wrong with it.
pub(super) fn accepted(
    reads: &Reads,
    inputs: &Inputs,
    waypoint_of: &Derived<WaypointOf>,
    settings: &Settings,
    targets: &[Target],
    problems: impl IntoIterator<Item = String>,
) -> Condition {
    let found: Vec<_> =
        targets.iter().map(|target| target_status(reads, inputs, waypoint_of, settings, target)).collect();
    let bound = found.iter().filter(|target| target.bound).count();
    let unbound = found.iter().filter(|target| !target.bound).map(|target| target.message.clone());
    let unbound: Vec<String> = unbound.collect();
    // Istio's words for some of several, which people search for.
    let unbound = match (unbound.as_slice(), found.len()) {
        ([], _) | (_, 1) => unbound,
        (several, _) => vec![format!("Invalid targetRefs: {}", several.join(", "))],
    };
    let bad: Vec<String> = unbound.into_iter().chain(problems).collect();
    // Two services behind one waypoint are bound to it once.
    let good: BTreeSet<_> =
        found.iter().filter(|target| target.bound).map(|target| target.message.clone()).collect();
    let (truth, reason) = match (bound, found.as_slice()) {
        (0, [only]) => (Truth::False, only.reason),
        (0, _) => (Truth::False, "Invalid"),
        (_, _) if bad.is_empty() => (Truth::True, "Accepted"),
        (_, _) => (Truth::True, "PartiallyInvalid"),
    };
    let message = good.into_iter().chain(bad).collect::<Vec<_>>().join("; ");
    Condition { kind: "WaypointAccepted", truth, reason, message }
}

/// Where a policy with these targets is in force.
pub(super) fn places(
    reads: &Reads,
    inputs: &Inputs,
    waypoint_of: &Derived<WaypointOf>,
    settings: &Settings,
    targets: &[Target],
) -> BTreeSet<Place> {
    let in_force =
        targets.iter().filter(|target| target_status(reads, inputs, waypoint_of, settings, target).bound);
    let places = in_force.flat_map(|target| {
        let declared = match target {
            Target::Service(key) => service::Bucket::DeclaredBy(key.reference(Kind::Service)),
            Target::Entry(key) => service::Bucket::DeclaredBy(key.reference(Kind::ServiceEntry)),
            Target::Gateway(gateway) => return vec![Place::Waypoint(gateway.clone())],
            Target::Class(class) => return vec![Place::Class(class.name.clone())],
            Target::ClassFromAnywhere(class) => return vec![Place::Class(class.clone())],
        };
        let services = inputs.services.bucket(reads, &declared);
        let ports = services.flat_map(|(key, service)| {
            let waypoints = waypoint_of.get(reads, key).into_iter().flat_map(|row| row.serving());
            waypoints.flat_map(move |waypoint| {
                let ports = service.ports.iter().map(|port| port.number);
                ports.map(move |port| Place::Port(PortKey::new(waypoint, key, port)))
            })
        });
        ports.collect()
    });
    places.collect()
}

struct TargetStatus {
    bound: bool,
    reason: &'static str,
    message: String,
}

fn target_status(
    reads: &Reads,
    inputs: &Inputs,
    waypoint_of: &Derived<WaypointOf>,
    settings: &Settings,
    target: &Target,
) -> TargetStatus {
    let bound =
        |to: String| TargetStatus { bound: true, reason: "Accepted", message: format!("bound to {to}") };
    let unbound = |reason, message| TargetStatus { bound: false, reason, message };
    match target {
        Target::Service(service) if inputs.services.get(reads, &service.clone().into()).is_none() => {
            unbound("TargetNotFound", format!("Service {service} was not found"))
        }
        Target::Service(service) => {
            match waypoint_of.get(reads, &service.clone().into()).and_then(|binding| binding.bound()) {
                Some(waypoint) => bound(waypoint.to_string()),
                None => unbound("AncestorNotBound", format!("Service {service} is not bound to a waypoint")),
            }
        }
        Target::Entry(entry) => {
            let declared = service::Bucket::DeclaredBy(entry.reference(Kind::ServiceEntry));
            let mut hosts = inputs.services.bucket(reads, &declared).peekable();
            if hosts.peek().is_none() {
                return unbound("TargetNotFound", format!("ServiceEntry {entry} declares no host"));
            }
            match hosts.find_map(|(host, _)| waypoint_of.get(reads, host).and_then(|row| row.bound())) {
                Some(waypoint) => bound(waypoint.to_string()),
                None => {
                    unbound("AncestorNotBound", format!("ServiceEntry {entry} is not bound to a waypoint"))
                }
            }
        }
        Target::Gateway(gateway) if inputs.waypoints.get(reads, gateway).is_some() => {
            bound(gateway.to_string())
        }
        Target::Gateway(gateway) => {
            unbound("TargetNotFound", format!("Gateway {gateway} is not a waypoint of Portolan"))
        }
        // What no waypoint of ours can be of governs nothing, whoever asks.
        Target::Class(class) if !is_ours(reads, inputs, settings, &class.name) => unbound(
            "Invalid",
            format!(
                "GatewayClass {} is no class of our waypoints; use {}",
                class.name,
                settings.classes.known()
            ),
        ),
        Target::Class(class) => match inputs.root.get(reads, &()).map(|root| &**root) {
            Some(RootNamespace::Named(root)) if *root == class.namespace => bound(class.name.to_string()),
            Some(RootNamespace::Named(root)) => {
                unbound("Invalid", format!("a GatewayClass is governed from namespace {root:?} only"))
            }
            Some(RootNamespace::Unreadable) | None => unbound(
                "Invalid",
                "which namespace governs a GatewayClass cannot be read in the mesh configuration".to_owned(),
            ),
        },
        Target::ClassFromAnywhere(class) => unbound("Invalid", format!("{class} is named by no policy")),
    }
}

fn is_ours(reads: &Reads, inputs: &Inputs, settings: &Settings, class: &Name) -> bool {
    // As a target it means every waypoint, whoever has the class.
    &**class == EVERY_WAYPOINT
        || settings.classes.admit(class, inputs.classes.get(reads, class).map(|class| &**class))
}

/// Why the provider of a policy is asked nowhere.
fn unasked(reads: &Reads, inputs: &Inputs, name: &Name) -> Option<String> {
    let why = asked_of::resolve(reads, inputs, name).err()?;
    Some(format!("{why}, so what the rules match is denied"))
}
