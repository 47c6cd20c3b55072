//! Parents with their references looked up: which of them take the route.

use std::sync::Arc;

use proto::{Kind, Name, ObjectRef};

use super::waypoint_of::WaypointOf;
use crate::{
    derive::{Derived, Reads},
    inputs::Inputs,
    mesh::{
        name::{Key, ServiceKey},
        protocol::Protocol,
        service::{Bucket, Service},
        waypoint::{HBONE_PORT, Waypoint},
    },
    problem::{Problem, Reason},
    route::{
        parent::{Parent, ParentRef},
        rule::takes_connections,
    },
};

/// A parent that is ours to answer for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResolvedParent {
    pub(crate) json: Arc<str>,
    /// What the route is attached to, or why to nothing.
    pub(crate) attached: Result<Attached, Problem>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Attached {
    /// At least one.
    Services(Vec<AttachedService>),
    /// Every service behind that waypoint whose port has no route of the service's own.
    Gateway(Key),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttachedService {
    pub(crate) service: ServiceKey,
    pub(crate) ports: Vec<u16>,
    /// The waypoints that apply it there.
    pub(crate) waypoints: Vec<Key>,
}

/// `None` for a parent that another controller answers for.
pub(crate) fn bind(
    reads: &Reads,
    inputs: &Inputs,
    waypoint_of: &Derived<WaypointOf>,
    key: &ObjectRef,
    parent: &ParentRef,
) -> Option<ResolvedParent> {
    let attached = match &parent.parent {
        Parent::Foreign => return None,
        Parent::Refused(problem) => Err(problem.clone()),
        Parent::Service { object, port, section } => {
            let tables = Tables { reads, inputs, waypoint_of };
            to_services(&tables, key, parent, object, *port, section.as_ref())
        }
        Parent::Gateway { gateway, port, section } => {
            let waypoint = inputs.waypoints.get(reads, gateway)?;
            let namespace = inputs.namespaces.get(reads, &key.namespace);
            let labels = namespace.map(|namespace| namespace.labels.clone()).unwrap_or_default();
            if waypoint.allows.admits(&gateway.namespace, &key.namespace, &labels) {
                to_gateway(key, parent, gateway, waypoint, *port, section.as_ref())
            } else {
                Err(Problem {
                    at: parent.at.clone(),
                    reason: Reason::NotAllowedByListeners,
                    message: format!(
                        "Gateway {gateway} does not admit this namespace; is allowedRoutes missing on its listener?"
                    ),
                })
            }
        }
    };
    Some(ResolvedParent { json: Arc::clone(&parent.json), attached })
}

fn no_match(parent: &ParentRef, field: Option<&str>, message: String) -> Result<Attached, Problem> {
    let at = field.map_or_else(|| parent.at.clone(), |field| parent.at.field(field));
    Err(Problem { at, reason: Reason::NoMatchingParent, message })
}

fn to_gateway(
    key: &ObjectRef,
    parent: &ParentRef,
    gateway: &Key,
    waypoint: &Waypoint,
    port: Option<i32>,
    section: Option<&Name>,
) -> Result<Attached, Problem> {
    if port.is_some_and(|port| port != i32::from(HBONE_PORT)) {
        return no_match(
            parent,
            Some("port"),
            format!("a waypoint listens on {HBONE_PORT} only; leave the port out"),
        );
    }
    let working = waypoint.listeners.iter().filter(|listener| listener.problem.is_none());
    let Some(listener) =
        working.into_iter().find(|listener| section.is_none_or(|section| *section == listener.name))
    else {
        let field = section.map(|_| "sectionName");
        return no_match(parent, field, format!("Gateway {gateway} has no such listener that works"));
    };
    if !listener.kinds.contains(&key.kind) {
        return Err(Problem {
            at: parent.at.clone(),
            reason: Reason::NotAllowedByListeners,
            message: format!(
                "listener {:?} of Gateway {gateway} does not take {}s",
                &*listener.name,
                key.kind.name()
            ),
        });
    }
    Ok(Attached::Gateway(gateway.clone()))
}

struct Tables<'t> {
    reads: &'t Reads,
    inputs: &'t Inputs,
    waypoint_of: &'t Derived<WaypointOf>,
}

/// A route on an object is on all that the object declares. It is attached if some of that takes it,
/// as it is with several ports; if nothing does, the first says why.
fn to_services(
    tables: &Tables<'_>,
    key: &ObjectRef,
    parent: &ParentRef,
    object: &ObjectRef,
    port: Option<u16>,
    section: Option<&Name>,
) -> Result<Attached, Problem> {
    let Tables { reads, inputs, .. } = tables;
    let declared = inputs.services.bucket(reads, &Bucket::DeclaredBy(object.clone()));
    // What is not exported to a namespace does not exist for it.
    let known = declared
        .filter(|(service, row)| service.namespace == key.namespace || row.exported.reaches(&key.namespace));
    let (mut attached, mut refused) = (Vec::new(), None);
    for (service, row) in known {
        match to_service(tables, key, parent, service, row, port, section) {
            Ok(service) => attached.push(service),
            Err(problem) => refused = refused.or(Some(problem)),
        }
    }
    if !attached.is_empty() {
        return Ok(Attached::Services(attached));
    }
    Err(refused.unwrap_or_else(|| {
        let entry = object.kind == Kind::ServiceEntry
            && object.namespace == key.namespace
            && inputs.entries.get(reads, &Key::of(object)).is_some();
        let message = if entry {
            format!("{object} has no host of its own; a Service or an older entry has what it declares")
        } else {
            format!("{object} was not found")
        };
        Problem { at: parent.at.clone(), reason: Reason::NoMatchingParent, message }
    }))
}

fn to_service(
    tables: &Tables<'_>,
    key: &ObjectRef,
    parent: &ParentRef,
    service: &ServiceKey,
    row: &Service,
    port: Option<u16>,
    section: Option<&Name>,
) -> Result<AttachedService, Problem> {
    let no_match = |field: Option<&str>, message: String| {
        let at = field.map_or_else(|| parent.at.clone(), |field| parent.at.field(field));
        Err(Problem { at, reason: Reason::NoMatchingParent, message })
    };
    let (of, object) = (row.declared_by.kind.name(), Key::of(&row.declared_by));
    let chosen = row.ports.iter().filter(|candidate| port.is_none_or(|port| port == candidate.number));
    let chosen: Vec<_> =
        chosen.filter(|candidate| section.is_none_or(|name| *name == candidate.name)).collect();
    if chosen.is_empty() {
        let field = if port.is_some() { "port" } else { "sectionName" };
        return no_match(Some(field), format!("{of} {object} has no such port"));
    }
    let of_connections = takes_connections(key.kind);
    let takes = |protocol: Protocol| match protocol {
        Protocol::Http => !of_connections,
        Protocol::Tcp => of_connections,
        Protocol::Sniffed => true,
    };
    let ports: Vec<u16> = chosen.iter().filter(|port| takes(port.protocol)).map(|port| port.number).collect();
    if ports.is_empty() {
        let field = if row.declared_by.kind == Kind::ServiceEntry { "protocol" } else { "appProtocol" };
        return no_match(
            None,
            if of_connections {
                format!("{of} {object} speaks HTTP there; set {field}: tcp if it does not")
            } else {
                format!("{of} {object} speaks no HTTP there; set {field}: http if it does")
            },
        );
    }
    let binding = tables.waypoint_of.get(tables.reads, service);
    let waypoints = binding.into_iter().flat_map(|binding| binding.serving().cloned()).collect();
    Ok(AttachedService { service: service.clone(), ports, waypoints })
}
