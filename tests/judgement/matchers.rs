//! The tests that RBAC makes of a request, as Envoy 1.40 answers them. A construct that is not known
//! here fails the test.

#![allow(clippy::wildcard_enum_match_arm, reason = "an unknown variant of Envoy's is a failure, of any name")]

use std::{cell::RefCell, collections::HashMap, net::IpAddr, rc::Rc};

use proto::envoy::{matcher, rbac, route};
use regex::Regex;
use serde_json::{Map, Value};
use tests::judgement::Request;

/// Envoy has two messages of that name.
macro_rules! range {
    ($block:expr) => {
        ($block.address_prefix.parse().unwrap(), $block.prefix_len.as_ref().map_or(0, |length| length.value))
    };
}

/// A request as the filters see it that its turn has come to.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'r> {
    pub(crate) request: &'r Request,
    /// What its token says, once that was read.
    pub(crate) claims: Option<&'r Map<String, Value>>,
}

pub(crate) enum Test {
    Always(bool),
    All(Vec<Test>),
    One(Vec<Test>),
    Not(Box<Test>),
    Peer(Text),
    Source(Vec<(IpAddr, u32)>),
    Remote((IpAddr, u32)),
    Address((IpAddr, u32)),
    Port(u32),
    ServerName(Text),
    Path(Text),
    Header(String, Option<Text>),
    Metadata(Vec<String>, Wanted),
}

pub(crate) enum Wanted {
    Text(Text),
    OneOfList(Box<Wanted>),
    Either(Vec<Wanted>),
}

pub(crate) enum Text {
    Exact(String, bool),
    Prefix(String, bool),
    Suffix(String, bool),
    Contains(String, bool),
    Regex(Rc<Regex>),
}

pub(crate) fn permission(permission: &rbac::Permission) -> Test {
    use rbac::permission::Rule;
    let set = |set: &rbac::permission::Set| set.rules.iter().map(self::permission).collect();
    match permission.rule.as_ref().unwrap() {
        Rule::Any(any) => Test::Always(*any),
        Rule::AndRules(all) => Test::All(set(all)),
        Rule::OrRules(one) => Test::One(set(one)),
        Rule::NotRule(not) => Test::Not(Box::new(self::permission(not))),
        Rule::Header(wanted) => header(wanted),
        Rule::UrlPath(wanted) => path(wanted),
        Rule::DestinationIp(block) => Test::Address(range!(block)),
        Rule::DestinationPort(port) => Test::Port(*port),
        Rule::RequestedServerName(name) => Test::ServerName(Text::read(name)),
        Rule::SourcedMetadata(sourced) => metadata(sourced.metadata_matcher.as_ref().unwrap()),
        other => panic!("{other:?} is not known here"),
    }
}

pub(crate) fn principal(principal: &rbac::Principal) -> Test {
    use rbac::principal::Identifier;
    let set = |set: &rbac::principal::Set| set.ids.iter().map(self::principal).collect();
    match principal.identifier.as_ref().unwrap() {
        Identifier::Any(any) => Test::Always(*any),
        Identifier::AndIds(all) => Test::All(set(all)),
        Identifier::OrIds(one) => Test::One(set(one)),
        Identifier::NotId(not) => Test::Not(Box::new(self::principal(not))),
        Identifier::Header(wanted) => header(wanted),
        Identifier::UrlPath(wanted) => path(wanted),
        Identifier::RemoteIp(block) => Test::Remote(range!(block)),
        Identifier::SourcedMetadata(sourced) => metadata(sourced.metadata_matcher.as_ref().unwrap()),
        #[allow(deprecated, reason = "it is what Envoy's own documentation shows, and shorter")]
        Identifier::Metadata(wanted) => metadata(wanted),
        Identifier::FilterState(state) => {
            use matcher::filter_state_matcher::Matcher;
            match (state.key.as_str(), state.matcher.as_ref().unwrap()) {
                ("io.istio.peer_principal", Matcher::StringMatch(text)) => Test::Peer(Text::read(text)),
                ("envoy.filters.listener.original_dst.remote_ip", Matcher::AddressMatch(wanted)) => {
                    assert!(!wanted.invert_match, "an inverted address is not known here");
                    Test::Source(wanted.ranges.iter().map(|block| range!(block)).collect())
                }
                ("envoy.filters.listener.original_dst.local_ip", Matcher::AddressMatch(wanted)) => {
                    assert!(!wanted.invert_match, "an inverted address is not known here");
                    let blocks = wanted.ranges.iter().map(|block| Test::Address(range!(block)));
                    Test::One(blocks.collect())
                }
                (key, _) => panic!("{key} is not known here"),
            }
        }
        other => panic!("{other:?} is not known here"),
    }
}

fn header(wanted: &route::HeaderMatcher) -> Test {
    use route::header_matcher::HeaderMatchSpecifier as Specifier;
    assert!(!wanted.invert_match && !wanted.treat_missing_header_as_empty, "{wanted:?} is not known here");
    let text = match wanted.header_match_specifier.as_ref().unwrap() {
        Specifier::PresentMatch(true) => None,
        Specifier::StringMatch(text) => Some(Text::read(text)),
        other => panic!("{other:?} is not known here"),
    };
    Test::Header(wanted.name.clone(), text)
}

fn path(wanted: &matcher::PathMatcher) -> Test {
    let Some(matcher::path_matcher::Rule::Path(text)) = &wanted.rule else { panic!("a path is a text") };
    Test::Path(Text::read(text))
}

