//! RBAC rules of Envoy, for the requests of one HTTP port or the tunnels of one TCP port.

use std::{collections::HashMap, sync::Arc};

use proto::envoy::{self, matcher, rbac, route};

use super::{Action, Clause, IpBlock, Judgement, Operation, Rule, Source};
use crate::{
    envoy::{
        dispatch,
        filter_state::{PEER_PRINCIPAL, REMOTE_ADDRESS},
    },
    mesh::{
        name::{ANY_PORT, Key},
        pattern::Pattern,
    },
};

/// What can be asked at the place where the rules run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Each request of an HTTP port.
    Http,
    /// The tunnel to a TCP port, before a byte of it flows.
    Tcp,
}

/// The rules of all policies together, by action. `None`: no policy of that action is attached.
///
/// Some allowing rules of which none is left deny everything, as they must.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) deny: Option<rbac::Rbac>,
    pub(crate) allow: Option<rbac::Rbac>,
}

/// Compiles the policies that govern a port.
pub(crate) fn emit(policies: &[(Key, Arc<Judgement>)], port: u16, layer: Layer) -> Verdicts {
    let of = |action: Action| {
        let attached = policies.iter().filter(move |(_, policy)| policy.action == Some(action));
        let rules = attached
            .clone()
            .flat_map(|(key, policy)| policy.rules.iter().map(move |rule| (key, policy, rule)));
        let emitted = rules.filter_map(|(key, policy, rule)| {
            Some((rule_name(key, rule, policy), emit_rule(rule, action, port, layer)?))
        });
        (attached.count(), emitted.collect::<HashMap<_, _>>())
    };
    let (_, denied) = of(Action::Deny);
    let (allowing, allowed) = of(Action::Allow);
    let rules = |action: rbac::rbac::Action, policies| rbac::Rbac {
        action: action.into(),
        policies,
        ..rbac::Rbac::default()
    };
    Verdicts {
        // Denying rules of which none can match at this port deny nothing.
        deny: (!denied.is_empty()).then(|| rules(rbac::rbac::Action::Deny, denied)),
        allow: (allowing > 0).then(|| rules(rbac::rbac::Action::Allow, allowed)),
    }
}

/// As logs show it. What a CUSTOM policy denies by itself is told from what its provider denies.
fn rule_name(key: &Key, rule: &Rule, policy: &Judgement) -> String {
    let suffix = if policy.asks.is_some() { "-deny-due-to-bad-CUSTOM-action" } else { "" };
    format!("ns[{}]-policy[{}]-rule[{}]{suffix}", key.namespace, key.name, rule.index)
}

/// `None` for a rule that can never match here.
pub(super) fn emit_rule(rule: &Rule, action: Action, port: u16, layer: Layer) -> Option<rbac::Policy> {
    let Rule { index: _, from, to, when_source, when_operation } = rule;
    match (layer, action) {
        // Istio: an allowing rule that asks anything about HTTP allows no TCP connection.
        (Layer::Tcp, Action::Allow) if rule.needs_http() => return None,
        (Layer::Tcp | Layer::Http, Action::Allow | Action::Deny) => {}
    }
    let principals = alternatives(from, |source| Some(source_and(source, when_source, layer)));
    let permissions = alternatives(to, |operation| operation_and(operation, when_operation, port, layer));
    (!principals.is_empty() && !permissions.is_empty()).then_some(rbac::Policy {
        permissions,
        principals,
        ..rbac::Policy::default()
    })
}

/// One entry for each alternative that can match; no alternatives at all is the one that always does.
fn alternatives<T, O>(listed: &[Vec<Clause<T>>], emit: impl Fn(&[Clause<T>]) -> Option<O>) -> Vec<O> {
    if listed.is_empty() {
        emit(&[]).into_iter().collect()
    } else {
        listed.iter().filter_map(|one| emit(one)).collect()
    }
}

fn source_and(clauses: &[Clause<Source>], when: &[Clause<Source>], layer: Layer) -> rbac::Principal {
    let asked = clauses.iter().chain(when).filter(|clause| can_ask(layer, &clause.any, Source::needs_http));
    let ids = asked.map(|clause| {
        let any = clause.any.iter().map(|test| principal(source(test))).collect();
        let some = one_or(any, |ids| rbac::principal::Identifier::OrIds(rbac::principal::Set { ids }));
        if clause.negated {
            principal(rbac::principal::Identifier::NotId(Box::new(principal(some))))
        } else {
            principal(some)
        }
    });
    let ids: Vec<_> = ids.collect();
    principal(if ids.is_empty() {
        rbac::principal::Identifier::Any(true)
    } else {
        one_or(ids, |ids| rbac::principal::Identifier::AndIds(rbac::principal::Set { ids }))
    })
}

