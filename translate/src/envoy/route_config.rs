//! The RouteConfiguration of a service port: the route for its tunnels, the routes for the requests
//! in them, and the filters that judge those requests. One resource, so one change is one resource
//! and nothing drains.

use std::sync::Arc;

use proto::{
    Name, TypeUrl,
    envoy::{
        BoolValue, RouteConfiguration, UInt32Value, core, http_rbac, matcher, rbac, route, seconds,
        string_struct,
    },
};

use super::{
    connect_terminate::{L4_ALLOW, L4_DENY, l4},
    extension::{metadata, typed},
    filter_state::PEER_PRINCIPAL,
    main_internal::{self, DISPATCH_HEADER, SERVICE_FILTERS, service_filters},
    sniffed,
};
use crate::{
    bind::{
        policies_of::PoliciesOf,
        resolved_route::Forward,
        routes_of::{Failure, Routed, RoutesOf},
    },
    derive::Row,
    emit::Emit,
    mesh::{
        name::{Key, PortKey, ServiceKey},
        pattern::Pattern,
        protocol::Protocol,
    },
    policy::authorization::{self, Layer},
    route::matches::{HttpMatch, PathMatch},
    settings::Settings,
};

/// All that the resource depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PortConfig {
    pub(crate) routes: Arc<RoutesOf>,
    pub(crate) policies: Arc<PoliciesOf>,
}

impl Row for PortConfig {
    const TABLE: &'static str = "port config";
    type Key = PortKey;
    type Bucket = ();

    fn buckets(_key: &PortKey, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Emit for PortConfig {
    const TYPE: TypeUrl = TypeUrl::Route;
    type Message = RouteConfiguration;

    fn waypoint(key: &PortKey) -> &Key {
        &key.waypoint
    }

    fn name(key: &PortKey, _settings: &Settings) -> String {
        key.route_name()
    }

    fn emit(&self, key: &PortKey, settings: &Settings) -> RouteConfiguration {
        let protocol = self.routes.protocol;
        let mut routes = vec![self.tunnel(key, settings)];
        if protocol.may_be_http() {
            for (namespace, consumer) in &self.routes.consumers {
                let whole = consumer.iter().map(|routed| request(routed, settings, key)).chain([not_found()]);
                routes.extend(whole.map(|route| for_callers_of(namespace, route, settings)));
            }
            routes.extend(self.routes.routes.iter().map(|routed| request(routed, settings, key)));
            // What no rule matches is judged first like everything else, and then not found.
            routes.push(not_found());
        }
        let filters = if protocol.may_be_http() { self.filters(key.port) } else { Vec::new() };
        let filters = (!filters.is_empty()).then(|| (SERVICE_FILTERS.to_owned(), service_filters(filters)));
        RouteConfiguration {
            name: key.route_name(),
            // A cluster may come after the route that names it, and often does on a busy day.
            validate_clusters: Some(BoolValue { value: false }),
            request_headers_to_remove: vec![DISPATCH_HEADER.to_owned()],
            virtual_hosts: vec![route::VirtualHost {
                name: key.route_name(),
                domains: vec!["*".to_owned()],
                routes,
                ..route::VirtualHost::default()
            }],
            typed_per_filter_config: filters.into_iter().collect(),
            ..RouteConfiguration::default()
        }
    }
}

impl PortConfig {
    /// The route that `connect_terminate` takes: into the internal listener for what may be HTTP,
    /// straight to the backends for what is not.
    fn tunnel(&self, key: &PortKey, settings: &Settings) -> route::Route {
        let protocol = self.routes.protocol;
        let internal = |name: &str| route::route_action::ClusterSpecifier::Cluster(name.to_owned());
        let cluster = match protocol {
            Protocol::Http => internal(main_internal::NAME),
            Protocol::Sniffed => internal(sniffed::NAME),
            // A tunnel that leads nowhere is refused when it is opened.
            Protocol::Tcp => {
                clusters(&self.routes.connections, settings, key).unwrap_or_else(|| internal(REFUSED))
            }
        };
        let judged_here = match protocol {
            Protocol::Tcp => true,
            Protocol::Http => false,
            // Policies that ask nothing about HTTP hold for the tunnel whatever it carries. With
            // others, only HTTP gets through: there is no cluster for the rest.
            Protocol::Sniffed => !self.policies.needs_http(),
        };
        let verdicts = if judged_here {
            authorization::emit(&self.policies.0, key.port, Layer::Tcp)
        } else {
            authorization::Verdicts::default()
        };
        let filters = [(L4_DENY, verdicts.deny), (L4_ALLOW, verdicts.allow)];
        let filters = filters.into_iter().filter_map(|(name, rules)| Some((name.to_owned(), l4(rules?))));
        route::Route {
            name: "connect".to_owned(),
            r#match: Some(route::RouteMatch {
                path_specifier: Some(route::route_match::PathSpecifier::ConnectMatcher(
                    route::route_match::ConnectMatcher {},
                )),
                ..route::RouteMatch::default()
            }),
            metadata: Some(metadata([(
                "istio",
                string_struct([
                    ("host", key.service.host(&settings.cluster_domain)),
                    ("name", key.service.name.to_string()),
                    ("namespace", key.service.namespace.to_string()),
                    ("proto", protocol.as_str().to_owned()),
                ]),
            )])),
            typed_per_filter_config: filters.collect(),
            action: Some(route::route::Action::Route(route::RouteAction {
                cluster_specifier: Some(cluster),
                timeout: Some(seconds(0)),
                upgrade_configs: vec![route::route_action::UpgradeConfig {
                    upgrade_type: "CONNECT".to_owned(),
                    connect_config: Some(route::route_action::upgrade_config::ConnectConfig::default()),
                    ..Default::default()
                }],
                ..route::RouteAction::default()
            })),
            ..route::Route::default()
        }
    }

