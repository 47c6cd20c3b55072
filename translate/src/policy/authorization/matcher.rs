//! One test of a rule as Envoy's matchers have it.

use std::net::{Ipv4Addr, Ipv6Addr};

use proto::envoy::{self, matcher, rbac, route};

use super::{IpBlock, Layer, Operation, Source, Value, claims};
use crate::{
    envoy::{
        dispatch,
        filter_state::{LOCAL_ADDRESS, PEER_PRINCIPAL, REMOTE_ADDRESS},
        server_name,
    },
    mesh::pattern::Pattern,
};

/// Where a request comes from, as RBAC principals: any of them.
pub(super) fn principals(test: &Source, layer: Layer) -> Vec<rbac::Principal> {
    use rbac::principal::Identifier;
    let identity = |pattern: &Pattern| {
        let matched = matcher::filter_state_matcher::Matcher::StringMatch(string(pattern, false));
        filter_state(PEER_PRINCIPAL, matched)
    };
    let any = match (test, layer) {
        (Source::Meant(patterns), _) => return patterns.iter().map(identity).map(identified).collect(),
        (Source::Identity(pattern), _) => identity(pattern),
        // Whoever binds a policy gives it its meaning in the mesh; without one it means what it says.
        (Source::Trusted(trusted), _) => identity(&trusted.pattern()),
        // The connection's own peer is the internal listener, and X-Forwarded-For is the caller's
        // word; the address that the tunnel came from is in filter state.
        // Of a tunnel that is all there is: the CONNECT's own X-Forwarded-For means nothing to anybody.
        (Source::Ip(block), _) | (Source::RemoteIp(block), Layer::Tcp | Layer::Unnamed | Layer::Named) => {
            address(REMOTE_ADDRESS, &[*block])
        }
        (Source::RemoteIp(block), Layer::Http) => Identifier::RemoteIp(core_range(*block)),
        (Source::DestinationIp(block), _) => address(LOCAL_ADDRESS, &[*block]),
        (Source::Header { name, value, any_case }, _) => Identifier::Header(header(name, value, *any_case)),
        (Source::Claims(ways), _) => claims::identifier(ways),
        (Source::Metadata { filter, key, value }, _) => {
            Identifier::SourcedMetadata(metadata(filter, key, value))
        }
    };
    vec![identified(any)]
}

/// Whether it is known what was dialled: not where that is a name.
pub(super) fn dialled_an_address() -> rbac::Principal {
    let all = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    identified(address(LOCAL_ADDRESS, &all.map(|address| IpBlock { address, prefix: 0 })))
}

/// Whether it was that port, where only the tunnel tells.
pub(super) fn dialled(port: u16, layer: Layer) -> rbac::Permission {
    let rule = match layer {
        // Of the connection inside, which has the address that the tunnel is for.
        Layer::Http => rbac::permission::Rule::DestinationPort(u32::from(port)),
        Layer::Tcp | Layer::Unnamed | Layer::Named => rbac::permission::Rule::Header(dispatch::to_port(port)),
    };
    rbac::Permission { rule: Some(rule) }
}

/// What is asked for, as an RBAC permission. Ports are not: they are known when the rules are made.
pub(super) fn permission(test: &Operation, layer: Layer) -> Option<rbac::Permission> {
    use rbac::permission::Rule;
    let rule = match test {
        Operation::Host(pattern) => Rule::Header(header(":authority", pattern, true)),
        Operation::Method { value, any_case } => Rule::Header(header(":method", value, *any_case)),
        Operation::Path(pattern) => Rule::UrlPath(matcher::PathMatcher {
            rule: Some(matcher::path_matcher::Rule::Path(string(pattern, false))),
        }),
        Operation::ServerName(pattern) if layer == Layer::Named => {
            Rule::Header(header(server_name::HEADER, &marked(pattern), true))
        }
        Operation::ServerName(pattern) => Rule::RequestedServerName(string(pattern, false)),
        Operation::Port(_) | Operation::PortNamed(_) => return None,
    };
    Some(rbac::Permission { rule: Some(rule) })
}

/// The name behind its mark: without one, there is no name that is like any pattern.
fn marked(name: &Pattern) -> Pattern {
    let mark = server_name::MARK;
    match name {
        Pattern::Exact(name) => Pattern::Exact(format!("{mark}{name}")),
        Pattern::Prefix(name) => Pattern::Prefix(format!("{mark}{name}")),
        Pattern::Suffix(name) => Pattern::Suffix(name.clone()),
        Pattern::Present => Pattern::Regex(format!("{mark}.+")),
        Pattern::Regex(name) => Pattern::Regex(format!("{mark}({name})")),
    }
}

