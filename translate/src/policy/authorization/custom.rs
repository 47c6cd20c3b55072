//! CUSTOM policies: a provider outside decides about what their rules match.
//!
//! For each provider two filters: RBAC rules that decide nothing and say in metadata which of them
//! matched, and the one that asks, which runs only if a rule of its own provider is named there. They run
//! for each request, or before a tunnel is opened.

use proto::{
    Name,
    envoy::{HttpExtAuthz, core, ext_authz, http_rbac, http_status, matcher, milliseconds, rbac},
};

use super::{Action, At, Clause, Judgement, Layer, Rule, Source, emit::emit_rule, string};
use crate::{
    bind::asked_of::Asked,
    envoy::{connect_terminate::L4_ASK, extension::typed},
    fields::{Fields, Problems},
    mesh::{
        name::{Key, PortKey},
        pattern::Pattern,
    },
    policy::extension_provider::{ExtAuthz, Http, Speaks, lower_reference},
    problem::FieldPath,
    settings::Settings,
};

/// What Envoy puts in front of the name of the rule that matched.
const SHADOW: &str = "istio_ext_authz_";

/// The provider that a policy asks, if it asks one at all.
pub(super) fn lower(spec: &Fields<'_>, problems: &mut Problems) -> Option<Name> {
    if spec.get("action").and_then(|action| action.as_str()) == Some("CUSTOM") {
        return lower_reference(spec, problems);
    }
    if spec.get("provider").is_some() {
        problems.invalid(&spec.at.field("provider"), "only a CUSTOM policy has a provider");
    }
    None
}

/// How the names of our own headers begin: how a tunnel finds its way is nobody's business.
const OURS: &str = "x-wp-";

/// Those of the providers that can be asked there. By HTTP nobody can be asked about a tunnel: it would be
/// asked by a CONNECT of its own.
pub(crate) fn at_layer(asked: &[Asked], layer: Layer) -> Vec<&Asked> {
    match layer {
        Layer::Http => asked.iter().collect(),
        Layer::Tcp | Layer::Unnamed | Layer::Named => {
            asked.iter().filter(|one| can_ask_about_tunnels(one)).take(L4_ASK.len()).collect()
        }
    }
}

/// Why a provider is not asked about connections.
pub(crate) fn unheard(asked: &Asked) -> String {
    let Asked { name, provider, .. } = asked;
    match provider.speaks {
        Speaks::Http(_) => format!(
            "extension provider {name:?} is asked by HTTP, which cannot ask about a connection; envoyExtAuthzGrpc can"
        ),
        Speaks::Grpc => {
            format!("so many others are asked about a connection that extension provider {name:?} cannot be")
        }
    }
}

/// The filters that ask about the requests of an HTTP port or the tunnels of a TCP port, for each provider,
/// in the order of their names.
pub(crate) fn emit(
    asked: &[Asked],
    key: &PortKey,
    at: At<'_>,
    settings: &Settings,
) -> Vec<Vec<core::TypedExtensionConfig>> {
    let mut filters = Vec::new();
    for one in at_layer(asked, at.layer) {
        let rules = one.policies.iter().flat_map(|(policy, judgement)| {
            let rules = judgement.rules.iter();
            rules.filter_map(move |rule| {
                let name = format!("ns[{}]-policy[{}]-rule[{}]", policy.namespace, policy.name, rule.index);
                let emitted = emit_rule(&at_first(rule), Action::Deny, at)?;
                Some((format!("{}{name}", gate(&one.name)), emitted))
            })
        });
        let policies: std::collections::HashMap<_, _> = rules.collect();
        if policies.is_empty() {
            continue;
        }
        let matched = http_rbac::Rbac {
            shadow_rules: Some(rbac::Rbac {
                action: rbac::rbac::Action::Deny.into(),
                policies,
                ..rbac::Rbac::default()
            }),
            shadow_rules_stat_prefix: SHADOW.to_owned(),
            ..http_rbac::Rbac::default()
        };
        filters.push(vec![
            typed(&format!("custom-{}", one.name), &matched),
            typed(&format!("ask-{}", one.name), &ask(one, &key.waypoint, at.layer, settings)),
        ]);
    }
    filters
}

/// The rule as far as it can be judged before anything else has run. What only later filters know would
/// never match here, and who is not matched is not asked about: it is taken as given.
pub(crate) fn at_first(rule: &Rule) -> Rule {
    let known = |clauses: &[Clause<Source>]| {
        clauses.iter().filter(|clause| clause.any.iter().all(is_known_at_first)).cloned().collect()
    };
    Rule {
        from: rule.from.iter().map(|clauses| known(clauses)).collect(),
        when_source: known(&rule.when_source),
        ..rule.clone()
    }
}

/// Whether it is known before tokens are read and other filters have run.
const fn is_known_at_first(test: &Source) -> bool {
    match test {
        Source::Identity(_)
        | Source::Trusted(_)
        | Source::Meant(_)
        | Source::Ip(_)
        | Source::RemoteIp(_)
        | Source::DestinationIp(_)
        | Source::Header { .. } => true,
        Source::Metadata { .. } | Source::Claims(_) => false,
    }
}