    /// The service's filters, in the order in which Envoy runs them.
    fn filters(&self, port: u16) -> Vec<core::TypedExtensionConfig> {
        let verdicts = authorization::emit(&self.policies.0, port, Layer::Http);
        let rbac = |name: &str, rules: Option<rbac::Rbac>| {
            rules.map(|rules| {
                typed(name, &http_rbac::Rbac { rules: Some(rules), ..http_rbac::Rbac::default() })
            })
        };
        [rbac("authz-deny", verdicts.deny), rbac("authz-allow", verdicts.allow)]
            .into_iter()
            .flatten()
            .collect()
    }
}

fn request(routed: &Routed, settings: &Settings, key: &PortKey) -> route::Route {
    route::Route {
        name: routed.name.clone(),
        r#match: Some(route_match(&routed.found)),
        action: Some(forward(routed, settings, key)),
        ..route::Route::default()
    }
}

/// The route, for the callers of that namespace only. Who calls is what the tunnel's certificate
/// says: nothing that a request carries has a say in it.
fn for_callers_of(namespace: &Name, mut route: route::Route, settings: &Settings) -> route::Route {
    if let Some(found) = &mut route.r#match {
        let identities = Pattern::Prefix(format!("spiffe://{}/ns/{namespace}/sa/", settings.trust_domain));
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

fn forward(routed: &Routed, settings: &Settings, key: &PortKey) -> route::route::Action {
    use route::route_action::ClusterNotFoundResponseCode;
    let (status, not_found) = match routed.failure {
        Failure::InternalServerError => (500, ClusterNotFoundResponseCode::InternalServerError),
        Failure::Unavailable => (503, ClusterNotFoundResponseCode::ServiceUnavailable),
    };
    let Some(cluster_specifier) = clusters(&routed.forward, settings, key) else {
        return respond(status);
    };
    route::route::Action::Route(route::RouteAction {
        cluster_specifier: Some(cluster_specifier),
        cluster_not_found_response_code: not_found.into(),
        timeout: Some(seconds(0)),
        ..route::RouteAction::default()
    })
}

/// No cluster has this name, which is a failure of the share that has it.
const REFUSED: &str = "refused";

/// `None` if no share leads anywhere.
fn clusters(
    forward: &Forward,
    settings: &Settings,
    key: &PortKey,
) -> Option<route::route_action::ClusterSpecifier> {
    use route::route_action::ClusterSpecifier;
    let shares: Vec<_> = forward.0.iter().filter(|share| share.weight > 0).collect();
    let name = |backend: &Option<(ServiceKey, u16)>| match backend {
        Some((service, port)) => {
            PortKey::new(&key.waypoint, service, *port).cluster_name(&settings.cluster_domain)
        }
        None => REFUSED.to_owned(),
    };
    match shares.as_slice() {
        shares if shares.iter().all(|share| share.backend.is_none()) => None,
        [only] => Some(ClusterSpecifier::Cluster(name(&only.backend))),
        shares => Some(ClusterSpecifier::WeightedClusters(route::WeightedCluster {
            clusters: shares
                .iter()
                .map(|share| route::weighted_cluster::ClusterWeight {
                    name: name(&share.backend),
                    weight: Some(UInt32Value { value: share.weight }),
                    ..Default::default()
                })
                .collect(),
            ..route::WeightedCluster::default()
        })),
    }
}

fn respond(status: u32) -> route::route::Action {
    route::route::Action::DirectResponse(route::DirectResponseAction {
        status,
        ..route::DirectResponseAction::default()
    })
}

fn not_found() -> route::Route {
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
