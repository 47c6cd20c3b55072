//! RBAC rules of Envoy, for the requests of one HTTP port or the tunnels of one TCP port.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use proto::{
    Name,
    envoy::{http_rbac, pack, rbac},
};

use super::{
    Action, Clause, Judgement, Operation, Rule, Source,
    matcher::{dialled, dialled_an_address, no_host_name, permission, principals},
};
use crate::{
    envoy::refusal::refusal,
    mesh::name::{ANY_PORT, Key},
};

/// What can be asked at the place where the rules run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Each request of an HTTP port.
    Http,
    /// The tunnel to a TCP port, before a byte of it flows.
    Tcp,
    /// The same, where the connection in it is judged again when the name that it asks for is known: here
    /// is refused what no name could save.
    Unnamed,
    /// The connection in such a tunnel, when the name is known.
    Named,
}

impl Layer {
    /// Whether it is a request that is judged.
    pub(crate) const fn is_http(self) -> bool {
        match self {
            Self::Http => true,
            Self::Tcp | Self::Unnamed | Self::Named => false,
        }
    }
}

/// The place where the rules run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    pub(crate) port: u16,
    /// The ports of the service by their names.
    pub(crate) names: &'a BTreeMap<Name, u16>,
    pub(crate) layer: Layer,
}

/// The filters of all policies together, in the order in which they run. `None`: no policy asks for it.
///
/// Some allowing rules of which none is left deny everything, as they must.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) audit: Option<http_rbac::Rbac>,
    pub(crate) deny: Option<http_rbac::Rbac>,
    pub(crate) allow: Option<http_rbac::Rbac>,
}

/// What Envoy puts in front of the names under which it says which policy a dry run or an audit found.
pub(crate) const DRY_RUN_DENY: &str = "istio_dry_run_deny_";
/// See [`DRY_RUN_DENY`].
pub(crate) const DRY_RUN_ALLOW: &str = "istio_dry_run_allow_";
/// See [`DRY_RUN_DENY`].
pub(crate) const AUDIT: &str = "audit_";

/// Compiles the policies that govern a port.
pub(crate) fn emit(policies: &[(Key, Arc<Judgement>)], at: At<'_>) -> Verdicts {
    let of = |action: Action, dry_run: bool| rules_of(policies, action, dry_run, at);
    let filter = |rules: Option<rbac::Rbac>, shadow: Option<rbac::Rbac>, prefix: &str| {
        (rules.is_some() || shadow.is_some()).then(|| http_rbac::Rbac {
            rules,
            shadow_rules_stat_prefix: shadow.as_ref().map(|_| prefix.to_owned()).unwrap_or_default(),
            shadow_rules: shadow,
            ..http_rbac::Rbac::default()
        })
    };
    let shadow = |action: Action, dry_run: bool| {
        // What is judged again is reported then.
        if at.layer == Layer::Unnamed { None } else { of(action, dry_run) }
    };
    Verdicts {
        // As rules that deny in the shadow and not as those that log: of these Envoy does not say which
        // one it was that matched.
        audit: filter(None, shadow(Action::Audit, false), AUDIT),
        deny: filter(of(Action::Deny, false), shadow(Action::Deny, true), DRY_RUN_DENY),
        allow: filter(of(Action::Allow, false), shadow(Action::Allow, true), DRY_RUN_ALLOW),
    }
}

/// As logs show it. What a CUSTOM policy denies by itself is told from what its provider denies.
pub(crate) fn rule_name(key: &Key, rule: &Rule, policy: &Judgement) -> String {
    let suffix = if policy.asks.is_some() { "-deny-due-to-bad-CUSTOM-action" } else { "" };
    format!("ns[{}]-policy[{}]-rule[{}]{suffix}", key.namespace, key.name, rule.index)
}

/// The rules of one action. `None` if they change nothing: no policies, or none that can match here.
fn rules_of(
    policies: &[(Key, Arc<Judgement>)],
    action: Action,
    dry_run: bool,
    at: At<'_>,
) -> Option<rbac::Rbac> {
    let attached: Vec<_> =
        policies.iter().filter(|(_, policy)| policy.action == action && policy.dry_run == dry_run).collect();
    let mut emitted = HashMap::new();
    for (key, policy) in &attached {
        for rule in &policy.rules {
            let name = rule_name(key, rule, policy);
            emitted.extend(emit_rule(rule, action, at).map(|rule| (name, rule)));
        }
    }
    let (matters, effect) = match action {
        // Rules that allow and cannot match allow nothing.
        Action::Allow => (!attached.is_empty(), rbac::rbac::Action::Allow),
        Action::Deny | Action::Audit => (!emitted.is_empty(), rbac::rbac::Action::Deny),
    };
    matters.then(|| rbac::Rbac { action: effect.into(), policies: emitted, ..rbac::Rbac::default() })
}

