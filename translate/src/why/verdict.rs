//! What the policies of a port say of a request, or of a tunnel, in the order in which a waypoint asks them.

use std::{cmp::Reverse, sync::Arc};

use proto::{Kind, ObjectRef};

use super::{
    Inquiry,
    answer::{Asked, Because, Matched, Nearest, Refusal, Reported, Token, Would},
};
use crate::{
    bind::asked_of,
    derive::Reads,
    envoy::route_config::PortConfig,
    mesh::name::{Key, PortKey},
    policy::{
        authentication::{self, Check, KeySource, Keys, judge::Token as Judged},
        authorization::{
            Action, At, Judgement, Layer, Rule, custom,
            facts::{Facts, Field, Inside, Truth},
            judge::Judge,
            rule_name,
        },
    },
};

/// What one layer of policies says.
pub(super) struct Stage {
    pub(super) because: Because,
    pub(super) asked: Vec<Asked>,
    pub(super) token: Option<Token>,
    pub(super) reported: Vec<Reported>,
}

/// Fields of which it is not known whether they hold, each with its policy.
pub(super) type Doubts = Vec<(ObjectRef, Field)>;

/// Rules of one action that match, by the names that Envoy has for them, and its order.
type Matches<'m> = Vec<(String, &'m Key, &'m Judgement, Rule)>;

/// The policies of a port, and what is asked of them.
#[derive(Clone, Copy)]
pub(super) struct Bench<'m> {
    pub(super) inquiry: &'m Inquiry<'m>,
    pub(super) config: &'m PortConfig,
    pub(super) key: &'m PortKey,
    pub(super) now: i64,
}

