//! What Envoy 1.40 does with the filters that judge at a port, as its RouteConfiguration sets them. A
//! filter that is not known here fails the test.

use std::collections::BTreeMap;

use prost::{Message, Name};
use proto::envoy::{
    Any, HttpExtAuthz, RouteConfiguration, composite, core, ext_authz, http_filter_chain, http_rbac, jwt,
    matcher, rbac, route, xds_matcher,
};
use tests::judgement::{Body, Request};

use crate::matchers::{Seen, Test, permission, principal};

/// What judges at a port, read once for many requests.
pub(crate) struct Port {
    /// The tunnel, in the order of the filters.
    tunnel: Vec<Filter>,
    /// Whether some of them are at `tls_router`.
    names: bool,
    /// Each request in it; nothing where no request is looked at.
    requests: Vec<Filter>,
}

/// What the filters come to: the verdict, and the rule or the provider that made it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) allowed: bool,
    pub(crate) rule: Option<String>,
}

enum Filter {
    Rbac {
        enforced: Option<Rbac>,
        shadow: Option<(String, Rbac)>,
    },
    /// Reads the token.
    Tokens,
    /// Asks the provider of that host, if the metadata of that key begins so.
    Ask {
        host: String,
        key: String,
        gate: String,
    },
}

struct Rbac {
    action: rbac::rbac::Action,
    /// In the order of their names, which is Envoy's.
    policies: Vec<(String, Vec<Test>, Vec<Test>)>,
}

/// Filters of a service that let through whom they see.
const LETS_THROUGH: [&str; 4] = [
    "envoy.extensions.filters.http.cors.v3",
    "envoy.extensions.filters.http.stateful_session.v3",
    "envoy.extensions.filters.http.dynamic_forward_proxy.v3",
    "envoy.extensions.filters.http.set_filter_state.v3",
];

/// The filters of `connect_terminate` that a tunnel's route fills, in their order there.
const OF_TUNNELS: [&str; 7] =
    ["l4-ask-1", "l4-ask-2", "l4-ask-3", "l4-ask-4", "l4-audit", "l4-deny", "l4-allow"];

/// Those of `tls_router`, which sees what tunnels carry that policies ask for a name.
const OF_NAMES: [&str; 3] = ["name-audit", "name-deny", "name-allow"];

impl Port {
    pub(crate) fn read(config: &RouteConfiguration) -> Self {
        let mut port = Self { tunnel: Vec::new(), names: false, requests: Vec::new() };
        for (name, chain) in &config.typed_per_filter_config {
            if !OF_NAMES.contains(&name.as_str()) {
                assert_eq!(name, "svc", "only the service's filters are set for all routes");
                port.requests.extend(chained(chain));
            }
        }
        let routes = config.virtual_hosts.iter().flat_map(|host| &host.routes);
        for route in routes {
            let specifier = route.r#match.as_ref().and_then(|found| found.path_specifier.as_ref());
            let tunnel = matches!(specifier, Some(route::route_match::PathSpecifier::ConnectMatcher(_)));
            let place = |name: &str| OF_TUNNELS.iter().position(|known| *known == name);
            let mut own: Vec<_> = route.typed_per_filter_config.iter().collect();
            own.sort_unstable_by_key(|(name, _)| place(name));
            for (name, filter) in own {
                if place(name).is_none() {
                    let known = LETS_THROUGH.iter().any(|known| filter.type_url.contains(known));
                    assert!(known, "{name} is not known here");
                    continue;
                }
                assert!(tunnel, "{name} is a filter of tunnels");
                if filter.type_url == http_rbac::RbacPerRoute::type_url() {
                    let own: http_rbac::RbacPerRoute = unpack(filter);
                    port.tunnel.extend(own.rbac.as_ref().map(Filter::rbac));
                } else {
                    port.tunnel.extend(composed(filter));
                }
            }
        }
        for name in OF_NAMES {
            let own = config.typed_per_filter_config.get(name).map(unpack::<http_rbac::RbacPerRoute>);
            port.tunnel.extend(own.and_then(|own| own.rbac).as_ref().map(Filter::rbac));
            port.names |= config.typed_per_filter_config.contains_key(name);
        }
        port
    }

    /// Whether connections are judged by the name that they ask for.
    pub(crate) fn asks_names(&self) -> bool {
        self.names
    }

    /// What becomes of a request whose claims, if it has some, were accepted.
    pub(crate) fn judge(&self, request: &Request) -> Outcome {
        let requests = match request.body {
            Body::Http(_) => self.requests.as_slice(),
            Body::Tcp { .. } => &[],
        };
        let mut metadata = BTreeMap::new();
        let mut outcome = Outcome { allowed: true, rule: None };
        let mut seen = Seen { request, claims: None };
        for filter in self.tunnel.iter().chain(requests) {
            match filter {
                Filter::Rbac { enforced, shadow } => {
                    if let Some((key, shadow)) = shadow
                        && let Some(name) = shadow.matched(seen)
                    {
                        metadata.insert(key.as_str(), name);
                    }
                    let Some(enforced) = enforced else { continue };
                    let rule = enforced.matched(seen).map(str::to_owned);
                    outcome.allowed = match enforced.action {
                        rbac::rbac::Action::Allow => rule.is_some(),
                        rbac::rbac::Action::Deny => rule.is_none(),
                        rbac::rbac::Action::Log => continue,
                    };
                    if rule.is_some() || !outcome.allowed {
                        outcome.rule = rule;
                    }
                }
                Filter::Tokens => seen.claims = request.http().and_then(|http| http.claims.as_ref()),
                Filter::Ask { host, key, gate } => {
                    if metadata.get(key.as_str()).is_some_and(|name| name.starts_with(gate.as_str())) {
                        let provider = host.split('.').next().unwrap_or_default();
                        outcome.allowed = request.answers[provider].allows;
                        if !outcome.allowed {
                            outcome.rule = Some(provider.to_owned());
                        }
                    }
                }
            }
            if !outcome.allowed {
                return outcome;
            }
        }
        outcome
    }
}

