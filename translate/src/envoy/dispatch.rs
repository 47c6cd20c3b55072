//! How a tunnel finds the route configuration of what it dials: by the very address and port, else by
//! the address alone, else by the blocks of addresses.
//!
//! Envoy chooses a scope by a header, once when a request arrives and again whenever a filter forgets
//! the route. So each look writes the key of a scope into a header of ours and forgets the route;
//! filters that a matcher skips make sure that what is found at once is looked for no further. All
//! keys are made of the address as Envoy read it, never of the caller's text.

use proto::envoy::{
    EarlyHeaderMutation, ExtensionWithMatcher, HttpHeaderMutation, HttpRequestHeaderMatchInput,
    HttpSetFilterState, SkipFilter, core, http_connection_manager as hcm, http_header_mutation, matcher,
    mutation_rules, pack, route, xds_core, xds_matcher,
};

use super::{
    extension::http_filter,
    filter_state::{DISPATCHED, LOCAL_ADDRESS, shared_string},
};

/// Holds the key of the scope. Ours alone: what the caller has in it is gone before anything looks.
pub(crate) const HEADER: &str = "x-wp-dst";
/// Holds the port that a tunnel dials, as a number, for rules that cannot know it beforehand.
const PORT_HEADER: &str = "x-wp-port";
/// Holds the name of the route that the last look found.
const ROUTE_HEADER: &str = "x-wp-route";
/// The name of every route that takes a tunnel.
pub(crate) const TUNNEL: &str = "connect";
/// The key of the scope that tells which block an address is in. No service port has such a key.
pub(crate) const BLOCKS: &str = "blocks";

/// What one Envoy tells the next about a request. Envoy takes it from everybody but at an edge, and a
/// caller could choose the path that the log shows (CVE-2023-27487). For a waypoint every caller is one.
const TOLD_BY_ENVOYS: [&str; 4] = [
    "x-envoy-original-path",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
];

/// Removes what the caller says in headers of ours and of Envoy's, before there is a first look.
pub(crate) fn forget_callers_word() -> EarlyHeaderMutation {
    let ours = [HEADER, PORT_HEADER, ROUTE_HEADER];
    EarlyHeaderMutation { mutations: ours.into_iter().chain(TOLD_BY_ENVOYS).map(remove).collect() }
}

/// Whether a tunnel is for that port.
pub(crate) fn to_port(port: u16) -> route::HeaderMatcher {
    let number = matcher::string_matcher::MatchPattern::Exact(port.to_string());
    route::HeaderMatcher {
        name: PORT_HEADER.to_owned(),
        header_match_specifier: Some(route::header_matcher::HeaderMatchSpecifier::StringMatch(
            matcher::StringMatcher { match_pattern: Some(number), ..matcher::StringMatcher::default() },
        )),
        ..route::HeaderMatcher::default()
    }
}

/// Inside the tunnel the scope is the one that the tunnel chose, and the caller is believed as little.
pub(crate) fn as_the_tunnel() -> EarlyHeaderMutation {
    let scope = set(HEADER, &format!("%FILTER_STATE({DISPATCHED}:PLAIN)%"));
    EarlyHeaderMutation { mutations: TOLD_BY_ENVOYS.into_iter().map(remove).chain([scope]).collect() }
}

/// The first look: the address and the port. What follows in the chain sees its route.
pub(crate) fn by_address() -> [hcm::HttpFilter; 2] {
    let whole = format!("%FILTER_STATE({LOCAL_ADDRESS}:PLAIN)%");
    let port = format!("%FILTER_STATE({LOCAL_ADDRESS}:FIELD:port)%");
    [rewrite("by-address", vec![set(HEADER, &whole), set(PORT_HEADER, &port)]), look_again()]
}

