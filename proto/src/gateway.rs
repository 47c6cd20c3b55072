//! Gateway API objects, from the experimental channel: it has every field that the standard one
//! has, so no field of a user's manifest is dropped before a slice could refuse it.

pub use gateway_api::apis::experimental::{gateways, grpcroutes, httproutes, referencegrants, tcproutes};
pub use gateways::Gateway;
pub use grpcroutes::GrpcRoute;
pub use httproutes::HttpRoute;
pub use referencegrants::ReferenceGrant;
pub use tcproutes::TcpRoute;
