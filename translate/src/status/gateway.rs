//! What we say about a Gateway that is a waypoint of ours.

use super::{Condition, ListenerStatus, Status, Truth};
use crate::{
    bind::applied_route::{AppliedRoute, Bucket},
    derive::{Derived, Reads},
    inputs::Inputs,
    installation::{Hindrances, InstallationOf},
    mesh::{
        name::Key,
        waypoint::{Waypoint, WaypointListener},
    },
    problem::Problem,
};

pub(super) fn of(
    reads: &Reads,
    inputs: &Inputs,
    applied: &Derived<AppliedRoute>,
    installations: &Derived<InstallationOf>,
    key: &Key,
) -> Option<Status> {
    let waypoint = inputs.waypoints.get(reads, key)?;
    let attached = applied.count(reads, &Bucket::Waypoint(key.clone()));
    let installation = installations.get(reads, key).map(|row| row.problems.as_slice()).unwrap_or_default();
    let hindered = inputs.hindrances.get(reads, key).map(|row| hindered(row));
    Some(Status {
        observed_generation: waypoint.generation,
        conditions: vec![accepted(waypoint, installation), hindered.unwrap_or_else(programmed)],
        parents: Vec::new(),
        listeners: listeners(waypoint, u32::try_from(attached).unwrap_or(u32::MAX)),
    })
}

/// `installation` is what is wrong with what was asked of the objects that run it.
fn accepted(waypoint: &Waypoint, installation: &[Problem]) -> Condition {
    if !installation.is_empty() {
        return Condition {
            kind: "Accepted",
            truth: Truth::False,
            reason: "InvalidParameters",
            message: format!("what runs is left as it is: {}", super::list(installation)),
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

/// Only proxies can say so, and none has been asked.
fn programmed() -> Condition {
    Condition {
        kind: "Programmed",
        truth: Truth::Unknown,
        reason: "Pending",
        message: "no proxy of this waypoint has acknowledged its configuration yet".to_owned(),
    }
}

fn listeners(waypoint: &Waypoint, attached_routes: u32) -> Vec<ListenerStatus> {
    let statuses = waypoint.listeners.iter().map(|listener| ListenerStatus {
        name: listener.name.clone(),
        attached_routes: if listener.problem.is_none() { attached_routes } else { 0 },
        supported_kinds: listener.kinds.clone(),
        conditions: listener_conditions(listener),
    });
    statuses.collect()
}

fn listener_conditions(listener: &WaypointListener) -> Vec<Condition> {
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
        None => programmed(),
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
