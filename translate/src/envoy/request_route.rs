//! The routes of the requests to a service port: what is matched, where it goes, and what is done on the way.

use proto::{
    Name,
    envoy::{UInt32Value, core, matcher, milliseconds, route, seconds},
};

use super::filter_state::PEER_PRINCIPAL;
use crate::{
    bind::{
        resolved_route::{Forward, Share},
        routes_of::{Failure, Routed, RoutesOf},
    },
    filter::{self, Place},
    mesh::{
        name::{PortKey, RuleKey},
        pattern::{Pattern, quote},
    },
    policy::authorization,
    route::{
        matches::{HttpMatch, PathMatch},
        retry,
        rule::Delivery,
        session,
        timeout::Millis,
    },
    settings::Settings,
};

pub(crate) fn emit(routed: &Routed, key: &PortKey, settings: &Settings) -> route::Route {
    let Routed { name, found, forward, failure: _ } = routed;
    let mut emitted = route::Route {
        name: name.clone(),
        r#match: Some(route_match(found)),
        action: Some(action(routed, key, settings)),
        ..route::Route::default()
    };
    let place = Place { found, key, settings };
    for filter in &forward.filters {
        filter.emit(&mut emitted, &place);
    }
    if let Some(wanted) = &forward.delivery.session {
        session::emit(wanted, &mut emitted);
    }
    emitted
}

/// The route, for the callers of that namespace only. Who calls is what the tunnel's certificate
/// says: nothing that a request carries has a say in it.
pub(crate) fn for_callers_of(
    namespace: &Name,
    mut route: route::Route,
    aliases: &[Name],
    settings: &Settings,
) -> route::Route {
    if let Some(found) = &mut route.r#match {
        let identities = callers_of(namespace, aliases, settings);
        found.filter_state.push(matcher::FilterStateMatcher {
            key: PEER_PRINCIPAL.to_owned(),
            matcher: Some(matcher::filter_state_matcher::Matcher::StringMatch(authorization::string(
                &identities,
                false,
            ))),
        });
    }
    route
}

/// The identities of the callers of a namespace.
pub(crate) fn callers_of(namespace: &Name, aliases: &[Name], settings: &Settings) -> Pattern {
    let own = &settings.trust_domain;
    if aliases.is_empty() {
        return Pattern::Prefix(format!("spiffe://{own}/ns/{namespace}/sa/"));
    }
    let domains: Vec<_> = [own].into_iter().chain(aliases).map(|domain| quote(domain)).collect();
    Pattern::Regex(format!("spiffe://({})/ns/{}/sa/.*", domains.join("|"), quote(namespace)))
}

/// What the service's chain needs for these routes, in the order in which Envoy runs it.
pub(crate) fn service_filters(routes: &RoutesOf) -> Vec<core::TypedExtensionConfig> {
    let used = routes.all().flat_map(|routed| &routed.forward.filters);
    let mut chain = filter::service_filters(used);
    if routes.all().any(|routed| routed.forward.delivery.session.is_some()) {
        chain.push(session::service_filter());
    }
    chain
}

fn action(routed: &Routed, key: &PortKey, settings: &Settings) -> route::route::Action {
    use route::route_action::ClusterNotFoundResponseCode;
    let (status, not_found) = match routed.failure {
        Failure::InternalServerError => (500, ClusterNotFoundResponseCode::InternalServerError),
        Failure::Unavailable => (503, ClusterNotFoundResponseCode::ServiceUnavailable),
    };
    let Some(cluster_specifier) = clusters(&routed.forward, key, settings) else {
        return respond(status);
    };
    let delivery = &routed.forward.delivery;
    let (timeout, per_try) = timeouts(delivery);
    route::route::Action::Route(route::RouteAction {
        cluster_specifier: Some(cluster_specifier),
        cluster_not_found_response_code: not_found.into(),
        timeout: Some(timeout.map_or(seconds(0), |timeout| milliseconds(timeout.get()))),
        retry_policy: delivery.retry.as_ref().map(|asked| retry::emit(Some(asked), per_try)),
        ..route::RouteAction::default()
    })
}

/// No cluster has this name, which is a failure of the share that has it.
const REFUSED: &str = "refused";

/// `None` if no share leads anywhere.
pub(crate) fn clusters(
    forward: &Forward,
    key: &PortKey,
    settings: &Settings,
) -> Option<route::route_action::ClusterSpecifier> {
    use route::route_action::ClusterSpecifier;
    let shares: Vec<_> = forward.shares.iter().filter(|share| share.weight > 0).collect();
    if let Some(rule) = &forward.merged {
        let merged = RuleKey { waypoint: key.waypoint.clone(), rule: rule.clone() }.cluster_name();
        let of_merged = forward.merged_shares().into_values().sum();
        let refused: u32 =
            shares.iter().filter(|share| share.backend.is_none()).map(|share| share.weight).sum();
        return match (of_merged, refused) {
            (0, _) => None,
            (_, 0) => Some(ClusterSpecifier::Cluster(merged)),
            (of_merged, refused) => Some(ClusterSpecifier::WeightedClusters(route::WeightedCluster {
                clusters: vec![weighted(merged, of_merged), weighted(REFUSED.to_owned(), refused)],
                ..route::WeightedCluster::default()
            })),
        };
    }
    match shares.as_slice() {
        shares if shares.iter().all(|share| share.backend.is_none()) => None,
        [only] if only.filters.is_empty() => {
            Some(ClusterSpecifier::Cluster(cluster_name(only, key, settings)))
        }
        shares => Some(ClusterSpecifier::WeightedClusters(route::WeightedCluster {
            clusters: shares.iter().map(|share| cluster_weight(share, key, settings)).collect(),
            ..route::WeightedCluster::default()
        })),
    }
}