fn metadata(wanted: &matcher::MetadataMatcher) -> Test {
    // Of other filters no waypoint has any that says something.
    if wanted.filter != "envoy.filters.http.jwt_authn" {
        return Test::Always(false);
    }
    assert!(!wanted.invert, "an inverted metadata matcher is not known here");
    let path = wanted.path.iter().map(|segment| {
        let Some(matcher::metadata_matcher::path_segment::Segment::Key(key)) = &segment.segment else {
            panic!("a segment is a key")
        };
        key.clone()
    });
    let path: Vec<String> = path.collect();
    assert_eq!(path.first().map(String::as_str), Some("payload"));
    Test::Metadata(path[1..].to_vec(), value(wanted.value.as_ref().unwrap()))
}

fn value(wanted: &matcher::ValueMatcher) -> Wanted {
    use matcher::value_matcher::MatchPattern;
    match wanted.match_pattern.as_ref().unwrap() {
        MatchPattern::StringMatch(text) => Wanted::Text(Text::read(text)),
        MatchPattern::OrMatch(or) => Wanted::Either(or.value_matchers.iter().map(value).collect()),
        MatchPattern::ListMatch(list) => {
            let Some(matcher::list_matcher::MatchPattern::OneOf(one)) = &list.match_pattern else {
                panic!("{list:?} is not known here")
            };
            Wanted::OneOfList(Box::new(value(one)))
        }
        other => panic!("{other:?} is not known here"),
    }
}

impl Test {
    pub(crate) fn holds(&self, seen: Seen<'_>) -> bool {
        let request = seen.request;
        match self {
            Self::Always(always) => *always,
            Self::All(tests) => tests.iter().all(|test| test.holds(seen)),
            Self::One(tests) => tests.iter().any(|test| test.holds(seen)),
            Self::Not(test) => !test.holds(seen),
            Self::Peer(text) => request.peer.as_ref().is_some_and(|peer| text.holds(peer.as_bytes())),
            Self::Source(blocks) => blocks.iter().any(|block| inside(*block, request.source)),
            Self::Remote(block) => inside(*block, request.remote()),
            Self::Address(block) => inside(*block, request.address),
            Self::Port(port) => *port == u32::from(request.port),
            Self::ServerName(text) => text.holds(request.sni().unwrap_or_default().as_bytes()),
            Self::Path(text) => request.http().is_some_and(|http| text.holds(http.bare_path().as_bytes())),
            // What a tunnel of ours says of the connection that it is for.
            Self::Header(name, text) if name == "x-wp-sni" => {
                let said = format!("={}", request.sni().unwrap_or_default());
                text.as_ref().is_none_or(|text| text.holds(said.as_bytes()))
            }
            Self::Header(name, text) => request.http().is_some_and(|http| {
                let lines = http.values(name);
                lines.into_iter().any(|line| text.as_ref().is_none_or(|text| text.holds(line)))
            }),
            Self::Metadata(path, wanted) => {
                let (first, rest) = path.split_first().unwrap();
                let mut found = seen.claims.and_then(|claims| claims.get(first));
                for name in rest {
                    found = found.and_then(Value::as_object).and_then(|object| object.get(name));
                }
                found.is_some_and(|found| wanted.holds(found))
            }
        }
    }
}

fn inside((block, length): (IpAddr, u32), address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((block, family), (address, other)) = (bits(block), bits(address));
    let mask = if length == 0 { 0 } else { u128::MAX << (128 - length) };
    family == other && block & mask == address & mask
}

impl Wanted {
    fn holds(&self, found: &Value) -> bool {
        match self {
            Self::Text(text) => found.as_str().is_some_and(|found| text.holds(found.as_bytes())),
            Self::OneOfList(wanted) => {
                found.as_array().is_some_and(|list| list.iter().any(|one| wanted.holds(one)))
            }
            Self::Either(wanted) => wanted.iter().any(|wanted| wanted.holds(found)),
        }
    }
}

impl Text {
    fn read(text: &matcher::StringMatcher) -> Self {
        use matcher::string_matcher::MatchPattern;
        let any_case = text.ignore_case;
        let folded = |text: &String| if any_case { text.to_ascii_lowercase() } else { text.clone() };
        match text.match_pattern.as_ref().unwrap() {
            MatchPattern::Exact(text) => Self::Exact(folded(text), any_case),
            MatchPattern::Prefix(text) => Self::Prefix(folded(text), any_case),
            MatchPattern::Suffix(text) => Self::Suffix(folded(text), any_case),
            MatchPattern::Contains(text) => Self::Contains(folded(text), any_case),
            MatchPattern::SafeRegex(regex) => Self::Regex(expression(&regex.regex)),
            MatchPattern::Custom(_) => panic!("{text:?} is not known here"),
        }
    }

    fn holds(&self, value: &[u8]) -> bool {
        let fold = |any_case: bool| if any_case { value.to_ascii_lowercase() } else { value.to_vec() };
        match self {
            Self::Exact(text, any_case) => fold(*any_case) == text.as_bytes(),
            Self::Prefix(text, any_case) => fold(*any_case).starts_with(text.as_bytes()),
            Self::Suffix(text, any_case) => fold(*any_case).ends_with(text.as_bytes()),
            Self::Contains(text, any_case) => {
                String::from_utf8_lossy(&fold(*any_case)).contains(text.as_str())
            }
            Self::Regex(regex) => std::str::from_utf8(value).is_ok_and(|text| regex.is_match(text)),
        }
    }
}

/// Envoy asks that an expression matches the whole text. Each is compiled once.
fn expression(text: &str) -> Rc<Regex> {
    thread_local!(static KNOWN: RefCell<HashMap<String, Rc<Regex>>> = RefCell::default());
    KNOWN.with_borrow_mut(|known| {
        let compiled = || Rc::new(Regex::new(&format!("^(?:{text})$")).unwrap());
        Rc::clone(known.entry(text.to_owned()).or_insert_with(compiled))
    })
}
