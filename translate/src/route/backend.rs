//! Backends of a route's rule: a service port and its share.

use proto::{
    Name,
    gateway::{
        grpcroutes::GrpcRouteRulesBackendRefs, httproutes::HttpRouteRulesBackendRefs,
        tcproutes::TcpRouteRulesBackendRefs,
    },
};

use crate::{
    filter::{self, Filter},
    mesh::name::ServiceKey,
    problem::{FieldPath, Problem, Reason},
};

/// The largest share that Gateway API allows. The sum of many stays within what Envoy can count.
const HEAVIEST: u32 = 1_000_000;

/// A share of a rule's requests, and who gets it. A backend that we refuse keeps its share: those
/// requests fail, and the others go where they were meant to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BackendRef {
    pub(crate) at: FieldPath,
    pub(crate) weight: u32,
    /// What it names, and the port there; what is wrong with the reference itself otherwise.
    pub(crate) target: Result<(Target, u16), Problem>,
    /// Of its share of the requests alone.
    pub(crate) filters: Vec<Filter>,
}

/// What a backend names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Service(ServiceKey),
    /// A DNS name, whoever declares it (`kind: Hostname`).
    Host(Name),
}

/// The fields of a `backendRef`, of whichever kind of route.
pub(crate) struct Fields<'s> {
    /// `None` for one that cannot be read.
    pub(crate) filters: Vec<Option<proto::gateway::Filter>>,
    pub(crate) group: Option<&'s str>,
    pub(crate) kind: Option<&'s str>,
    pub(crate) name: &'s str,
    pub(crate) namespace: Option<&'s str>,
    pub(crate) port: Option<i32>,
    pub(crate) weight: Option<i32>,
}

macro_rules! filters {
    () => {
        Vec::new()
    };
    ($filters:ident) => {
        $filters.iter().flatten().map(proto::gateway::filter).collect()
    };
}

/// Gateway API has one type for it, and its Rust bindings one for each kind of route.
macro_rules! backend_refs {
    ($($ty:ident { $($filters:ident)? }),+) => { $(
        impl<'s> From<&'s $ty> for Fields<'s> {
            fn from(spec: &'s $ty) -> Self {
                let $ty { $($filters,)? group, kind, name, namespace, port, weight } = spec;
                Self {
                    filters: filters!($($filters)?),
                    group: group.as_deref(),
                    kind: kind.as_deref(),
                    name,
                    namespace: namespace.as_deref(),
                    port: *port,
                    weight: *weight,
                }
            }
        }
    )+ };
}

backend_refs!(
    HttpRouteRulesBackendRefs { filters },
    GrpcRouteRulesBackendRefs { filters },
    TcpRouteRulesBackendRefs {}
);

/// Reads all of them, in the order in which the rule has them.
pub(crate) fn lower<'s, S>(
    specs: impl IntoIterator<Item = &'s S>,
    route_namespace: &Name,
    at: &FieldPath,
) -> Vec<BackendRef>
where
    S: 's,
    Fields<'s>: From<&'s S>,
{
    let specs = specs.into_iter().enumerate();
    specs.map(|(index, spec)| lower_one(spec.into(), route_namespace, &at.index(index))).collect()
}

pub(crate) fn lower_one(spec: Fields<'_>, route_namespace: &Name, at: &FieldPath) -> BackendRef {
    let Fields { filters, group, kind, name, namespace, port, weight } = spec;
    let mut problems = Vec::new();
    let filters = filter::lower_backend(filters, route_namespace, &at.field("filters"), &mut problems);
    let problem =
        |field: &str, reason, message: String| Err(Problem { at: at.field(field), reason, message });
    let group = group.unwrap_or_default();
    let kind = kind.unwrap_or("Service");
    let target = match (group, kind) {
        ("" | "core", "Service") => {
            Some(Target::Service(ServiceKey::kubernetes(namespace.unwrap_or(route_namespace), name)))
        }
        ("networking.istio.io", "Hostname") => Some(Target::Host(name.to_ascii_lowercase().into())),
        _ => None,
    };
    let asked =
        weight.map_or(Some(1), |weight| u32::try_from(weight).ok().filter(|asked| *asked <= HEAVIEST));
    let target = if target.is_none() {
        problem(
            "kind",
            Reason::InvalidKind,
            format!("{kind:?} of group {group:?} cannot be a backend; use a Service or a Hostname"),
        )
    } else if let (Some(Target::Host(_)), Some(_)) = (&target, namespace) {
        problem(
            "namespace",
            Reason::UnsupportedValue,
            "a Hostname has no namespace: it is looked up as the route's own namespace sees it".to_owned(),
        )
    } else if let Some(wrong) = problems.into_iter().next() {
        Err(wrong)
    } else if asked.is_none() {
        problem("weight", Reason::UnsupportedValue, format!("a weight is 0 to {HEAVIEST}"))
    } else if let (Some(target), Some(Ok(port))) = (target, port.map(u16::try_from)) {
        Ok((target, port))
    } else {
        problem("port", Reason::UnsupportedValue, format!("a {kind} as backend needs a port, 1 to 65535"))
    };
    // A share that cannot be read is not nobody's: its requests must not reach the others.
    BackendRef { at: at.clone(), weight: asked.unwrap_or(1), target, filters }
}
