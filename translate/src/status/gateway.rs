//! What we say about a Gateway that is a waypoint of ours.

use std::{collections::BTreeSet, net::IpAddr};

use proto::TypeUrl;

use super::{
    Address, Condition, ListenerStatus, Status, Truth,
    outstanding::{Piece, Rejection},
    programmed::{Known, NOT_LOOKED, condition},
};
use crate::{
    bind::applied_route::{AppliedRoute, Bucket},
    derive::{Derived, Reads},
    envoy::infrastructure::NAMES,
    installation::{Hindrances, InstallationOf},
    mesh::{
        name::{Key, ServiceKey},
        waypoint::{Waypoint, WaypointListener},
    },
    problem::Problem,
    seen::{self, Proxies},
    settings::Settings,
};

pub(super) fn of(
    reads: &Reads,
    known: Known<'_>,
    applied: &Derived<AppliedRoute>,
    installations: &Derived<InstallationOf>,
    settings: &Settings,
    key: &Key,
) -> Option<Status> {
    let waypoint = known.inputs.waypoints.get(reads, key)?;
    if waypoint.asks.is_of_another(&settings.own_revision()) {
        return None;
    }
    let proxies = known.inputs.proxies.get(reads, key).map(|proxies| **proxies);
    let addresses = if proxies.is_some_and(|proxies| proxies.ready > 0) {
        addresses(reads, known, settings, waypoint, key)
    } else {
        Vec::new()
    };
    let programmed = programmed(reads, known, proxies, key);
    let attached = applied.count(reads, &Bucket::Waypoint(key.clone()));
    let installation = installations.get(reads, key).map(|row| &**row);
    let hindered = known.inputs.hindrances.get(reads, key).map(|row| hindered(row));
    // Whatever proxies there are, they do not run as this generation asks.
    let of_gateway = hindered.unwrap_or_else(|| of_gateway(waypoint, programmed.clone(), &addresses));
    Some(Status {
        observed_generation: waypoint.generation,
        listeners: listeners(waypoint, u32::try_from(attached).unwrap_or(u32::MAX), &programmed),
        conditions: vec![accepted(waypoint, installation), of_gateway],
        addresses,
        ..Status::default()
    })
}

/// Where ztunnel finds it: where the Gateway says itself, for then somebody runs it there, else by the Service
/// of its objects, by its name before its addresses as Istio has it.
fn addresses(
    reads: &Reads,
    known: Known<'_>,
    settings: &Settings,
    waypoint: &Waypoint,
    key: &Key,
) -> Vec<Address> {
    let of_ip = |ip: &IpAddr| Address { kind: "IPAddress", value: ip.to_string() };
    if let Some(ip) = &waypoint.address {
        return vec![of_ip(ip)];
    }
    let service = ServiceKey::kubernetes(&key.namespace, &waypoint.asks.name);
    let Some(row) = known.inputs.services.get(reads, &service) else { return Vec::new() };
    let name = Address { kind: "Hostname", value: service.host(&settings.cluster_domain) };
    [name].into_iter().chain(row.vips.iter().map(of_ip)).collect()
}

/// `installation` tells what is wrong with what was asked of the objects that run it.
fn accepted(waypoint: &Waypoint, installation: Option<&InstallationOf>) -> Condition {
    let wrong = installation.map(|row| row.problems.as_slice()).unwrap_or_default();
    if !wrong.is_empty() {
        return Condition {
            kind: "Accepted",
            truth: Truth::False,
            reason: "InvalidParameters",
            message: format!("what runs is left as it is: {}", super::list(wrong)),
        };
    }
    if let Some(Key { namespace, name }) =
        installation.filter(|row| row.awaits).and_then(|row| row.refers.as_ref())
    {
        return Condition {
            kind: "Accepted",
            truth: Truth::Unknown,
            reason: "Pending",
            message: format!("what runs is left as it is until the ConfigMap {namespace}/{name} is read"),
        };
    }
    let listeners = waypoint.listeners.iter().filter_map(|listener| listener.problem.as_ref());
    let problems: Vec<&Problem> = waypoint.problems.iter().chain(listeners).collect();
    Condition {
        kind: "Accepted",
        truth: Truth::True,
        reason: if problems.is_empty() { "Accepted" } else { "ListenersNotValid" },
        message: if problems.is_empty() {
            "this Gateway is a waypoint".to_owned()
        } else {
            super::list(problems)
        },
    }
}

/// What is to run it cannot be made.
fn hindered(hindrances: &Hindrances) -> Condition {
    let Hindrances(hindrances) = hindrances;
    Condition {
        kind: "Programmed",
        truth: Truth::False,
        reason: "NoResources",
        message: hindrances.iter().map(String::as_str).collect::<Vec<_>>().join("; "),
    }
}

