//! The verdict on a request, and what made it.

use std::collections::BTreeSet;

use super::{
    field::{Kind, Term},
    policy::{Action, Policy, Rule},
    request::{Body, Request},
};

/// What becomes of a request that is well formed and whose token, if any, is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is passed on.
    Allow,
    /// It is refused.
    Deny,
}

/// A verdict and what made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// What made it.
    pub because: Because,
}

/// What made a verdict. A rule is named `ns[namespace]-policy[name]-rule[place]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// No policy that allows is attached, and none denies.
    NothingAsked,
    /// One of these rules allows; there is at least one.
    Allowed(BTreeSet<String>),
    /// One of these rules denies; there is at least one.
    Denied(BTreeSet<String>),
    /// Policies that allow are attached, and no rule of theirs matches.
    NoneAllowed,
    /// Rules ask providers that the mesh does not have, or that cannot be asked about connections.
    NoProvider(BTreeSet<String>),
    /// A provider that a rule asks denies.
    Refused(String),
}

/// Judges a request by the policies that are attached to what it asks for.
///
/// `inverted` turns the outcome of one kind of field around, to find out whether it mattered.
pub fn judge(policies: &[&Policy], request: &Request, inverted: Option<(Kind, bool)>) -> Decision {
    let of =
        |action: Action| policies.iter().filter(move |policy| policy.enforced && policy.action == action);
    let matched = |action: Action| {
        of(action)
            .flat_map(|policy| matched_of(policy, request, When::AfterAll, inverted))
            .collect::<BTreeSet<_>>()
    };
    let deny = |because| Decision { verdict: Verdict::Deny, because };
    // In the order of their names, and the first that denies has the word. Where there is nobody to
    // ask, what would be asked about is denied with all else that is, after those who can be asked.
    let names: BTreeSet<&str> = of(Action::Custom).map(|policy| policy.provider_name()).collect();
    let mut nobody = BTreeSet::new();
    for name in names {
        let answer = request.answers.get(name).filter(|answer| answer.of_connections || !is_tcp(request));
        let when = if answer.is_some() { When::BeforeTokens } else { When::AfterAll };
        let of_provider = of(Action::Custom).filter(|policy| policy.provider_name() == name);
        let asking = of_provider.flat_map(|policy| matched_of(policy, request, when, inverted));
        match answer {
            None => nobody.extend(asking),
            Some(answer) if answer.allows || asking.count() == 0 => {}
            Some(_) => return deny(Because::Refused(name.to_owned())),
        }
    }
    if !nobody.is_empty() {
        return deny(Because::NoProvider(nobody));
    }
    let denied = matched(Action::Deny);
    if !denied.is_empty() {
        return deny(Because::Denied(denied));
    }
    if of(Action::Allow).next().is_none() {
        return Decision { verdict: Verdict::Allow, because: Because::NothingAsked };
    }
    let allowed = matched(Action::Allow);
    if allowed.is_empty() {
        return deny(Because::NoneAllowed);
    }
    Decision { verdict: Verdict::Allow, because: Because::Allowed(allowed) }
}

/// When a rule is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before tokens are read, other filters have run and a connection has told its name, to ask a provider.
    BeforeTokens,
    /// When everything is known.
    AfterAll,
}

/// The names of a policy's rules that match.
fn matched_of(policy: &Policy, request: &Request, when: When, inverted: Option<(Kind, bool)>) -> Vec<String> {
    let rules = policy.rules.iter().filter(|rule| matches(rule, policy.action, request, when, inverted));
    rules.map(|rule| format!("{}-rule[{}]", policy.id, rule.index)).collect()
}

fn is_tcp(request: &Request) -> bool {
    matches!(request.body, Body::Tcp { .. })
}

fn matches(
    rule: &Rule,
    action: Action,
    request: &Request,
    when: When,
    inverted: Option<(Kind, bool)>,
) -> bool {
    let is_tcp = is_tcp(request);
    let mut terms = rule.sources.iter().chain(&rule.operations).flatten().chain(&rule.conditions);
    // Of a connection nothing is known that a request would say: a rule that allows cannot hold, and
    // one that does not allow holds whatever is said.
    if is_tcp && action == Action::Allow && terms.any(|term| term.kind.is_http()) {
        return false;
    }
    let holds = |term: &Term| {
        let inverted = inverted == Some((term.kind, term.negated));
        let late = term.kind.is_late() || is_tcp && term.kind == Kind::Sni;
        let unknown = is_tcp && term.kind.is_http() || when == When::BeforeTokens && late;
        unknown || term.holds(request) != inverted
    };
    let one_of = |alternatives: &[Vec<Term>]| {
        alternatives.is_empty() || alternatives.iter().any(|terms| terms.iter().all(holds))
    };
    one_of(&rule.sources) && one_of(&rule.operations) && rule.conditions.iter().all(holds)
}

impl Policy {
    /// The kinds of fields that it has, with whether they are negative.
    pub fn kinds(&self) -> BTreeSet<(Kind, bool)> {
        let rules = self.rules.iter();
        let terms = rules
            .flat_map(|rule| rule.sources.iter().chain(&rule.operations).flatten().chain(&rule.conditions));
        terms.map(|term| (term.kind, term.negated)).collect()
    }
}