/// The fields of a policy that are taken as given, because its provider is asked too early for them.
pub(crate) fn too_early(judgement: &Judgement) -> impl Iterator<Item = &FieldPath> {
    let rules = judgement.rules.iter().filter(|_| judgement.asks.is_some());
    let clauses = rules.flat_map(|rule| rule.from.iter().flatten().chain(&rule.when_source));
    clauses.filter(|clause| !clause.any.iter().all(is_known_at_first)).map(|clause| &clause.at)
}

/// How the names of a provider's rules begin. No provider has a slash in its name, so that no provider is
/// asked for the matches of another whose name begins like its own.
fn gate(provider: &Name) -> String {
    format!("istio-ext-authz-{provider}/")
}

fn can_ask_about_tunnels(asked: &Asked) -> bool {
    match asked.provider.speaks {
        Speaks::Grpc => true,
        Speaks::Http(_) => false,
    }
}

fn ask(asked: &Asked, waypoint: &Key, layer: Layer, settings: &Settings) -> HttpExtAuthz {
    let ExtAuthz {
        namespace: _,
        host,
        port: _,
        timeout,
        fail_open,
        clear_route_cache,
        status_on_error,
        body,
        speaks,
    } = &*asked.provider;
    let cluster = asked.port(waypoint).cluster_name(&settings.cluster_domain);
    let timeout = Some(milliseconds(i64::from(timeout.get())));
    let services = match speaks {
        Speaks::Http(http) => {
            ext_authz::ext_authz::Services::HttpService(http_service(http, host, cluster, timeout))
        }
        Speaks::Grpc => ext_authz::ext_authz::Services::GrpcService(core::GrpcService {
            timeout,
            target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(
                core::grpc_service::EnvoyGrpc {
                    cluster_name: cluster,
                    authority: host.to_string(),
                    ..Default::default()
                },
            )),
            ..core::GrpcService::default()
        }),
    };
    // What is in a tunnel is no body, and whoever waited for it would wait for the tunnel.
    let of_request = match layer {
        Layer::Http => true,
        Layer::Tcp | Layer::Unnamed | Layer::Named => false,
    };
    let allowed_headers = match speaks {
        Speaks::Http(http) => any_of(&http.asked_with),
        Speaks::Grpc => None,
    };
    HttpExtAuthz {
        services: Some(services),
        transport_api_version: core::ApiVersion::V3.into(),
        failure_mode_allow: *fail_open,
        // Where a tunnel leads is settled before somebody is asked, and is part of the question.
        clear_route_cache: *clear_route_cache && of_request,
        status_on_error: status_on_error.map(|status| http_status::HttpStatus { code: i32::from(status) }),
        with_request_body: body.filter(|_| of_request).map(|body| ext_authz::BufferSettings {
            max_request_bytes: body.most,
            allow_partial_message: body.partial,
            pack_as_bytes: body.as_bytes,
        }),
        allowed_headers,
        disallowed_headers: any_of(&[Pattern::Prefix(OURS.to_owned())]),
        filter_enabled_metadata: Some(matcher::MetadataMatcher {
            filter: "envoy.filters.http.rbac".to_owned(),
            path: vec![matcher::metadata_matcher::PathSegment {
                segment: Some(matcher::metadata_matcher::path_segment::Segment::Key(format!(
                    "{SHADOW}shadow_effective_policy_id"
                ))),
            }],
            value: Some(matcher::ValueMatcher {
                match_pattern: Some(matcher::value_matcher::MatchPattern::StringMatch(string(
                    &Pattern::Prefix(gate(&asked.name)),
                    false,
                ))),
            }),
            ..matcher::MetadataMatcher::default()
        }),
        ..HttpExtAuthz::default()
    }
}

fn http_service(
    http: &Http,
    host: &str,
    cluster: String,
    timeout: Option<proto::envoy::Duration>,
) -> ext_authz::HttpService {
    let Http { path_prefix, asked_with: _, added, to_upstream, to_refused, to_allowed } = http;
    let headers_to_add = added.iter().map(|(name, value)| core::HeaderValue {
        key: name.clone(),
        // Envoy reads commands between percent signs; the user means a text.
        value: value.replace('%', "%%"),
        ..core::HeaderValue::default()
    });
    ext_authz::HttpService {
        server_uri: Some(core::HttpUri {
            uri: format!("http://{host}"),
            http_upstream_type: Some(core::http_uri::HttpUpstreamType::Cluster(cluster)),
            timeout,
        }),
        path_prefix: path_prefix.clone(),
        authorization_request: (!added.is_empty()).then(|| ext_authz::AuthorizationRequest {
            headers_to_add: headers_to_add.collect(),
            ..ext_authz::AuthorizationRequest::default()
        }),
        authorization_response: Some(ext_authz::AuthorizationResponse {
            allowed_upstream_headers: any_of(to_upstream),
            allowed_client_headers: any_of(to_refused),
            allowed_client_headers_on_success: any_of(to_allowed),
            ..ext_authz::AuthorizationResponse::default()
        }),
        ..ext_authz::HttpService::default()
    }
}

/// Names of headers are the same in any case. Envoy refuses a list of none.
fn any_of(headers: &[Pattern]) -> Option<matcher::ListStringMatcher> {
    (!headers.is_empty()).then(|| matcher::ListStringMatcher {
        patterns: headers.iter().map(|header| string(header, true)).collect(),
    })
}
