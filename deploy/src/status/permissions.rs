//! What an account must be allowed to do for writing statuses.

use proto::Kind;
use translate::Classes;

use super::own;
use crate::deployer::Permission;

/// Patching the status of every kind that has one, and making the classes of Gateways that are ours. All of
/// it in the whole cluster. Reading is the business of whoever follows the objects.
pub fn permissions() -> Vec<Permission> {
    let kinds = Kind::ALL.iter().filter(|kind| own(**kind, Classes::Replace).is_some());
    let patch = |kind: &Kind| Permission { group: kind.group(), resource: status(*kind), verbs: &["patch"] };
    let class = Kind::GatewayClass;
    let make = Permission { group: class.group(), resource: class.plural(), verbs: &["create"] };
    kinds.map(patch).chain([make]).collect()
}

/// How a role calls the status of the kind's objects.
pub(super) const fn status(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "services/status",
        Kind::GatewayClass => "gatewayclasses/status",
        Kind::Gateway => "gateways/status",
        Kind::HTTPRoute => "httproutes/status",
        Kind::GRPCRoute => "grpcroutes/status",
        Kind::TCPRoute => "tcproutes/status",
        Kind::TLSRoute => "tlsroutes/status",
        Kind::ServiceEntry => "serviceentries/status",
        Kind::WorkloadEntry => "workloadentries/status",
        Kind::AuthorizationPolicy => "authorizationpolicies/status",
        Kind::RequestAuthentication => "requestauthentications/status",
        // Nothing is written there.
        Kind::Namespace | Kind::EndpointSlice | Kind::Pod | Kind::ConfigMap | Kind::ReferenceGrant => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_that_is_written_is_named_as_the_api_names_it() {
        for kind in Kind::ALL {
            let named = status(*kind);
            match own(*kind, Classes::Replace) {
                Some(_) => assert_eq!(named, format!("{}/status", kind.plural())),
                None => assert_eq!(named, ""),
            }
        }
    }
}
