//! Gateway API objects, from the experimental channel: it has every field that the standard one
//! has, so no field of a user's manifest is dropped before a slice could refuse it.

pub use gateway_api::apis::experimental::{gateways, grpcroutes, httproutes, referencegrants, tcproutes};
pub use gateways::Gateway;
pub use grpcroutes::GrpcRoute;
pub use httproutes::{HttpRoute, HttpRouteRulesFilters as Filter};
pub use referencegrants::ReferenceGrant;
pub use tcproutes::TcpRoute;

/// A filter, whichever of the generated types of filter it comes in: those of a rule, of a backend
/// and of each kind of route are the same JSON. `None` for what is no filter.
pub fn filter<T: serde::Serialize>(spec: &T) -> Option<Filter> {
    serde_json::from_value(serde_json::to_value(spec).ok()?).ok()
}
