//! What we say about a route, for each of its parents that are ours to answer for.

use proto::ObjectRef;

use super::{Condition, ParentStatus, Status, Truth};
use crate::{
    bind::{
        applied_route::AppliedRoute,
        resolved_parent::{Attached, AttachedService, ResolvedParent},
        resolved_route::ResolvedRoute,
        waypoint_of::{Refused, WaypointOf},
    },
    derive::{Derived, Reads},
};

/// `None` for a route without such parents.
pub(super) fn of(
    reads: &Reads,
    resolved: &Derived<ResolvedRoute>,
    applied: &Derived<AppliedRoute>,
    waypoint_of: &Derived<WaypointOf>,
    key: &ObjectRef,
) -> Option<Status> {
    let route = resolved.get(reads, key)?;
    let applied = applied.get(reads, key)?;
    if route.parents.is_empty() {
        return None;
    }
    let parents = route.parents.iter().map(|parent| ParentStatus {
        parent_ref: parent.json.clone(),
        conditions: conditions(reads, route, applied, parent, waypoint_of),
    });
    Some(Status { observed_generation: route.generation, parents: parents.collect(), ..Status::default() })
}

fn conditions(
    reads: &Reads,
    route: &ResolvedRoute,
    applied: &AppliedRoute,
    parent: &ResolvedParent,
    waypoint_of: &Derived<WaypointOf>,
) -> Vec<Condition> {
    let mut conditions = vec![match &parent.attached {
        Ok(attached) => accepted(applied, attached),
        Err(problem) => Condition {
            kind: "Accepted",
            truth: Truth::False,
            reason: problem.reason.as_str(),
            message: problem.to_string(),
        },
    }];
    if !route.problems.is_empty() {
        conditions.push(Condition {
            kind: "PartiallyInvalid",
            truth: Truth::True,
            reason: "UnsupportedValue",
            message: super::list(&route.problems),
        });
    }
    conditions.push(match route.unresolved.first() {
        None => Condition {
            kind: "ResolvedRefs",
            truth: Truth::True,
            reason: "ResolvedRefs",
            message: "all references resolved".to_owned(),
        },
        Some(first) => Condition {
            kind: "ResolvedRefs",
            truth: Truth::False,
            reason: first.reason.as_str(),
            message: super::list(&route.unresolved),
        },
    });
    let in_force = conditions.first().is_some_and(|accepted| accepted.truth == Truth::True);
    let attached = parent.attached.as_ref().ok().filter(|_| in_force);
    conditions.extend(attached.map(|attached| resolved_waypoints(reads, attached, waypoint_of)));
    conditions
}

fn accepted(applied: &AppliedRoute, attached: &Attached) -> Condition {
    let (asked, rivals): (usize, Vec<String>) = match attached {
        Attached::Service(AttachedService { service, ports, waypoints: _ }) => {
            let rivals = ports.iter().filter_map(|port| {
                let rival = applied.ports.get(&(service.clone(), *port))?.as_ref()?;
                Some(format!("port {port} of Service {service} has {rival} instead"))
            });
            (ports.len(), rivals.collect())
        }
        Attached::Gateway(gateway) => {
            let rival = applied.gateways.get(gateway).and_then(Option::as_ref);
            (1, rival.map(|rival| format!("Gateway {gateway} has {rival} instead")).into_iter().collect())
        }
    };
    let nowhere = rivals.len() == asked;
    Condition {
        kind: "Accepted",
        truth: if nowhere { Truth::False } else { Truth::True },
        reason: if nowhere { "Conflicted" } else { "Accepted" },
        message: if rivals.is_empty() { "route was valid".to_owned() } else { rivals.join("; ") },
    }
}

/// Without a waypoint nothing applies the route, however valid it is.
fn resolved_waypoints(reads: &Reads, attached: &Attached, waypoint_of: &Derived<WaypointOf>) -> Condition {
    let attached = match attached {
        Attached::Service(attached) => attached,
        Attached::Gateway(waypoint) => {
            return Condition {
                kind: "ResolvedWaypoints",
                truth: Truth::True,
                reason: "ResolvedWaypoints",
                message: format!("applied by waypoint {waypoint}, to services without routes of their own"),
            };
        }
    };
    let (truth, message) = match waypoint_of.get(reads, &attached.service).map(|binding| &**binding) {
        Some(WaypointOf::Bound { waypoint, canary: _ }) => {
            (Truth::True, format!("applied by waypoint {waypoint}"))
        }
        Some(WaypointOf::Refused(Refused { waypoint, why })) => (
            Truth::False,
            format!("Service {} is not bound to waypoint {waypoint}: {}", attached.service, why.message()),
        ),
        None => (
            Truth::False,
            format!(
                "Service {} has no waypoint, so nothing applies the route; label it or its namespace istio.io/use-waypoint",
                attached.service
            ),
        ),
    };
    Condition {
        kind: "ResolvedWaypoints",
        truth,
        reason: match truth {
            Truth::True => "ResolvedWaypoints",
            Truth::False | Truth::Unknown => "WaypointMissing",
        },
        message,
    }
}