fn operation_and(
    clauses: &[Clause<Operation>],
    when: &[Clause<Operation>],
    port: u16,
    layer: Layer,
) -> Option<rbac::Permission> {
    let mut rules = Vec::new();
    for clause in
        clauses.iter().chain(when).filter(|clause| can_ask(layer, &clause.any, Operation::needs_http))
    {
        let mut any = Vec::new();
        let mut holds = false;
        for test in &clause.any {
            match test {
                Operation::Port(wanted) if port == ANY_PORT => any.push(permission(dialled(*wanted, layer))),
                // The port is known here: a host name as authority has no port to look at later.
                Operation::Port(wanted) => holds |= *wanted == port,
                Operation::Host(_) | Operation::Method { .. } | Operation::Path(_) => {
                    any.push(permission(operation(test)));
                }
            }
        }
        match (holds, any.is_empty(), clause.negated) {
            (true, _, true) | (false, true, false) => return None,
            (true, _, false) | (false, true, true) => {}
            (false, false, negated) => {
                let some =
                    one_or(any, |rules| rbac::permission::Rule::OrRules(rbac::permission::Set { rules }));
                rules.push(permission(if negated {
                    rbac::permission::Rule::NotRule(Box::new(permission(some)))
                } else {
                    some
                }));
            }
        }
    }
    Some(permission(if rules.is_empty() {
        rbac::permission::Rule::Any(true)
    } else {
        one_or(rules, |rules| rbac::permission::Rule::AndRules(rbac::permission::Set { rules }))
    }))
}

/// A denying rule asks a TCP connection what can be asked of it, and takes the rest as given.
fn can_ask<T>(layer: Layer, tests: &[T], needs_http: fn(&T) -> bool) -> bool {
    match layer {
        Layer::Http => true,
        Layer::Tcp => !tests.iter().any(needs_http),
    }
}

/// Whether it was that port, where only the tunnel tells.
fn dialled(port: u16, layer: Layer) -> rbac::permission::Rule {
    match layer {
        // Of the connection inside, which has the address that the tunnel is for.
        Layer::Http => rbac::permission::Rule::DestinationPort(u32::from(port)),
        Layer::Tcp => rbac::permission::Rule::Header(dispatch::to_port(port)),
    }
}

fn source(test: &Source) -> rbac::principal::Identifier {
    let identity = |pattern: &Pattern| {
        let matched = matcher::filter_state_matcher::Matcher::StringMatch(string(pattern, false));
        filter_state(PEER_PRINCIPAL, matched)
    };
    match test {
        Source::Identity(pattern) => identity(pattern),
        // Whoever binds a policy gives it its meaning in the mesh; without one it means what it says.
        Source::Trusted(trusted) => identity(&trusted.pattern()),
        // The connection's own peer is the internal listener, and X-Forwarded-For is the caller's
        // word; the address that the tunnel came from is in filter state.
        Source::Ip(block) => filter_state(
            REMOTE_ADDRESS,
            matcher::filter_state_matcher::Matcher::AddressMatch(matcher::AddressMatcher {
                ranges: vec![range(*block)],
                ..matcher::AddressMatcher::default()
            }),
        ),
        Source::Header { name, value } => rbac::principal::Identifier::Header(header(name, value, false)),
    }
}

fn operation(test: &Operation) -> rbac::permission::Rule {
    match test {
        Operation::Host(pattern) => rbac::permission::Rule::Header(header(":authority", pattern, true)),
        Operation::Method { value, any_case } => {
            rbac::permission::Rule::Header(header(":method", value, *any_case))
        }
        Operation::Path(pattern) => rbac::permission::Rule::UrlPath(matcher::PathMatcher {
            rule: Some(matcher::path_matcher::Rule::Path(string(pattern, false))),
        }),
        Operation::Port(port) => dialled(*port, Layer::Http),
    }
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

fn filter_state(key: &str, matcher: matcher::filter_state_matcher::Matcher) -> rbac::principal::Identifier {
    rbac::principal::Identifier::FilterState(matcher::FilterStateMatcher {
        key: key.to_owned(),
        matcher: Some(matcher),
    })
}

fn principal(identifier: rbac::principal::Identifier) -> rbac::Principal {
    rbac::Principal { identifier: Some(identifier) }
}

fn permission(rule: rbac::permission::Rule) -> rbac::Permission {
    rbac::Permission { rule: Some(rule) }
}

/// Unwraps the only item, so that the common rule stays small; several are joined.
fn one_or<T: Only>(mut items: Vec<T>, join: impl Fn(Vec<T>) -> T::Inner) -> T::Inner {
    if items.len() == 1
        && let Some(inner) = items.pop().and_then(Only::inner)
    {
        return inner;
    }
    join(items)
}

/// A message that holds just one alternative.
trait Only {
    type Inner;

    fn inner(self) -> Option<Self::Inner>;
}

impl Only for rbac::Principal {
    type Inner = rbac::principal::Identifier;

    fn inner(self) -> Option<Self::Inner> {
        self.identifier
    }
}

impl Only for rbac::Permission {
    type Inner = rbac::permission::Rule;

    fn inner(self) -> Option<Self::Inner> {
        self.rule
    }
}
