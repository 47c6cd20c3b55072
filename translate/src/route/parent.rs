//! Parents of a route: the services whose requests it routes, one by one or all of a waypoint.

use std::sync::Arc;

use proto::{
    Kind, Name, ObjectRef,
    gateway::{
        grpcroutes::GrpcRouteParentRefs, httproutes::HttpRouteParentRefs, tcproutes::TcpRouteParentRefs,
    },
};

use crate::{
    mesh::name::Key,
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
    /// One port or all of them, of every service that the object declares: a Service is one, and
    /// each host of a ServiceEntry.
    Service { object: ObjectRef, port: Option<u16>, section: Option<Name> },
    /// A Gateway, by one of its listeners or any: all services behind it, if it is a waypoint.
    Gateway { gateway: Key, port: Option<i32>, section: Option<Name> },
    /// A reference that we are asked to take and cannot.
    Refused(Problem),
    /// Not for a waypoint: another controller answers it.
    Foreign,
}

/// The fields of a `parentRef`, of whichever kind of route.
pub(crate) struct Fields<'s> {
    json: Arc<str>,
    group: Option<&'s str>,
    kind: Option<&'s str>,
    name: &'s str,
    namespace: Option<&'s str>,
    port: Option<i32>,
    section_name: Option<&'s str>,
}

/// Gateway API has one type for it, and its Rust bindings one for each kind of route.
macro_rules! parent_refs {
    ($($ty:ident),+) => { $(
        impl<'s> From<&'s $ty> for Fields<'s> {
            fn from(spec: &'s $ty) -> Self {
                let $ty { group, kind, name, namespace, port, section_name } = spec;
                let json = serde_json::to_value(spec).map(|value| value.to_string()).unwrap_or_default();
                Self {
                    json: json.into(),
                    group: group.as_deref(),
                    kind: kind.as_deref(),
                    name,
                    namespace: namespace.as_deref(),
                    port: *port,
                    section_name: section_name.as_deref(),
                }
            }
        }
    )+ };
}

parent_refs!(HttpRouteParentRefs, GrpcRouteParentRefs, TcpRouteParentRefs);

/// Reads all of them, in the order in which the route has them.
pub(crate) fn lower<'s, S>(specs: Option<&'s Vec<S>>, route_namespace: &Name) -> Vec<ParentRef>
where
    Fields<'s>: From<&'s S>,
{
    let at = FieldPath::new("spec").field("parentRefs");
    let specs = specs.into_iter().flatten().enumerate();
    let lowered = specs.map(|(index, spec)| {
        let at = at.index(index);
        let fields = Fields::from(spec);
        ParentRef { parent: lower_one(&fields, route_namespace, &at), json: fields.json, at }
    });
    lowered.collect()
}

fn lower_one(spec: &Fields<'_>, route_namespace: &Name, at: &FieldPath) -> Parent {
    let Fields { json: _, group, kind, name, namespace, port, section_name } = *spec;
    let namespace = namespace.unwrap_or(route_namespace);
    let group = group.unwrap_or("gateway.networking.k8s.io");
    let refused = |field: &str, message: String| {
        Parent::Refused(Problem { at: at.field(field), reason: Reason::UnsupportedValue, message })
    };
    let services = |kind: Kind| match port.map(u16::try_from).transpose() {
        Err(_) => refused("port", "the port is not in 1..65535".to_owned()),
        Ok(port) => Parent::Service {
            object: Key::new(namespace, name).reference(kind),
            port,
            section: section_name.map(Into::into),
        },
    };
    match (group, kind.unwrap_or("Gateway")) {
        ("" | "core", "Service") => services(Kind::Service),
        ("gateway.networking.k8s.io", "Gateway") => Parent::Gateway {
            gateway: Key::new(namespace, name),
            port,
            section: section_name.map(Into::into),
        },
        ("networking.istio.io", "ServiceEntry") => services(Kind::ServiceEntry),
        _ => Parent::Foreign,
    }
}
