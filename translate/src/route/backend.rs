//! Backends of a route's rule: a service port and its share.

use proto::{Name, gateway::httproutes::HttpRouteRulesBackendRefs};

use crate::{
    mesh::name::ServiceKey,
    problem::{FieldPath, Problem, Reason},
};

/// A share of a rule's requests, and who gets it. A backend that we refuse keeps its share: those
/// requests fail, and the others go where they were meant to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BackendRef {
    pub(crate) at: FieldPath,
    pub(crate) weight: u32,
    /// The service and its port; what is wrong with the reference itself otherwise.
    pub(crate) service: Result<(ServiceKey, u16), Problem>,
}

pub(crate) fn lower(spec: &HttpRouteRulesBackendRefs, route_namespace: &Name, at: &FieldPath) -> BackendRef {
    let HttpRouteRulesBackendRefs { filters, group, kind, name, namespace, port, weight } = spec;
    let problem = |field: &str, reason, message: String| {
        Err(Problem { at: if field.is_empty() { at.clone() } else { at.field(field) }, reason, message })
    };
    let namespace = namespace.as_deref().unwrap_or(route_namespace);
    let group = group.as_deref().unwrap_or_default();
    let kind = kind.as_deref().unwrap_or("Service");
    let port = port.map(u16::try_from);
    let service = if !matches!((group, kind), ("" | "core", "Service")) {
        problem(
            "kind",
            Reason::InvalidKind,
            format!("{kind:?} of group {group:?} cannot be a backend; use a Service"),
        )
    } else if filters.as_ref().is_some_and(|filters| !filters.is_empty()) {
        problem(
            "filters",
            Reason::UnsupportedValue,
            "filters of a backend are not supported yet; its share of requests gets 500".to_owned(),
        )
    } else if let Some(Ok(port)) = port {
        Ok((ServiceKey::kubernetes(namespace, name), port))
    } else {
        problem("port", Reason::UnsupportedValue, "a Service as backend needs a port, 1 to 65535".to_owned())
    };
    BackendRef {
        at: at.clone(),
        weight: weight.map_or(1, |weight| u32::try_from(weight).unwrap_or(0)),
        service,
    }
}
