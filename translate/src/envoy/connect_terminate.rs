//! The listener `connect_terminate`: takes tunnels from callers, learns who they are, and hands each
//! to the route configuration of the address that it dials.

use std::net::SocketAddr;

use proto::envoy::{
    self, BoolValue, HttpConnectionManager, HttpSetFilterState, Listener, Router, UInt32Value, composite,
    core, http_connection_manager as hcm, http_rbac, listener, matcher, pack, rbac, seconds, xds_core,
    xds_matcher,
};

use super::{
    access_log, dispatch,
    extension::{http_filter, network_filter, socket_address, transport_socket, typed},
    filter_state::{
        CONNECT_AUTHORITY, LOCAL_ADDRESS, LOCAL_PRINCIPAL, PEER_PRINCIPAL, REMOTE_ADDRESS, shared,
        shared_string,
    },
    main_internal, scope, tls, trusted,
};

pub(crate) const NAME: &str = "connect_terminate";

/// The filters that a TCP port's route fills with its policies: those that only report, those that
/// deny, those that allow.
pub(crate) const L4_AUDIT: &str = "l4-audit";
/// See [`L4_AUDIT`].
pub(crate) const L4_DENY: &str = "l4-deny";
/// See [`L4_AUDIT`].
pub(crate) const L4_ALLOW: &str = "l4-allow";
/// The filters that a TCP port's route fills with those who are asked, one each: what comes after a filter
/// that waits, in the same place, is passed over by Envoy when the wait is over.
pub(crate) const L4_ASK: [&str; 4] = ["l4-ask-1", "l4-ask-2", "l4-ask-3", "l4-ask-4"];

pub(crate) fn emit(bind: SocketAddr) -> Listener {
    let tls = tls::downstream();
    Listener {
        name: NAME.to_owned(),
        address: Some(socket_address(bind)),
        filter_chains: vec![listener::FilterChain {
            name: "default".to_owned(),
            transport_socket: Some(transport_socket("envoy.transport_sockets.tls", &tls)),
            // A handshake that stalls must not hold a connection for ever.
            transport_socket_connect_timeout: Some(seconds(10)),
            filters: vec![network_filter("envoy.filters.network.http_connection_manager", &manager())],
            ..listener::FilterChain::default()
        }],
        ..Listener::default()
    }
}

fn manager() -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: NAME.to_owned(),
        codec_type: hcm::http_connection_manager::CodecType::Http2.into(),
        http2_protocol_options: Some(core::Http2ProtocolOptions {
            allow_connect: true,
            max_concurrent_streams: Some(UInt32Value { value: 1000 }),
            connection_keepalive: Some(core::KeepaliveSettings {
                interval: Some(seconds(10)),
                timeout: Some(seconds(20)),
                ..core::KeepaliveSettings::default()
            }),
            ..core::Http2ProtocolOptions::default()
        }),
        // A tunnel may be silent for as long as the connection inside it.
        stream_idle_timeout: Some(seconds(0)),
        upgrade_configs: vec![hcm::http_connection_manager::UpgradeConfig {
            upgrade_type: "CONNECT".to_owned(),
            ..Default::default()
        }],
        early_header_mutation_extensions: vec![typed("dispatch", &dispatch::forget_callers_word())],
        http_filters: filters(),
        access_log: vec![access_log::failed_tunnels(), access_log::audited(), access_log::tried()],
        route_specifier: Some(scope::by_header(dispatch::HEADER)),
        // In logs, too, the caller is where the connection comes from. Nothing is added to the CONNECT.
        use_remote_address: Some(BoolValue { value: true }),
        skip_xff_append: true,
        // What is inside the tunnel has its own; this one must not leak into it.
        generate_request_id: Some(BoolValue { value: false }),
        ..HttpConnectionManager::default()
    }
}

/// Who calls is learned first: routes that take the tunnels of some callers ask for it.
fn filters() -> Vec<hcm::HttpFilter> {
    let mut filters = vec![http_filter("envoy.filters.http.set_filter_state", &learn())];
    filters.extend(dispatch::by_address());
    filters.extend([http_filter("peer", &one_spiffe_peer()), trusted::filter()]);
    filters.extend(dispatch::by_less());
    filters.extend(L4_ASK.map(|name| http_filter(name, &composite::Composite::default())));
    filters.extend([
        http_filter(L4_AUDIT, &http_rbac::Rbac::default()),
        http_filter(L4_DENY, &http_rbac::Rbac::default()),
        http_filter(L4_ALLOW, &http_rbac::Rbac::default()),
        http_filter("envoy.filters.http.router", &Router::default()),
    ]);
    filters
}