/// Of the whole request, and of one attempt. Where the rule asks for no retries an attempt's limit is
/// the request's: that those we make ourselves begin anew is not what the user meant.
fn timeouts(delivery: &Delivery) -> (Option<Millis>, Option<Millis>) {
    let asked = &delivery.timeouts;
    match &delivery.retry {
        Some(_) => (asked.request, asked.backend_request),
        None => ([asked.request, asked.backend_request].into_iter().flatten().min(), None),
    }
}

fn cluster_name(share: &Share, key: &PortKey, settings: &Settings) -> String {
    match &share.backend {
        Some((service, port)) => {
            PortKey::new(&key.waypoint, service, *port).cluster_name(&settings.cluster_domain)
        }
        None => REFUSED.to_owned(),
    }
}

fn cluster_weight(
    share: &Share,
    key: &PortKey,
    settings: &Settings,
) -> route::weighted_cluster::ClusterWeight {
    let mut emitted = weighted(cluster_name(share, key, settings), share.weight);
    for filter in &share.filters {
        filter.emit_share(&mut emitted);
    }
    emitted
}

fn weighted(name: String, weight: u32) -> route::weighted_cluster::ClusterWeight {
    route::weighted_cluster::ClusterWeight {
        name,
        weight: Some(UInt32Value { value: weight }),
        ..route::weighted_cluster::ClusterWeight::default()
    }
}

/// Where connections lead. A tunnel that leads nowhere is refused when it is opened.
pub(crate) fn connections(
    forward: &Forward,
    key: &PortKey,
    settings: &Settings,
) -> route::route_action::ClusterSpecifier {
    clusters(forward, key, settings)
        .unwrap_or_else(|| route::route_action::ClusterSpecifier::Cluster(REFUSED.to_owned()))
}

/// A route for tunnels that lead there, whatever is in them.
pub(crate) fn tunnel(name: &str, leads_to: route::route_action::ClusterSpecifier) -> route::Route {
    let action = route::RouteAction {
        cluster_specifier: Some(leads_to),
        timeout: Some(seconds(0)),
        upgrade_configs: vec![route::route_action::UpgradeConfig {
            upgrade_type: "CONNECT".to_owned(),
            connect_config: Some(route::route_action::upgrade_config::ConnectConfig::default()),
            ..Default::default()
        }],
        ..route::RouteAction::default()
    };
    route::Route { action: Some(route::route::Action::Route(action)), ..tunnel_match(name) }
}

/// A route for tunnels, without an action.
pub(crate) fn tunnel_match(name: &str) -> route::Route {
    route::Route {
        name: name.to_owned(),
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::ConnectMatcher(
                route::route_match::ConnectMatcher {},
            )),
            ..route::RouteMatch::default()
        }),
        ..route::Route::default()
    }
}

pub(crate) fn respond(status: u32) -> route::route::Action {
    route::route::Action::DirectResponse(route::DirectResponseAction {
        status,
        ..route::DirectResponseAction::default()
    })
}

pub(crate) fn not_found() -> route::Route {
    route::Route {
        name: "not-found".to_owned(),
        r#match: Some(route_match(&HttpMatch::everything())),
        action: Some(respond(404)),
        ..route::Route::default()
    }
}

fn route_match(found: &HttpMatch) -> route::RouteMatch {
    use route::route_match::PathSpecifier;
    let HttpMatch { path, method, headers, query } = found;
    let path = match path {
        PathMatch::Exact(path) => PathSpecifier::Path(path.clone()),
        PathMatch::Prefix(prefix) if prefix.is_empty() => PathSpecifier::Prefix("/".to_owned()),
        PathMatch::Prefix(prefix) => PathSpecifier::PathSeparatedPrefix(prefix.clone()),
        PathMatch::Regex(regex) => PathSpecifier::SafeRegex(matcher::RegexMatcher {
            regex: regex.clone(),
            ..matcher::RegexMatcher::default()
        }),
    };
    let method = method.map(|method| (":method".to_owned(), Pattern::Exact(method.to_owned())));
    let headers = method.iter().chain(headers).map(|(name, value)| route::HeaderMatcher {
        name: name.clone(),
        header_match_specifier: Some(route::header_matcher::HeaderMatchSpecifier::StringMatch(
            authorization::string(value, false),
        )),
        ..route::HeaderMatcher::default()
    });
    let query = query.iter().map(|(name, value)| route::QueryParameterMatcher {
        name: name.clone(),
        query_parameter_match_specifier: Some(
            route::query_parameter_matcher::QueryParameterMatchSpecifier::StringMatch(authorization::string(
                value, false,
            )),
        ),
    });
    route::RouteMatch {
        headers: headers.collect(),
        query_parameters: query.collect(),
        path_specifier: Some(path),
        ..route::RouteMatch::default()
    }
}
