//! Parents of a route: the services whose requests it routes.

use std::sync::Arc;

use proto::{Name, gateway::httproutes::HttpRouteParentRefs};

use crate::{
    mesh::name::ServiceKey,
    problem::{FieldPath, Problem, Reason},
};

/// A `parentRef`, and what it means to us.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ParentRef {
    /// As the route has it: status entries are found by it.
    pub(crate) json: Arc<str>,
    pub(crate) at: FieldPath,
    pub(crate) parent: Parent,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Parent {
    /// One port of a service, or all of them.
    Service { service: ServiceKey, port: Option<u16>, section: Option<Name> },
    /// A reference that we are asked to take and cannot.
    Refused(Problem),
    /// Not for a waypoint: another controller answers it.
    Foreign,
}

pub(crate) fn lower(spec: &HttpRouteParentRefs, route_namespace: &Name, at: FieldPath) -> ParentRef {
    let HttpRouteParentRefs { group, kind, name, namespace, port, section_name } = spec;
    let json = serde_json::to_value(spec).map(|value| value.to_string()).unwrap_or_default();
    let namespace = namespace.as_deref().unwrap_or(route_namespace);
    let group = group.as_deref().unwrap_or("gateway.networking.k8s.io");
    let refused = |field: &str, message: String| {
        Parent::Refused(Problem { at: at.field(field), reason: Reason::UnsupportedValue, message })
    };
    let parent = match (group, kind.as_deref().unwrap_or("Gateway")) {
        ("" | "core", "Service") => match port.map(u16::try_from) {
            Some(Err(_)) => refused("port", "the port is not in 1..65535".to_owned()),
            None => Parent::Service {
                service: ServiceKey::kubernetes(namespace, name),
                port: None,
                section: section_name.as_deref().map(Into::into),
            },
            Some(Ok(port)) => Parent::Service {
                service: ServiceKey::kubernetes(namespace, name),
                port: Some(port),
                section: section_name.as_deref().map(Into::into),
            },
        },
        ("networking.istio.io", "ServiceEntry") => {
            refused("kind", "a ServiceEntry as parent is not supported yet".to_owned())
        }
        _ => Parent::Foreign,
    };
    ParentRef { json: json.into(), at, parent }
}