impl Bench<'_> {
    /// What becomes of it at that layer. What cannot be told is no answer.
    pub(super) fn stage(self, layer: Layer, facts: &Facts<'_>) -> Result<Stage, Doubts> {
        let at = self.config.at(self.key.port, layer);
        let (asked, mut doubts) = self.asked(layer, facts);
        let stage = |because, asked, token, reported| Stage { because, asked, token, reported };
        let (token, claims) = self.token(layer, facts);
        if let Some(Token::Refused(refusal)) = &token {
            return Ok(stage(Because::Token(refusal.clone()), Vec::new(), token, Vec::new()));
        }
        let mut facts = facts.clone();
        if let Inside::Request(seen) = &mut facts.inside {
            seen.claims = claims;
        }
        let facts = &facts;
        let judging = self.config.policies.judging(layer);
        let of = |action: Action, dry_run: bool| -> Vec<(Key, Arc<Judgement>)> {
            let of = |one: &&(Key, Arc<Judgement>)| one.1.action == action && one.1.dry_run == dry_run;
            judging.iter().filter(of).cloned().collect()
        };
        let whole = |rule: &Rule| rule.clone();
        let matching = |policies: &[(Key, Arc<Judgement>)], action| {
            let (matches, doubts) = self.matching(policies, action, at, facts, whole);
            (self.decisive(matches, action, at, facts), doubts)
        };
        let mut reported = Vec::new();
        let mut report = |matched: Option<Matched>, would| {
            reported.extend(matched.map(|it| Reported { policy: it.policy, rule: Some(it.rule), would }));
        };
        // What is judged again is reported then.
        let reports = layer != Layer::Unnamed;
        if reports {
            report(matching(&of(Action::Audit, false), Action::Audit).0, Would::Audit);
            report(matching(&of(Action::Deny, true), Action::Deny).0, Would::Deny);
        }
        let (denied, unsure) = matching(&of(Action::Deny, false), Action::Deny);
        if let Some(matched) = denied {
            return Ok(stage(Because::Denied(matched), asked, token, reported));
        }
        doubts.extend(unsure);
        let tried = if reports { of(Action::Allow, true) } else { Vec::new() };
        match (matching(&tried, Action::Allow), tried.first()) {
            ((Some(matched), _), _) => report(Some(matched), Would::Allow),
            ((None, unsure), Some((first, _))) if unsure.is_empty() => {
                reported.push(Reported { policy: policy(first), rule: None, would: Would::Allow });
            }
            ((None, _), _) => {}
        }
        let allowing = of(Action::Allow, false);
        let (allowed, unsure) = matching(&allowing, Action::Allow);
        let because = match allowed {
            Some(matched) => Because::Allowed(matched),
            None if allowing.is_empty() => Because::NothingAsked,
            None if unsure.is_empty() => {
                let nearest =
                    |(key, judgement): &(Key, Arc<Judgement>)| self.nearest(key, judgement, at, facts);
                let because = Because::NoneAllows(allowing.iter().map(nearest).collect());
                return Ok(stage(because, asked, token, reported));
            }
            None => {
                doubts.extend(unsure);
                return Err(doubts);
            }
        };
        if doubts.is_empty() { Ok(stage(because, asked, token, reported)) } else { Err(doubts) }
    }

    /// The rules that match, and what is not known of the others.
    fn matching<'p>(
        self,
        policies: &'p [(Key, Arc<Judgement>)],
        action: Action,
        at: At<'_>,
        facts: &Facts<'_>,
        asked: impl Fn(&Rule) -> Rule,
    ) -> (Matches<'p>, Doubts) {
        let judge = Judge { action, at, facts, expressions: &self.inquiry.expressions };
        let (mut matches, mut doubts) = (Vec::new(), Vec::new());
        for (key, judgement) in policies {
            for rule in judgement.rules.iter().map(&asked) {
                match judge.matches(&rule) {
                    Truth::No => {}
                    Truth::Yes => matches.push((rule_name(key, &rule, judgement), key, &**judgement, rule)),
                    Truth::Unknown => {
                        let unknown = judge.misses(&rule).into_iter().filter(|field| field.needs.is_some());
                        doubts.extend(unknown.map(|field| (policy(key), field)));
                    }
                }
            }
        }
        matches.sort_by(|one, other| one.0.cmp(&other.0));
        (matches, doubts)
    }

    /// Who is asked there, and what it cannot be told for.
    fn asked(self, layer: Layer, facts: &Facts<'_>) -> (Vec<Asked>, Doubts) {
        // About a tunnel somebody is asked when it is to be opened, before its server name is known.
        let layer = match layer {
            Layer::Http => Layer::Http,
            Layer::Tcp | Layer::Unnamed => Layer::Tcp,
            Layer::Named => return (Vec::new(), Doubts::default()),
        };
        let at = self.config.at(self.key.port, layer);
        let (mut asked, mut doubts) = (Vec::new(), Doubts::default());
        for one in self.config.policies.asked_at(layer) {
            let (matches, unsure) = self.matching(&one.policies, Action::Deny, at, facts, custom::at_first);
            doubts.extend(unsure);
            let Some(rule) = self.decisive(matches, Action::Deny, at, facts) else { continue };
            let service = one.port(&self.key.waypoint);
            let domain = &self.inquiry.mesh.settings.cluster_domain;
            asked.push(Asked {
                provider: one.name.clone(),
                service: format!("{}:{}", service.service.host(domain), service.port),
                fail_open: one.provider.fail_open,
                rule,
            });
        }
        (asked, doubts)
    }

    /// The rule that makes the verdict: the first by its name, which is the one in Envoy's logs.
    fn decisive(
        self,
        matches: Matches<'_>,
        action: Action,
        at: At<'_>,
        facts: &Facts<'_>,
    ) -> Option<Matched> {
        let judge = Judge { action, at, facts, expressions: &self.inquiry.expressions };
        let mut matches = matches.into_iter();
        let (_, key, judgement, rule) = matches.next()?;
        Some(Matched {
            policy: policy(key),
            rule: rule.index,
            fields: judge.because(&rule),
            given: given(judgement, &rule, at.layer),
            unasked: judgement.asks.as_ref().filter(|_| !self.is_asked(key, at.layer)).map(|name| {
                let resolved = asked_of::resolve(&Reads::default(), &self.inquiry.mesh.inputs, name);
                let known = || self.config.policies.asked.iter().find(|asked| asked.name == *name);
                resolved.err().or_else(|| known().map(custom::unheard)).unwrap_or_default()
            }),
            problems: self.problems(key),
            also: matches.map(|(_, key, _, rule)| (policy(key), rule.index)).collect(),
        })
    }

    fn is_asked(self, key: &Key, layer: Layer) -> bool {
        let mut asked = self.config.policies.asked_at(layer).into_iter().flat_map(|asked| &asked.policies);
        asked.any(|(policy, _)| policy == key)
    }

    fn nearest(self, key: &Key, judgement: &Judgement, at: At<'_>, facts: &Facts<'_>) -> Nearest {
        let judge = Judge { action: Action::Allow, at, facts, expressions: &self.inquiry.expressions };
        let rules = judgement.rules.iter().map(|rule| {
            let (missed, held) = (judge.misses(rule), judge.because(rule));
            (rule.index, missed, held.len())
        });
        // What fails in as few fields holds in more.
        let nearest = rules.min_by_key(|(_, missed, held)| (missed.len(), Reverse(*held)));
        let nearest = nearest.map(|(rule, missed, _)| (rule, missed));
        let (rule, missed) = nearest.map_or((None, Vec::new()), |(rule, missed)| (Some(rule), missed));
        Nearest { policy: policy(key), rule, missed, problems: self.problems(key) }
    }

    fn problems(self, key: &Key) -> Vec<String> {
        let policy = self.inquiry.mesh.inputs.authorizations.untracked().get(key);
        policy.into_iter().flat_map(|policy| &policy.problems).map(ToString::to_string).collect()
    }

    /// What the tokens of a request come to, and what the one says that counts.
    fn token(
        self,
        layer: Layer,
        facts: &Facts<'_>,
    ) -> (Option<Token>, Option<serde_json::Map<String, serde_json::Value>>) {
        let checks = &self.config.policies.checks;
        let (Inside::Request(seen), Layer::Http, false) = (&facts.inside, layer, checks.is_empty()) else {
            return (None, None);
        };
        let keyless = |check: &Check| self.keyless(check);
        // Until somebody has read the token, its claims are what it says.
        let judged = authentication::judge::judge(checks, seen, seen.claims.as_ref(), self.now, keyless);
        match judged {
            Judged::Missing => (Some(Token::Missing), None),
            Judged::Taken { claims, rule } => {
                let text =
                    |name: &str| claims.get(name).and_then(|it| it.as_str()).unwrap_or_default().to_owned();
                let policy = checks.get(rule).and_then(|(check, _)| self.written(check));
                let taken = Token::Taken { policy, issuer: text("iss"), subject: text("sub") };
                (Some(taken), Some(claims))
            }
            Judged::Refused { status, why, rule } => {
                let policy = checks.get(rule).and_then(|(check, _)| self.written(check));
                (Some(Token::Refused(Refusal { policy, status, why })), None)
            }
        }
    }

    /// The policy that has the rule.
    fn written(self, check: &Check) -> Option<ObjectRef> {
        let policies = self.inquiry.mesh.inputs.authentications.untracked();
        let mut has = policies.iter().filter(|(_, row)| row.rules.iter().any(|rule| *rule.check == *check));
        has.next().map(|(key, _)| key.reference(Kind::RequestAuthentication))
    }

    /// Why a rule without keys takes no token. Keys that nobody was told to fetch are no reason.
    fn keyless(self, check: &Check) -> Option<String> {
        let inputs = &self.inquiry.mesh.inputs;
        let rules = inputs.authentications.untracked().values().flat_map(|row| &row.rules);
        let source = |keys: &Keys| -> Option<KeySource> {
            match keys {
                Keys::Fetched { source, .. } => Some(source.clone()),
                Keys::Inline(_) => None,
            }
        };
        let mut sources = rules.filter(|rule| *rule.check == *check).filter_map(|rule| source(&rule.keys));
        match sources.next() {
            Some(source) => {
                let fetched = inputs.keys.untracked().get(&source)?;
                let why = fetched.failure.clone().unwrap_or_else(|| "none yet".to_owned());
                Some(format!("there are no keys from {source}: {why}"))
            }
            None => Some("the rule has a mistake, or no keys that can be used".to_owned()),
        }
    }
}

fn policy(key: &Key) -> ObjectRef {
    key.reference(Kind::AuthorizationPolicy)
}

/// The fields of a rule that are taken as given at that layer.
fn given(judgement: &Judgement, rule: &Rule, layer: Layer) -> Vec<String> {
    let early = custom::too_early(judgement).map(ToString::to_string);
    let of_rule = format!("spec.rules[{}].", rule.index);
    let early = early.filter(|at| at.starts_with(&of_rule) && layer == Layer::Http);
    let inside = rule.inside_only().filter(|_| !layer.is_http() && !judgement.action.admits());
    early.chain(inside.map(ToString::to_string)).collect()
}