/// The further looks, and what the requests inside the tunnel learn of the outcome.
pub(crate) fn by_less() -> Vec<hcm::HttpFilter> {
    let ip = format!("%FILTER_STATE({LOCAL_ADDRESS}:FIELD:ip)%");
    // A block's route is named after the scope of its service port. Without one, no scope is left.
    let of_block = vec![remove(HEADER), set(HEADER, "%ROUTE_NAME%")];
    let further = [
        vec![rewrite("by-ip", vec![set(HEADER, &ip)]), look_again()],
        found().into(),
        vec![rewrite("by-block", vec![set(HEADER, BLOCKS)]), look_again()],
        found().into(),
        vec![rewrite("of-block", of_block), look_again()],
    ];
    let tell = HttpSetFilterState {
        on_request_headers: vec![shared_string(DISPATCHED, &format!("%REQ({HEADER})%"))],
        ..HttpSetFilterState::default()
    };
    let further = further.into_iter().flatten().map(unless_found);
    found().into_iter().chain(further).chain([http_filter("dispatched", &tell)]).collect()
}

/// Writes down which route there is. The route is chosen when it is first asked for, and a mutation
/// asks only after it has mutated: hence two.
fn found() -> [hcm::HttpFilter; 2] {
    [rewrite("found", vec![remove(ROUTE_HEADER)]), rewrite("found", vec![set(ROUTE_HEADER, "%ROUTE_NAME%")])]
}

/// The filter, for tunnels that no route was found for yet.
fn unless_found(filter: hcm::HttpFilter) -> hcm::HttpFilter {
    use hcm::http_filter::ConfigType;
    use xds_matcher::matcher::{MatcherTree, MatcherType, OnMatch, matcher_tree, on_match};
    let typed_config = filter.config_type.and_then(|config| match config {
        ConfigType::TypedConfig(config) => Some(config),
        ConfigType::ConfigDiscovery(_) => None,
    });
    let input = HttpRequestHeaderMatchInput { header_name: ROUTE_HEADER.to_owned() };
    let skip =
        xds_core::TypedExtensionConfig { name: "skip".to_owned(), typed_config: Some(pack(&SkipFilter {})) };
    let skip = OnMatch { on_match: Some(on_match::OnMatch::Action(skip)), ..OnMatch::default() };
    let matcher = xds_matcher::Matcher {
        matcher_type: Some(MatcherType::MatcherTree(MatcherTree {
            input: Some(xds_core::TypedExtensionConfig {
                name: "route".to_owned(),
                typed_config: Some(pack(&input)),
            }),
            tree_type: Some(matcher_tree::TreeType::ExactMatchMap(matcher_tree::MatchMap {
                map: [(TUNNEL.to_owned(), skip)].into(),
            })),
        })),
        ..xds_matcher::Matcher::default()
    };
    let guarded = ExtensionWithMatcher {
        xds_matcher: Some(matcher),
        extension_config: Some(core::TypedExtensionConfig { name: filter.name.clone(), typed_config }),
        ..ExtensionWithMatcher::default()
    };
    http_filter(&filter.name, &guarded)
}

/// Forgets the route, and with it the scope.
fn look_again() -> hcm::HttpFilter {
    http_filter("look", &HttpSetFilterState { clear_route_cache: true, ..HttpSetFilterState::default() })
}

fn rewrite(name: &str, mutations: Vec<mutation_rules::HeaderMutation>) -> hcm::HttpFilter {
    let mutations = http_header_mutation::Mutations { request_mutations: mutations, ..Default::default() };
    http_filter(name, &HttpHeaderMutation { mutations: Some(mutations), ..HttpHeaderMutation::default() })
}

fn remove(header: &str) -> mutation_rules::HeaderMutation {
    mutation_rules::HeaderMutation {
        action: Some(mutation_rules::header_mutation::Action::Remove(header.to_owned())),
    }
}

/// A value that turns out empty leaves the header as it is.
fn set(header: &str, value: &str) -> mutation_rules::HeaderMutation {
    let header = core::HeaderValueOption {
        header: Some(core::HeaderValue {
            key: header.to_owned(),
            value: value.to_owned(),
            ..core::HeaderValue::default()
        }),
        append_action: core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..core::HeaderValueOption::default()
    };
    mutation_rules::HeaderMutation { action: Some(mutation_rules::header_mutation::Action::Append(header)) }
}