/// What can be said of a listener that works.
fn programmed(reads: &Reads, known: Known<'_>, proxies: Option<Proxies>, key: &Key) -> Condition {
    let pending = |message| condition(Truth::False, "Pending", message);
    let Some(Proxies { ready, starting }) = proxies else {
        return condition(Truth::Unknown, "Pending", NOT_LOOKED.to_owned());
    };
    // Most is said of the objects that it was made from; here is where somebody looks first.
    let all = known.inputs.taken.bucket(reads, &seen::Bucket::Rejected(key.clone()));
    let mut rejected = BTreeSet::new();
    let mut own = false;
    for ((waypoint, type_url, name), taken) in all {
        own |= is_own(*type_url, name);
        let (name, words) = (name.clone(), taken.words.clone());
        rejected.insert(Rejection { type_url: *type_url, name, count: taken.rejected, words }.at(waypoint));
    }
    let rejected = rejected.into_iter().collect::<Vec<_>>().join("; ");
    if own {
        return condition(Truth::False, "Invalid", rejected);
    }
    let said = |have: u32| {
        let have = format!("{have} of {ready} waypoint proxies have it");
        let starting = if starting == 0 { String::new() } else { format!(", {starting} more starting") };
        let rejected = if rejected.is_empty() { String::new() } else { format!("; {rejected}") };
        format!("{have}{starting}{rejected}")
    };
    if ready == 0 {
        return pending(if starting == 0 {
            format!(
                "no proxy of this waypoint is connected; look at the pods with the label gateway.networking.k8s.io/gateway-name: {}",
                key.name
            )
        } else {
            format!("0 of {starting} waypoint proxies have it")
        });
    }
    match known.outstanding.get(reads, &Piece::Listeners(key.clone())) {
        None => condition(Truth::True, "Programmed", said(ready)),
        Some(row) => pending(said(row.waiting.map_or(0, |waiting| ready.saturating_sub(waiting)))),
    }
}

/// Whether a resource is the waypoint's own, and not made from what is behind it.
fn is_own(type_url: TypeUrl, name: &str) -> bool {
    match type_url {
        TypeUrl::Secret | TypeUrl::Extension | TypeUrl::Listener => true,
        TypeUrl::Cluster => NAMES.contains(&(TypeUrl::Cluster, name)),
        TypeUrl::Endpoint | TypeUrl::ScopedRoute | TypeUrl::Route => false,
    }
}

/// The Gateway as a whole is programmed when one of its listeners works, and it can be found.
fn of_gateway(waypoint: &Waypoint, programmed: Condition, addresses: &[Address]) -> Condition {
    if waypoint.listeners.iter().all(|listener| listener.problem.is_some()) {
        let problems = waypoint.listeners.iter().filter_map(|listener| listener.problem.as_ref());
        return condition(Truth::False, "Invalid", super::list(problems));
    }
    if programmed.truth == Truth::True && addresses.is_empty() {
        let message = format!(
            "there is no Service {} by which its proxies are found; {}",
            waypoint.asks.name, programmed.message
        );
        return condition(Truth::False, "AddressNotAssigned", message);
    }
    programmed
}

fn listeners(waypoint: &Waypoint, attached_routes: u32, programmed: &Condition) -> Vec<ListenerStatus> {
    let statuses = waypoint.listeners.iter().map(|listener| ListenerStatus {
        name: listener.name.clone(),
        attached_routes: if listener.problem.is_none() { attached_routes } else { 0 },
        supported_kinds: listener.kinds.clone(),
        conditions: listener_conditions(listener, programmed),
    });
    statuses.collect()
}

fn listener_conditions(listener: &WaypointListener, programmed: &Condition) -> Vec<Condition> {
    let fine = || "no problems found".to_owned();
    let WaypointListener { name: _, problem, conflicted, kinds: _, unknown_kinds } = listener;
    let condition = |kind, truth, reason, message| Condition { kind, truth, reason, message };
    let accepted = match problem {
        None => condition("Accepted", Truth::True, "Accepted", fine()),
        Some(problem) => {
            let reason = if *conflicted { "PortUnavailable" } else { "UnsupportedProtocol" };
            condition("Accepted", Truth::False, reason, problem.to_string())
        }
    };
    let programmed = match problem {
        None => programmed.clone(),
        Some(problem) => condition("Programmed", Truth::False, "Invalid", problem.to_string()),
    };
    let resolved = if unknown_kinds.is_empty() {
        condition("ResolvedRefs", Truth::True, "ResolvedRefs", fine())
    } else {
        condition("ResolvedRefs", Truth::False, "InvalidRouteKinds", super::list(unknown_kinds))
    };
    let conflict = match problem {
        Some(problem) if *conflicted => {
            condition("Conflicted", Truth::True, "ProtocolConflict", problem.to_string())
        }
        Some(_) | None => condition("Conflicted", Truth::False, "NoConflicts", fine()),
    };
    vec![accepted, programmed, resolved, conflict]
}
