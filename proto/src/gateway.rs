//! Gateway API objects, from the experimental channel: it has every field that the standard one
//! has, so no field of a user's manifest is dropped before a slice could refuse it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use gateway_api::apis::experimental::{
    gatewayclasses, gateways, grpcroutes, httproutes, referencegrants, tcproutes,
};
pub use gatewayclasses::GatewayClass;
pub use gateways::Gateway;
pub use grpcroutes::GrpcRoute;
pub use httproutes::{
    HttpRoute, HttpRouteRulesFilters as Filter, HttpRouteRulesSessionPersistence as SessionPersistence,
};
pub use referencegrants::ReferenceGrant;
pub use tcproutes::TcpRoute;

/// TLSRoute. The generated type wants hostnames, and in a mesh a route without them has a meaning of
/// its own; everything else is as in a TCPRoute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TlsRoute {
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it asks for.
    #[serde(default)]
    pub spec: TlsRouteSpec,
}

/// The specification of a [`TlsRoute`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRouteSpec {
    /// As written: hostnames of any shape make a route that is not for every connection.
    #[serde(default)]
    pub hostnames: Value,
    /// What it is attached to.
    #[serde(default)]
    pub parent_refs: Option<Vec<tcproutes::TcpRouteParentRefs>>,
    /// Where connections lead.
    #[serde(default)]
    pub rules: Vec<tcproutes::TcpRouteRules>,
    /// For gateways at the edge; a mesh has no default ones.
    #[serde(default)]
    pub use_default_gateways: Value,
}

/// A filter, whichever of the generated types of filter it comes in: those of a rule, of a backend
/// and of each kind of route are the same JSON. `None` for what is no filter.
pub fn filter<T: Serialize>(spec: &T) -> Option<Filter> {
    serde_json::from_value(serde_json::to_value(spec).ok()?).ok()
}

/// What a rule wants for its sessions, of either kind of route: the generated types are the same JSON.
pub fn session_persistence<T: Serialize>(spec: &T) -> Option<SessionPersistence> {
    serde_json::from_value(serde_json::to_value(spec).ok()?).ok()
}