/// `None` for a rule that can never match here.
pub(super) fn emit_rule(rule: &Rule, action: Action, at: At<'_>) -> Option<rbac::Policy> {
    let Rule { index: _, from, to, when_source, when_operation } = rule;
    if is_void(rule, action, at) {
        return None;
    }
    let principals = alternatives(from, |source| Some(source_and(source, when_source, action, at)));
    let permissions = alternatives(to, |operation| operation_and(operation, when_operation, action, at));
    (!principals.is_empty() && !permissions.is_empty()).then_some(rbac::Policy {
        permissions,
        principals,
        ..rbac::Policy::default()
    })
}

/// Whether it matches nothing there, whatever it says.
pub(super) fn is_void(rule: &Rule, action: Action, at: At<'_>) -> bool {
    // Istio: an allowing rule that asks anything about HTTP allows no TCP connection.
    if !at.layer.is_http() && action.admits() && rule.needs_http() {
        return true;
    }
    let too_early = match at.layer {
        // Nobody will ever know the name.
        Layer::Tcp => action.admits(),
        // Who is admitted is not known yet, and who is refused even less.
        Layer::Unnamed => !action.admits(),
        Layer::Http | Layer::Named => false,
    };
    too_early && rule.asks_name()
}

/// Why Envoy would take the rule nowhere, or not everywhere.
pub(super) fn refused(rule: &Rule, action: Action) -> Option<String> {
    let names = BTreeMap::new();
    [Layer::Http, Layer::Tcp, Layer::Unnamed, Layer::Named].into_iter().find_map(|layer| {
        let policy = emit_rule(rule, action, At { port: ANY_PORT, names: &names, layer })?;
        refusal(&pack(&policy))
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

fn source_and(
    clauses: &[Clause<Source>],
    when: &[Clause<Source>],
    action: Action,
    at: At<'_>,
) -> rbac::Principal {
    let asked =
        clauses.iter().chain(when).filter(|clause| can_ask(at, &clause.any, Source::needs_http, |_| false));
    let ids = asked.map(|clause| {
        let mut any: Vec<_> = clause.any.iter().flat_map(|test| principals(test, at.layer)).collect();
        let dialled = clause.any.iter().any(|test| matches!(test, Source::DestinationIp(_)));
        // Where a name was dialled nothing is known of the address: a rule that refuses takes it for
        // one that is meant, and a rule that admits for none that is.
        if dialled && !action.admits() && !clause.negated {
            any.push(not_id(dialled_an_address()));
        }
        let some = any_of(any);
        match (clause.negated, dialled && action.admits()) {
            (false, _) => some,
            (true, false) => not_id(some),
            (true, true) => all_of(vec![dialled_an_address(), not_id(some)]),
        }
    });
    let ids: Vec<_> = ids.collect();
    if ids.is_empty() { id(rbac::principal::Identifier::Any(true)) } else { all_of(ids) }
}

fn operation_and(
    clauses: &[Clause<Operation>],
    when: &[Clause<Operation>],
    action: Action,
    at: At<'_>,
) -> Option<rbac::Permission> {
    let mut rules = Vec::new();
    let asked =
        |clause: &&Clause<Operation>| can_ask(at, &clause.any, Operation::needs_http, Operation::asks_name);
    for clause in clauses.iter().chain(when).filter(asked) {
        // The port is known here, but for pods that are dialled at any port.
        let holds = clause.any.iter().any(|test| is_port(test, at));
        let of_tunnel = clause.any.iter().filter_map(|test| Some(dialled(asked_port(test, at)?, at.layer)));
        let mut any: Vec<_> =
            clause.any.iter().filter_map(|test| permission(test, at.layer)).chain(of_tunnel).collect();
        // A name that is none of a host arrives changed. Where it counts against who asks for it, it counts.
        let names = at.layer == Layer::Named && clause.any.iter().any(Operation::asks_name);
        any.extend((names && action.admits() == clause.negated).then(no_host_name));
        match (holds, any.is_empty(), clause.negated) {
            (true, _, true) | (false, true, false) => return None,
            (true, _, false) | (false, true, true) => {}
            (false, false, negated) => {
                let some =
                    one_or(any, |rules| rbac::permission::Rule::OrRules(rbac::permission::Set { rules }));
                rules.push(rule(if negated {
                    rbac::permission::Rule::NotRule(Box::new(rule(some)))
                } else {
                    some
                }));
            }
        }
    }
    Some(rule(if rules.is_empty() {
        rbac::permission::Rule::Any(true)
    } else {
        one_or(rules, |rules| rbac::permission::Rule::AndRules(rbac::permission::Set { rules }))
    }))
}

/// Whether it asks for the port that we are at. A name that no port of the service has may mean any.
pub(super) fn is_port(test: &Operation, at: At<'_>) -> bool {
    match test {
        Operation::PortNamed(name) if !at.names.contains_key(name) => true,
        Operation::Port(_) | Operation::PortNamed(_) => {
            at.port != ANY_PORT && named_port(test, at) == Some(at.port)
        }
        Operation::Host(_) | Operation::Method { .. } | Operation::Path(_) | Operation::ServerName(_) => {
            false
        }
    }
}

/// The port that has to be asked for at run time.
pub(super) fn asked_port(test: &Operation, at: At<'_>) -> Option<u16> {
    named_port(test, at).filter(|_| at.port == ANY_PORT)
}

fn named_port(test: &Operation, at: At<'_>) -> Option<u16> {
    match test {
        Operation::Port(port) => Some(*port),
        Operation::PortNamed(name) => at.names.get(name).copied(),
        Operation::Host(_) | Operation::Method { .. } | Operation::Path(_) | Operation::ServerName(_) => None,
    }
}

/// A rule that refuses asks a TCP connection what can be asked of it, and takes the rest as given; one
/// that admits takes as given what is asked later.
pub(super) fn can_ask<T>(
    at: At<'_>,
    tests: &[T],
    needs_http: fn(&T) -> bool,
    asks_name: fn(&T) -> bool,
) -> bool {
    match at.layer {
        Layer::Http => true,
        Layer::Tcp | Layer::Unnamed => !tests.iter().any(|test| needs_http(test) || asks_name(test)),
        Layer::Named => !tests.iter().any(needs_http),
    }
}

fn any_of(ids: Vec<rbac::Principal>) -> rbac::Principal {
    id(one_or(ids, |ids| rbac::principal::Identifier::OrIds(rbac::principal::Set { ids })))
}

fn all_of(ids: Vec<rbac::Principal>) -> rbac::Principal {
    id(one_or(ids, |ids| rbac::principal::Identifier::AndIds(rbac::principal::Set { ids })))
}

fn not_id(principal: rbac::Principal) -> rbac::Principal {
    id(rbac::principal::Identifier::NotId(Box::new(principal)))
}

const fn id(identifier: rbac::principal::Identifier) -> rbac::Principal {
    rbac::Principal { identifier: Some(identifier) }
}

const fn rule(rule: rbac::permission::Rule) -> rbac::Permission {
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

#[cfg(test)]
mod tests {
    use super::{super::Source, *};
    use crate::{mesh::pattern::Pattern, problem::FieldPath};

    fn asking(name: &str) -> Rule {
        let value = Pattern::Exact("x".to_owned());
        let test = Source::Header { name: name.to_owned(), value, any_case: false };
        let clause = Clause {
            at: FieldPath::new("spec"),
            any: vec![test],
            written: vec!["x".to_owned()],
            negated: false,
        };
        Rule { when_source: vec![clause], ..Rule::default() }
    }

    /// Reading a policy lets no such name through; this is the net below.
    #[test]
    fn a_rule_that_envoy_would_reject_is_told_from_one_that_it_takes() {
        for action in [Action::Allow, Action::Deny, Action::Audit] {
            assert_eq!(refused(&asking("x-role"), action), None);
            let why = refused(&asking("x-ro\nle"), action).unwrap_or_default();
            assert!(why.contains("has to match"), "{why}");
        }
    }
}
