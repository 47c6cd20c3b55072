//! What we say about a route, for each of its parents that are ours to answer for.

use std::collections::BTreeSet;

use proto::ObjectRef;

use super::{
    Condition, ParentStatus, Status, Truth,
    programmed::{Known, Place},
};
use crate::{
    bind::{
        applied_route::{AppliedRoute, Force},
        resolved_parent::{Attached, AttachedService, ResolvedParent},
        resolved_route::ResolvedRoute,
        waypoint_of::{Refused, WaypointOf},
    },
    derive::{Derived, Reads},
    mesh::name::{Origin, PortKey, ServiceKey},
};

/// `None` for a route without such parents.
pub(super) fn of(
    reads: &Reads,
    known: Known<'_>,
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
        conditions: conditions(reads, known, (key, route), applied, parent, waypoint_of),
    });
    Some(Status { observed_generation: route.generation, parents: parents.collect(), ..Status::default() })
}

fn conditions(
    reads: &Reads,
    known: Known<'_>,
    (key, route): (&ObjectRef, &ResolvedRoute),
    applied: &AppliedRoute,
    parent: &ResolvedParent,
    waypoint_of: &Derived<WaypointOf>,
) -> Vec<Condition> {
    let mut conditions = vec![match (&parent.attached, &route.refused) {
        (Ok(attached), None) => accepted(applied, attached),
        (Err(problem), _) | (Ok(_), Some(problem)) => Condition {
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
    let places = attached.map(|attached| places(applied, attached)).unwrap_or_default();
    conditions.push(programmed(reads, known, key, &places));
    conditions
}

/// Whether proxies have the route, and the clusters that exist for it alone.
fn programmed(reads: &Reads, known: Known<'_>, key: &ObjectRef, places: &BTreeSet<Place>) -> Condition {
    let mut condition = known.programmed(reads, places);
    let ObjectRef { kind, namespace, name } = key;
    let rejected = known.rejected_of(reads, format!("{}|{namespace}/{name}", kind.name()));
    if !rejected.is_empty() {
        let good = condition.truth == Truth::True || condition.truth == Truth::Unknown;
        let before = if good { String::new() } else { format!("; {}", condition.message) };
        let rejected = rejected.into_iter().collect::<Vec<_>>().join("; ");
        condition.truth = Truth::False;
        condition.reason = "RejectedByProxy";
        condition.message = format!("{rejected}{before}");
    }
    condition
}

/// Where the route is in force because of that parent.
fn places(applied: &AppliedRoute, attached: &Attached) -> BTreeSet<Place> {
    let services = match attached {
        Attached::Gateway(gateway) => return BTreeSet::from([Place::Waypoint(gateway.clone())]),
        Attached::Services(services) => services,
    };
    let ports = services.iter().flat_map(|AttachedService { service, ports, waypoints }| {
        let ports = ports.iter().filter(|port| applied.applies_to(service, **port));
        ports.flat_map(move |port| {
            waypoints.iter().map(move |waypoint| Place::Port(PortKey::new(waypoint, service, *port)))
        })
    });
    ports.collect()
}

fn accepted(applied: &AppliedRoute, attached: &Attached) -> Condition {
    let places: Vec<(String, &Force)> = match attached {
        Attached::Services(services) => {
            let ports = services.iter().flat_map(|AttachedService { service, ports, waypoints: _ }| {
                ports.iter().map(move |port| (service.clone(), *port))
            });
            ports
                .filter_map(|on_port| {
                    let force = applied.ports.get(&on_port)?;
                    Some((format!("port {} of {}", on_port.1, named(&on_port.0)), force))
                })
                .collect()
        }
        Attached::Gateway(gateway) => {
            let force = applied.gateways.get(gateway);
            force.map(|force| (format!("Gateway {gateway}"), force)).into_iter().collect()
        }
    };
    let (mut nowhere, mut rivals) = (true, Vec::new());
    for (place, force) in places {
        match force {
            Force::All => nowhere = false,
            Force::Without(lost) => {
                nowhere = false;
                rivals.extend(
                    lost.iter().map(|(name, rival)| format!("{place} has {rival} for {name} instead")),
                );
            }
            Force::Nothing(rival) => rivals.push(format!("{place} has {rival} instead")),
        }
    }
    Condition {
        kind: "Accepted",
        truth: if nowhere { Truth::False } else { Truth::True },
        reason: if nowhere { "Conflicted" } else { "Accepted" },
        message: if rivals.is_empty() { "route was valid".to_owned() } else { rivals.join("; ") },
    }
}

/// What it is to those who wrote it.
fn named(service: &ServiceKey) -> String {
    match service.origin {
        Origin::Kubernetes | Origin::Pod | Origin::Machine => format!("Service {service}"),
        Origin::Entry => format!("host {}", service.name),
    }
}

/// Without a waypoint nothing applies the route, however valid it is.
fn resolved_waypoints(reads: &Reads, attached: &Attached, waypoint_of: &Derived<WaypointOf>) -> Condition {
    let services = match attached {
        Attached::Services(services) => services,
        Attached::Gateway(waypoint) => {
            return Condition {
                kind: "ResolvedWaypoints",
                truth: Truth::True,
                reason: "ResolvedWaypoints",
                message: format!("applied by waypoint {waypoint}, to services without routes of their own"),
            };
        }
    };
    let (mut waypoints, mut unbound) = (BTreeSet::new(), Vec::new());
    for AttachedService { service, .. } in services {
        let named = named(service);
        match waypoint_of.get(reads, service).map(|binding| &**binding) {
            Some(WaypointOf::Bound { waypoint, canary: _ }) => {
                waypoints.insert(waypoint.to_string());
            }
            Some(WaypointOf::Refused(Refused { waypoint, why })) => {
                unbound.push(format!("{named} is not bound to waypoint {waypoint}: {}", why.message(service.origin)));
            }
            None => unbound.push(format!(
                "{named} has no waypoint, so nothing applies the route; label it or its namespace istio.io/use-waypoint"
            )),
        }
    }
    let all = unbound.is_empty();
    Condition {
        kind: "ResolvedWaypoints",
        truth: if all { Truth::True } else { Truth::False },
        reason: if all { "ResolvedWaypoints" } else { "WaypointMissing" },
        message: if all {
            format!("applied by waypoint {}", waypoints.into_iter().collect::<Vec<_>>().join(", "))
        } else {
            unbound.join("; ")
        },
    }
}
