//! What we say about a GatewayClass that names our controller.

use super::{Condition, Status, Truth, list};
use crate::{
    derive::Reads,
    inputs::Inputs,
    mesh::{class::CONTROLLER, name::Key},
};

/// What of Gateway API our waypoints do, by the names of its conformance tests, in the order of the names.
const FEATURES: [&str; 11] = [
    "GRPCRoute",
    "HTTPRoute",
    "Mesh",
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
];

/// `None` for a class of somebody else, even if we serve its Gateways: its status is theirs.
pub(super) fn of(reads: &Reads, inputs: &Inputs, key: &Key) -> Option<Status> {
    let class = inputs.classes.get(reads, &key.name)?;
    if class.controller != CONTROLLER {
        return None;
    }
    let (truth, reason, message) = if class.problems.is_empty() {
        (Truth::True, "Accepted", "Gateways of this class are waypoints of Portolan".to_owned())
    } else {
        (Truth::False, "InvalidParameters", list(&class.problems))
    };
    Some(Status {
        observed_generation: class.generation,
        conditions: vec![Condition { kind: "Accepted", truth, reason, message }],
        features: FEATURES.to_vec(),
        ..Status::default()
    })
}
