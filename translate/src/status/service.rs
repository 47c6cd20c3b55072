//! What we say about a Service that asks for a waypoint.

use super::{Condition, Status, Truth, outstanding::Bucket, programmed::Known};
use std::collections::BTreeSet;

use crate::{
    bind::waypoint_of::{Refusal, Refused, WaypointOf},
    derive::{Derived, Reads},
    mesh::name::{Key, Origin, ServiceKey},
    problem::{FieldPath, Problem, Reason},
    settings::Settings,
};

/// `None` for a service that asks for no waypoint.
pub(super) fn of(
    reads: &Reads,
    known: Known<'_>,
    waypoint_of: &Derived<WaypointOf>,
    settings: &Settings,
    key: &ServiceKey,
) -> Option<Status> {
    let service = known.inputs.services.get(reads, key)?;
    let binding = waypoint_of.get(reads, key)?;
    let status = bound(binding, key.origin, service.generation, &service.problems);
    Some(status.with(rejected(reads, known, settings, [key])))
}

/// The same of a ServiceEntry: its hosts ask for one waypoint together.
pub(super) fn of_entry(
    reads: &Reads,
    known: Known<'_>,
    waypoint_of: &Derived<WaypointOf>,
    settings: &Settings,
    key: &Key,
) -> Option<Status> {
    let inputs = known.inputs;
    let entry = inputs.entries.get(reads, key)?;
    let mut problems = entry.problems.clone();
    let mut binding = None;
    let mut hosts = Vec::new();
    for host in entry.services.keys() {
        let has = inputs.services.get(reads, host).map(|row| &row.declared_by);
        if has.is_some_and(|by| Key::of(by) == *key) {
            hosts.push(host);
            binding = binding.or_else(|| waypoint_of.get(reads, host));
            continue;
        }
        let by = has.map_or_else(|| "a Service".to_owned(), ToString::to_string);
        problems.push(Problem {
            at: FieldPath::new("spec").field("hosts"),
            reason: Reason::Invalid,
            message: format!("host {:?} is declared by {by} already; remove one of them", &*host.name),
        });
    }
    if hosts.is_empty() {
        // Nothing of it is there, whatever waypoint it asks for.
        let message = super::list(&problems);
        return Some(bound_by(entry.generation, Truth::False, "Invalid", message));
    }
    let status = bound(binding?, Origin::Entry, entry.generation, &problems);
    Some(status.with(rejected(reads, known, settings, hosts)))
}

/// The same of a WorkloadEntry, which is dialled at its own address.
pub(super) fn of_machine(
    reads: &Reads,
    known: Known<'_>,
    waypoint_of: &Derived<WaypointOf>,
    settings: &Settings,
    key: &Key,
) -> Option<Status> {
    let inputs = known.inputs;
    let entry = inputs.workload_entries.get(reads, key)?;
    if entry.endpoint.is_none() {
        // Nothing of it is there, whatever waypoint it asks for.
        return Some(bound_by(entry.generation, Truth::False, "Invalid", super::list(&entry.problems)));
    }
    let machine = ServiceKey::machine(key);
    let binding = waypoint_of.get(reads, &machine)?;
    let status = bound(binding, Origin::Machine, entry.generation, &entry.problems);
    Some(status.with(rejected(reads, known, settings, [&machine])))
}

/// What proxies rejected of all that was made from these. Without that nothing is said, so that a new
/// version of a Service's configuration is no write to the Service.
fn rejected<'k>(
    reads: &Reads,
    known: Known<'_>,
    settings: &Settings,
    services: impl IntoIterator<Item = &'k ServiceKey>,
) -> Option<Condition> {
    let mut texts = BTreeSet::new();
    for service in services {
        let host = service.host(&settings.cluster_domain);
        let maker = match service.origin {
            Origin::Kubernetes | Origin::Pod | Origin::Machine => host,
            Origin::Entry => format!("{host}|{}", service.namespace),
        };
        texts.extend(known.rejected_of(reads, maker));
        let ports = known.outstanding.bucket(reads, &Bucket::RejectedOf(service.clone()));
        texts.extend(ports.filter_map(|(piece, row)| Some(row.rejected.as_ref()?.at(piece.waypoint()))));
    }
    (!texts.is_empty()).then(|| Condition {
        kind: "portolan.dev/Programmed",
        truth: Truth::False,
        reason: "RejectedByProxy",
        message: texts.into_iter().collect::<Vec<_>>().join("; "),
    })
}

impl Status {
    fn with(mut self, condition: Option<Condition>) -> Self {
        self.conditions.extend(condition);
        self
    }
}

fn bound(binding: &WaypointOf, origin: Origin, generation: Option<i64>, problems: &[Problem]) -> Status {
    let (truth, reason, mut message) = match binding {
        WaypointOf::Bound { waypoint, canary } => {
            let attached = format!("Successfully attached to waypoint {waypoint}");
            let canary = match canary {
                None => String::new(),
                Some(Ok(canary)) => format!(". Canary waypoint {canary} attached"),
                Some(Err(Refused { waypoint, why })) => {
                    format!(
                        ". Canary waypoint not attached: {waypoint}: {}: {}",
                        why.reason(),
                        why.message(origin)
                    )
                }
            };
            (Truth::True, "WaypointAccepted", attached + &canary)
        }
        WaypointOf::Refused(Refused { waypoint, why }) => {
            (Truth::False, why.reason(), format!("waypoint {waypoint}: {}", why.message(origin)))
        }
    };
    if !problems.is_empty() {
        message = format!("{message}; {}", super::list(problems));
    }
    bound_by(generation, truth, reason, message)
}

fn bound_by(generation: Option<i64>, truth: Truth, reason: &'static str, message: String) -> Status {
    Status {
        observed_generation: generation,
        conditions: vec![Condition { kind: "istio.io/WaypointBound", truth, reason, message }],
        ..Status::default()
    }
}

impl Refusal {
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::NotReady => "WaypointIsNotReady",
            Self::AttachmentDenied => "AttachmentDenied",
            Self::UnsupportedTrafficType => "UnsupportedTrafficType",
            Self::CrossNamespaceForbidden => "CrossNamespaceWaypointForbidden",
            Self::CanarySameAsPrimary => "CanarySameAsPrimary",
        }
    }

    pub(super) const fn message(self, origin: Origin) -> &'static str {
        match self {
            Self::NotReady => "there is no such waypoint; create the Gateway or change istio.io/use-waypoint",
            Self::AttachmentDenied => {
                "it does not admit this namespace; is allowedRoutes missing on the Gateway's listener?"
            }
            Self::UnsupportedTrafficType if origin.is_workload() => {
                "it is not for workloads; set istio.io/waypoint-for to workload or all on the Gateway"
            }
            Self::UnsupportedTrafficType => {
                "it is not for services; set istio.io/waypoint-for to service or all on the Gateway"
            }
            Self::CrossNamespaceForbidden => {
                "it is in a namespace that the entry's exportTo does not name; add that or use a waypoint of this one"
            }
            Self::CanarySameAsPrimary => {
                "it is the waypoint itself; name another in istio.io/use-waypoint-canary"
            }
        }
    }
}
