//! TLSRoute: without hostnames a TCPRoute by another name; with them it is refused.
//!
//! Istio's waypoints, too, apply a TLSRoute without hostnames to every connection, TLS or not.

use proto::gateway::{TlsRoute as Object, TlsRouteSpec};

use super::{rule::Route, tcp};
use crate::problem::{FieldPath, Problem, Reason};

pub(crate) fn lower(object: &Object) -> Route {
    let TlsRouteSpec { hostnames, parent_refs, rules, use_default_gateways: _ } = &object.spec;
    let every_connection = hostnames.is_null() || hostnames.as_array().is_some_and(Vec::is_empty);
    // To ignore them would send connections for other hosts to these backends.
    let refused = (!every_connection).then(|| Problem {
        at: FieldPath::new("spec").field("hostnames"),
        reason: Reason::UnsupportedValue,
        message: "a waypoint does not match the SNI; leave the hostnames out to route every connection, or give each host a Service or ServiceEntry of its own".to_owned(),
    });
    Route { refused, ..tcp::lower_connections(&object.metadata, parent_refs.as_ref(), rules) }
}