/// Whether the name has letters that no host's has. Envoy replaces them, and says so in front.
pub(super) fn no_host_name() -> rbac::Permission {
    let name = Pattern::Prefix(format!("{}invalid:", server_name::MARK));
    rbac::Permission { rule: Some(rbac::permission::Rule::Header(header(server_name::HEADER, &name, false))) }
}

fn header(name: &str, value: &Pattern, ignore_case: bool) -> route::HeaderMatcher {
    let specifier = match value {
        Pattern::Present => route::header_matcher::HeaderMatchSpecifier::PresentMatch(true),
        Pattern::Exact(_) | Pattern::Prefix(_) | Pattern::Suffix(_) | Pattern::Regex(_) => {
            route::header_matcher::HeaderMatchSpecifier::StringMatch(string(value, ignore_case))
        }
    };
    route::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..route::HeaderMatcher::default()
    }
}

/// A pattern as Envoy matches strings.
pub(crate) fn string(pattern: &Pattern, ignore_case: bool) -> matcher::StringMatcher {
    use matcher::string_matcher::MatchPattern;
    let (match_pattern, ignore_case) = match pattern.clone() {
        Pattern::Exact(text) => (MatchPattern::Exact(text), ignore_case),
        Pattern::Prefix(text) => (MatchPattern::Prefix(text), ignore_case),
        Pattern::Suffix(text) => (MatchPattern::Suffix(text), ignore_case),
        // Envoy refuses `ignore_case` with an expression.
        Pattern::Present => (MatchPattern::SafeRegex(regex(".+".to_owned())), false),
        Pattern::Regex(text) => (MatchPattern::SafeRegex(regex(text)), false),
    };
    matcher::StringMatcher { ignore_case, match_pattern: Some(match_pattern) }
}

fn regex(regex: String) -> matcher::RegexMatcher {
    matcher::RegexMatcher { regex, ..matcher::RegexMatcher::default() }
}

fn range(block: IpBlock) -> envoy::xds_core::CidrRange {
    envoy::xds_core::CidrRange {
        address_prefix: block.address.to_string(),
        prefix_len: Some(envoy::UInt32Value { value: u32::from(block.prefix) }),
    }
}

fn core_range(block: IpBlock) -> envoy::core::CidrRange {
    envoy::core::CidrRange {
        address_prefix: block.address.to_string(),
        prefix_len: Some(envoy::UInt32Value { value: u32::from(block.prefix) }),
    }
}

fn address(key: &str, blocks: &[IpBlock]) -> rbac::principal::Identifier {
    filter_state(
        key,
        matcher::filter_state_matcher::Matcher::AddressMatch(matcher::AddressMatcher {
            ranges: blocks.iter().copied().map(range).collect(),
            ..matcher::AddressMatcher::default()
        }),
    )
}

fn filter_state(key: &str, matcher: matcher::filter_state_matcher::Matcher) -> rbac::principal::Identifier {
    rbac::principal::Identifier::FilterState(matcher::FilterStateMatcher {
        key: key.to_owned(),
        matcher: Some(matcher),
    })
}

fn metadata(filter: &str, key: &str, value: &Value) -> rbac::SourcedMetadata {
    use matcher::value_matcher::MatchPattern;
    let text = |pattern| matcher::ValueMatcher {
        match_pattern: Some(MatchPattern::StringMatch(string(pattern, false))),
    };
    let value = match value {
        Value::Text(pattern) => text(pattern),
        Value::ListWith(pattern) => matcher::ValueMatcher {
            match_pattern: Some(MatchPattern::ListMatch(Box::new(matcher::ListMatcher {
                match_pattern: Some(matcher::list_matcher::MatchPattern::OneOf(Box::new(text(pattern)))),
            }))),
        },
    };
    rbac::SourcedMetadata {
        metadata_matcher: Some(matcher::MetadataMatcher {
            filter: filter.to_owned(),
            path: vec![matcher::metadata_matcher::PathSegment {
                segment: Some(matcher::metadata_matcher::path_segment::Segment::Key(key.to_owned())),
            }],
            value: Some(value),
            ..matcher::MetadataMatcher::default()
        }),
        metadata_source: rbac::MetadataSource::Dynamic.into(),
    }
}

const fn identified(identifier: rbac::principal::Identifier) -> rbac::Principal {
    rbac::Principal { identifier: Some(identifier) }
}
