//! TLSRoute: shares of the connections that ask for one of its hostnames.
//!
//! Without hostnames it is a TCPRoute by another name, as it is to Istio's waypoints: for every
//! connection, TLS or not. With them only the SNI counts, whatever they are: the name of the Service
//! itself is a name like others.

use proto::gateway::{TlsRoute as Object, TlsRouteSpec};

use super::{hostname, rule::Route, tcp};
use crate::problem::FieldPath;

pub(crate) fn lower(object: &Object) -> Route {
    let TlsRouteSpec { hostnames, parent_refs, rules, use_default_gateways: _ } = &object.spec;
    let mut route = tcp::lower_connections(&object.metadata, parent_refs.as_ref(), rules);
    match hostname::lower(hostnames, &FieldPath::new("spec").field("hostnames"), &mut route.problems) {
        Ok(hostnames) => route.hostnames = hostnames,
        Err(refused) => route.refused = Some(refused),
    }
    route
}