/// What the connection inside the tunnel must know of the tunnel.
fn learn() -> HttpSetFilterState {
    HttpSetFilterState {
        on_request_headers: vec![
            shared(LOCAL_ADDRESS, "%REQ(:AUTHORITY)%"),
            // Not DOWNSTREAM_REMOTE_ADDRESS: that is what an X-Forwarded-For of the CONNECT says.
            shared(REMOTE_ADDRESS, "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%"),
            shared_string(PEER_PRINCIPAL, "%DOWNSTREAM_PEER_URI_SAN%"),
            shared_string(LOCAL_PRINCIPAL, "%DOWNSTREAM_LOCAL_URI_SAN%"),
            shared_string(CONNECT_AUTHORITY, "%REQ(:AUTHORITY)%"),
        ],
        ..HttpSetFilterState::default()
    }
}

/// Several URIs in a certificate arrive as one string with commas, of which a prefix or an
/// expression could match any part. TLS looks at the first one, and the filter `trusted` at how
/// the string begins; this asks for no other.
///
/// And for nothing but a CONNECT: the routes for what is inside a tunnel are in the same route
/// configuration, and a request that met them here would meet no policy.
fn one_spiffe_peer() -> http_rbac::Rbac {
    let regex = "spiffe://[^,/]+/[^,]+".to_owned();
    let spiffe = rbac::Principal {
        identifier: Some(rbac::principal::Identifier::FilterState(matcher::FilterStateMatcher {
            key: PEER_PRINCIPAL.to_owned(),
            matcher: Some(matcher::filter_state_matcher::Matcher::StringMatch(matcher::StringMatcher {
                match_pattern: Some(matcher::string_matcher::MatchPattern::SafeRegex(
                    matcher::RegexMatcher { regex, ..matcher::RegexMatcher::default() },
                )),
                ..matcher::StringMatcher::default()
            })),
        })),
    };
    let both = rbac::principal::Set { ids: vec![spiffe, from_an_address()] };
    let policy = rbac::Policy {
        permissions: vec![rbac::Permission {
            rule: Some(rbac::permission::Rule::Header(main_internal::connect())),
        }],
        principals: vec![rbac::Principal { identifier: Some(rbac::principal::Identifier::AndIds(both)) }],
        ..rbac::Policy::default()
    };
    http_rbac::Rbac {
        rules: Some(rbac::Rbac {
            action: rbac::rbac::Action::Allow.into(),
            policies: [("one-spiffe-peer".to_owned(), policy)].into(),
            ..rbac::Rbac::default()
        }),
        ..http_rbac::Rbac::default()
    }
}

/// A source that Envoy cannot write as an address leaves no object, and no rule that denies a block of
/// addresses would find it.
fn from_an_address() -> rbac::Principal {
    let all = |address: &str| xds_core::CidrRange {
        address_prefix: address.to_owned(),
        prefix_len: Some(UInt32Value { value: 0 }),
    };
    rbac::Principal {
        identifier: Some(rbac::principal::Identifier::FilterState(matcher::FilterStateMatcher {
            key: REMOTE_ADDRESS.to_owned(),
            matcher: Some(matcher::filter_state_matcher::Matcher::AddressMatch(matcher::AddressMatcher {
                ranges: vec![all("0.0.0.0"), all("::")],
                ..matcher::AddressMatcher::default()
            })),
        })),
    }
}

/// RBAC rules as a route puts them in one of the `l4` filters.
pub(crate) fn l4(rules: http_rbac::Rbac) -> envoy::Any {
    pack(&http_rbac::RbacPerRoute { rbac: Some(rules) })
}

/// Filters as a route puts them in one of the [`L4_ASK`] filters. Envoy looks for them when it is that
/// filter's turn, and so after the tunnel's route was found.
pub(crate) fn l4_ask(filters: Vec<core::TypedExtensionConfig>) -> envoy::Any {
    let action = composite::ExecuteFilterAction {
        filter_chain: Some(composite::FilterChainConfiguration { typed_config: filters }),
        ..composite::ExecuteFilterAction::default()
    };
    let always = xds_matcher::matcher::OnMatch {
        on_match: Some(xds_matcher::matcher::on_match::OnMatch::Action(xds_core::TypedExtensionConfig {
            name: "ask".to_owned(),
            typed_config: Some(pack(&action)),
        })),
        ..xds_matcher::matcher::OnMatch::default()
    };
    pack(&composite::CompositePerRoute {
        matcher: Some(xds_matcher::Matcher {
            on_no_match: Some(Box::new(always)),
            ..xds_matcher::Matcher::default()
        }),
    })
}