/// The filters of a chain, in their order.
fn chained(chain: &Any) -> Vec<Filter> {
    let chain: http_filter_chain::FilterChainConfigPerRoute = unpack(chain);
    filters(&chain.filter_chain.unwrap().filters)
}

/// The filters that stand in the place of one. Only the last of them may wait for somebody: when the wait is
/// over, Envoy goes on after the place, and not in it.
fn composed(composite: &Any) -> Vec<Filter> {
    let composite: composite::CompositePerRoute = unpack(composite);
    let matcher = composite.matcher.unwrap();
    assert!(matcher.matcher_type.is_none(), "matchers are not known here");
    let always = matcher.on_no_match.unwrap().on_match;
    let Some(xds_matcher::matcher::on_match::OnMatch::Action(action)) = always else {
        panic!("{always:?} is not known here")
    };
    let action: composite::ExecuteFilterAction = unpack(action.typed_config.as_ref().unwrap());
    let filters = filters(&action.filter_chain.unwrap().typed_config);
    let waiting = filters.iter().take(filters.len() - 1).any(|filter| matches!(filter, Filter::Ask { .. }));
    assert!(!waiting, "what comes after would be passed over");
    filters
}

fn filters(listed: &[core::TypedExtensionConfig]) -> Vec<Filter> {
    let mut filters = Vec::new();
    for filter in listed {
        let config = filter.typed_config.as_ref().unwrap();
        if config.type_url == http_rbac::Rbac::type_url() {
            filters.push(Filter::rbac(&unpack(config)));
        } else if config.type_url == HttpExtAuthz::type_url() {
            filters.push(Filter::ask(&unpack(config)));
        } else if config.type_url == jwt::JwtAuthentication::type_url() {
            filters.push(Filter::Tokens);
        } else {
            let known = LETS_THROUGH.iter().any(|known| config.type_url.contains(known));
            assert!(known, "{} is not known here", config.type_url);
        }
    }
    filters
}

fn unpack<M: Message + Name + Default>(any: &Any) -> M {
    assert_eq!(any.type_url, M::type_url());
    M::decode(&*any.value).unwrap()
}

impl Filter {
    fn rbac(filter: &http_rbac::Rbac) -> Self {
        assert!(filter.matcher.is_none() && filter.shadow_matcher.is_none(), "matchers are not known here");
        let key = format!("{}shadow_effective_policy_id", filter.shadow_rules_stat_prefix);
        let shadow = filter.shadow_rules.as_ref().map(|rules| (key, Rbac::read(rules)));
        Self::Rbac { enforced: filter.rules.as_ref().map(Rbac::read), shadow }
    }

    fn ask(filter: &HttpExtAuthz) -> Self {
        let host = match filter.services.as_ref().unwrap() {
            ext_authz::ext_authz::Services::HttpService(service) => {
                service.server_uri.as_ref().unwrap().uri.replace("http://", "")
            }
            ext_authz::ext_authz::Services::GrpcService(service) => match &service.target_specifier {
                Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(grpc)) => grpc.authority.clone(),
                other => panic!("{other:?} is not known here"),
            },
        };
        assert!(filter.filter_enabled.is_none() && !filter.failure_mode_allow, "not known here");
        let enabled =
            filter.filter_enabled_metadata.as_ref().expect("what matches nothing is not asked about");
        assert_eq!((enabled.filter.as_str(), enabled.invert), ("envoy.filters.http.rbac", false));
        let [segment] = enabled.path.as_slice() else { panic!("{enabled:?} is not known here") };
        let Some(matcher::metadata_matcher::path_segment::Segment::Key(key)) = &segment.segment else {
            panic!("a segment is a key")
        };
        let value = enabled.value.as_ref().and_then(|value| value.match_pattern.as_ref());
        let Some(matcher::value_matcher::MatchPattern::StringMatch(text)) = value else {
            panic!("{value:?} is not known here")
        };
        let Some(matcher::string_matcher::MatchPattern::Prefix(gate)) = &text.match_pattern else {
            panic!("{text:?} is not known here")
        };
        Self::Ask { host, key: key.clone(), gate: gate.clone() }
    }
}

impl Rbac {
    fn read(rules: &rbac::Rbac) -> Self {
        assert!(rules.audit_logging_options.is_none(), "audit logging is not known here");
        let policy = |(name, policy): (&String, &rbac::Policy)| {
            assert!(policy.condition.is_none(), "conditions are not known here");
            assert!(policy.checked_condition.is_none(), "conditions are not known here");
            let permissions = policy.permissions.iter().map(permission).collect();
            (name.clone(), permissions, policy.principals.iter().map(principal).collect())
        };
        let mut policies: Vec<_> = rules.policies.iter().map(policy).collect();
        policies.sort_by(|one: &(String, _, _), other| one.0.cmp(&other.0));
        Self { action: rules.action(), policies }
    }

    /// The first of the policies that matches.
    fn matched(&self, seen: Seen<'_>) -> Option<&str> {
        let found = self.policies.iter().find(|(_, permissions, principals)| {
            let holds = |tests: &[Test]| tests.iter().any(|test| test.holds(seen));
            holds(permissions) && holds(principals)
        });
        found.map(|(name, _, _)| name.as_str())
    }
}
