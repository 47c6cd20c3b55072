//! Envoy's jwt_authn filter for all rules that govern a service.

use std::sync::Arc;

use proto::envoy::{Empty, core, jwt, jwt::jwt_requirement::RequiresType as Type, pack, route};

use super::{Check, KeySet};
use crate::envoy::{extension::typed, filter_state, refusal::refusal};

/// Where the claims of a verified token are for the filters behind, in Envoy's dynamic metadata.
pub(crate) const METADATA: &str = "envoy.filters.http.jwt_authn";
/// The field there.
pub(crate) const PAYLOAD: &str = "payload";

/// The filters that check tokens; none if no rule governs.
pub(crate) fn emit(rules: &[(Arc<Check>, KeySet)]) -> Vec<core::TypedExtensionConfig> {
    if rules.is_empty() {
        return Vec::new();
    }
    let names: Vec<String> = (0..rules.len()).map(|index| format!("origins-{index}")).collect();
    let providers = names.iter().cloned().zip(rules.iter().map(|(check, keys)| provider(check, keys)));
    let filter = jwt::JwtAuthentication {
        providers: providers.collect(),
        rules: vec![jwt::RequirementRule {
            r#match: Some(route::RouteMatch {
                path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
                ..route::RouteMatch::default()
            }),
            requirement_type: Some(jwt::requirement_rule::RequirementType::Requires(requirement(&names))),
        }],
        // A browser sends no token with the question whether it may send one.
        bypass_cors_preflight: true,
        ..jwt::JwtAuthentication::default()
    };
    let mut chain = vec![typed("jwt", &filter)];
    let outputs = |check: &Check| !check.payload_header.is_empty() || !check.claim_headers.is_empty();
    if rules.iter().any(|(check, _)| outputs(check)) {
        // The route was chosen by what the caller sent in these headers. The filter has removed it,
        // with a token or without, and Envoy's own `clear_route_cache` counts with a token only.
        chain.push(typed("reroute", &filter_state::reroute()));
    }
    chain
}

/// No token at all, or one that is valid by some rule; one that is valid by none is an error
/// wherever it is found.
fn requirement(names: &[String]) -> jwt::JwtRequirement {
    let provider = |name: &String| require(Type::ProviderName(name.clone()));
    let missing = || require(Type::AllowMissing(Empty {}));
    if let [only] = names {
        return any(vec![provider(only), missing()]);
    }
    let each = names.iter().map(|name| any(vec![provider(name), missing()]));
    let every = require(Type::RequiresAll(jwt::JwtRequirementAndList { requirements: each.collect() }));
    any(names.iter().map(provider).chain([every]).collect())
}

fn require(requires: Type) -> jwt::JwtRequirement {
    jwt::JwtRequirement { requires_type: Some(requires) }
}

fn any(requirements: Vec<jwt::JwtRequirement>) -> jwt::JwtRequirement {
    require(Type::RequiresAny(jwt::JwtRequirementOrList { requirements }))
}

/// Why Envoy would not take the rule.
pub(super) fn refused(check: &Check) -> Option<String> {
    refusal(&pack(&provider(check, &KeySet::nobody())))
}

fn provider(check: &Check, keys: &KeySet) -> jwt::JwtProvider {
    let Check {
        issuer,
        audiences,
        from_headers,
        from_params,
        from_cookies,
        forward,
        payload_header,
        claim_headers,
        space_delimited,
    } = check;
    jwt::JwtProvider {
        issuer: issuer.clone(),
        audiences: audiences.clone(),
        jwks_source_specifier: Some(jwt::jwt_provider::JwksSourceSpecifier::LocalJwks(core::DataSource {
            specifier: Some(core::data_source::Specifier::InlineString(keys.as_str().to_owned())),
            ..core::DataSource::default()
        })),
        from_headers: from_headers
            .iter()
            .map(|location| jwt::JwtHeader {
                name: location.name.clone(),
                value_prefix: location.prefix.clone(),
            })
            .collect(),
        from_params: from_params.clone(),
        from_cookies: from_cookies.clone(),
        forward: *forward,
        forward_payload_header: payload_header.clone(),
        claim_to_headers: claim_headers
            .iter()
            .map(|output| jwt::JwtClaimToHeader {
                header_name: output.name.clone(),
                claim_name: output.claim.clone(),
                ..jwt::JwtClaimToHeader::default()
            })
            .collect(),
        payload_in_metadata: PAYLOAD.to_owned(),
        normalize_payload_in_metadata: Some(jwt::jwt_provider::NormalizePayload {
            space_delimited_claims: space_delimited.iter().cloned().collect(),
        }),
        ..jwt::JwtProvider::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Location, *};

    /// Reading a policy lets no such name through; this is the net below.
    #[test]
    fn a_rule_that_envoy_would_reject_is_told_from_one_that_it_takes() {
        let from = |name: &str| {
            let location = Location { name: name.to_owned(), prefix: String::new() };
            Check { from_headers: vec![location], ..Check::default() }
        };
        assert_eq!(refused(&from("x-token")), None);
        let why = refused(&from("x-to\nken")).unwrap_or_default();
        assert!(why.starts_with("from_headers[0].name"), "{why}");
    }
}
