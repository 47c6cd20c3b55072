//! From the manifest to rules that fail closed.
//!
//! What cannot be read or is not supported makes an ALLOW rule vanish and a DENY condition hold:
//! a mistake always denies more, never less, and is a problem with its place.

use std::sync::Arc;

use proto::{Name, mesh_api};
use serde_json::Value;

use super::{
    Action, Authorization, Clause, Judgement, Operation, Rule, Source, Trusted, claims, custom,
    emit::refused,
    source::{
        OPERATION_KEYS, OPERATIONS, Place, Read, SOURCE_KEYS, SOURCES, header, header_name, metadata,
        metadata_key,
    },
};
use crate::{
    fields::{Fields, Problems, kind},
    mesh::labels,
    policy::target,
    problem::{FieldPath, Problem, Reason},
};

/// Reads a policy. There is always one to enforce: at worst it denies everything to its targets.
pub(crate) fn lower(object: &mesh_api::AuthorizationPolicy) -> Authorization {
    let mut problems = Problems::default();
    let namespace: Name = object.metadata.namespace.as_deref().unwrap_or_default().into();
    let spec = Fields::read(Some(&object.spec), FieldPath::new("spec"), &mut problems);
    spec.only(&["selector", "targetRef", "targetRefs", "action", "provider", "rules"], &mut problems);
    let targets = target::lower(&spec, &namespace, &mut problems);
    let reading = lower_action(&spec, &mut problems);
    let dry_run = is_dry_run(object, reading, &mut problems);
    let (action, mut rules) = match reading {
        Reading::Rules(action) => {
            let place = Place { namespace: &namespace, refuses: false, remarks: Vec::new() };
            lower_rules(&spec, action, place, &mut problems)
        }
        // One rule without conditions matches everything.
        Reading::DenyEverything => (Action::Deny, vec![Rule::default()]),
    };
    let asks = custom::lower(&spec, &mut problems);
    if dry_run && asks.is_some() {
        let at = FieldPath::new("metadata").field("annotations").field(labels::DRY_RUN);
        problems.invalid(&at, "nobody is asked on trial, so the policy does nothing");
        rules.clear();
    }
    Authorization {
        generation: object.metadata.generation,
        targets,
        targeted: target::names_any(&spec),
        judgement: Arc::new(Judgement { action, dry_run, rules, asks }),
        problems: problems.0,
    }
}

/// What the action lets us do with the rules.
#[derive(Clone, Copy)]
enum Reading {
    Rules(Action),
    DenyEverything,
}

fn lower_action(spec: &Fields<'_>, problems: &mut Problems) -> Reading {
    let at = spec.at.field("action");
    let Some(value) = spec.get("action") else { return Reading::Rules(Action::Allow) };
    match value.as_str() {
        Some("ALLOW") => Reading::Rules(Action::Allow),
        // What a provider is asked about is denied where nobody can be asked.
        Some("DENY" | "CUSTOM") => Reading::Rules(Action::Deny),
        Some("AUDIT") => Reading::Rules(Action::Audit),
        Some(other) => {
            problems.invalid(
                &at,
                format!("{other:?} is not ALLOW, DENY, AUDIT or CUSTOM, so everything is denied"),
            );
            Reading::DenyEverything
        }
        None => {
            problems.invalid(&at, format!("expected a string, not {}, so everything is denied", kind(value)));
            Reading::DenyEverything
        }
    }
}

/// As Go's ParseBool; what it cannot read is enforced.
fn is_dry_run(object: &mesh_api::AuthorizationPolicy, reading: Reading, problems: &mut Problems) -> bool {
    let Some(text) = labels::annotation(&object.metadata, labels::DRY_RUN) else { return false };
    let at = FieldPath::new("metadata").field("annotations").field(labels::DRY_RUN);
    match (text, reading) {
        ("0" | "f" | "F" | "false" | "FALSE" | "False", _) => false,
        ("1" | "t" | "T" | "true" | "TRUE" | "True", Reading::Rules(Action::Allow | Action::Deny)) => true,
        ("1" | "t" | "T" | "true" | "TRUE" | "True", Reading::Rules(Action::Audit)) => {
            problems.invalid(&at, "an audit changes no verdict, so there is nothing to try; it audits");
            false
        }
        ("1" | "t" | "T" | "true" | "TRUE" | "True", Reading::DenyEverything) => {
            problems.invalid(&at, "nothing to try without an action; everything is denied");
            false
        }
        (other, _) => {
            problems.invalid(&at, format!("{other:?} is not true or false, so the policy is enforced"));
            false
        }
    }
}

fn lower_rules(
    spec: &Fields<'_>,
    action: Action,
    mut place: Place<'_>,
    problems: &mut Problems,
) -> (Action, Vec<Rule>) {
    let before = problems.0.len();
    let items = spec.list("rules", problems).unwrap_or_default();
    if problems.0.len() > before {
        // `rules` is not a list at all. Rules that allow nothing would let another policy allow.
        let action = match action {
            Action::Allow | Action::Deny => Action::Deny,
            Action::Audit => Action::Audit,
        };
        return (action, vec![Rule::default()]);
    }
    let mut rules = Vec::new();
    for (index, (value, at)) in items.into_iter().enumerate() {
        let before = problems.0.len();
        let mut rule = lower_rule(index, value, at.clone(), action, &mut place, problems);
        if let Some(why) = refused(&rule, action) {
            problems.invalid(&at, format!("Envoy does not take what follows from it ({why})"));
            // Without conditions it matches everything.
            rule = Rule { index, ..Rule::default() };
        }
        let broken = problems.0.len() > before;
        problems.0.append(&mut place.remarks);
        match action {
            Action::Allow if broken => {}
            Action::Allow | Action::Deny | Action::Audit => rules.push(rule),
        }
    }
    (action, rules)
}

fn lower_rule(
    index: usize,
    value: &Value,
    at: FieldPath,
    action: Action,
    place: &mut Place<'_>,
    problems: &mut Problems,
) -> Rule {
    let fields = Fields::read(Some(value), at, problems);
    fields.only(&["from", "to", "when"], problems);
    let mut rule = Rule { index, ..Rule::default() };
    for (value, at) in fields.list("from", problems).unwrap_or_default() {
        let entry = Fields::read(Some(value), at, problems);
        entry.only(&["source"], problems);
        let source = Fields::read(entry.get("source"), entry.at.field("source"), problems);
        rule.from.push(lower_clauses(&source, &SOURCES, action, place, problems));
    }
    for (value, at) in fields.list("to", problems).unwrap_or_default() {
        let entry = Fields::read(Some(value), at, problems);
        entry.only(&["operation"], problems);
        let operation = Fields::read(entry.get("operation"), entry.at.field("operation"), problems);
        rule.to.push(lower_clauses(&operation, &OPERATIONS, action, place, problems));
    }
    for (value, at) in fields.list("when", problems).unwrap_or_default() {
        lower_condition(&Fields::read(Some(value), at, problems), action, place, &mut rule, problems);
    }
    rule
}

/// The fields of a source or an operation: each is a clause, each has a `not` form.
fn lower_clauses<T: Test>(
    fields: &Fields<'_>,
    known: &[(&str, Read<T>)],
    action: Action,
    place: &mut Place<'_>,
    problems: &mut Problems,
) -> Vec<Clause<T>> {
    let mut clauses = Vec::new();
    for name in fields.names() {
        let positive = known.iter().find(|(field, _)| *field == name);
        let negative = known.iter().find(|(field, _)| negated_name(field) == name);
        let Some((_, read)) = positive.or(negative) else {
            problems.unsupported(&fields.at.field(name), "this field is not supported yet or does not exist");
            continue;
        };
        let negated = positive.is_none();
        place.refuses = action.admits() == negated;
        clauses.extend(lower_clause(fields, name, negated, read, place, problems));
    }
    clauses
}

/// As in `notPaths`.
fn negated_name(field: &str) -> String {
    let mut letters = field.chars();
    letters
        .next()
        .map_or_else(String::new, |first| format!("not{}{}", first.to_ascii_uppercase(), letters.as_str()))
}

/// A value of a rule.
trait Test {
    /// What there is to say of it although it could be read; a rule that admits must not be held to it.
    fn doubt(&self) -> Option<String>;

    /// What there is to say of it, and it holds all the same.
    fn remark(&self) -> Option<&'static str>;
}

impl Test for Source {
    fn doubt(&self) -> Option<String> {
        None
    }

    fn remark(&self) -> Option<&'static str> {
        match self {
            Self::Trusted(Trusted::Uri { refuses: false, .. }) => {
                Some("this matches nobody; write it without spiffe://")
            }
            Self::Trusted(Trusted::Uri { refuses: true, .. }) => {
                Some("taken for the principal without spiffe://; write it so")
            }
            Self::Trusted(Trusted::Principal(_) | Trusted::Domain(_))
            | Self::Identity(_)
            | Self::Meant(_)
            | Self::Ip(_)
            | Self::RemoteIp(_)
            | Self::DestinationIp(_)
            | Self::Header { .. }
            | Self::Metadata { .. }
            | Self::Claims(_) => None,
        }
    }
}

impl Test for Operation {
    fn remark(&self) -> Option<&'static str> {
        None
    }

    fn doubt(&self) -> Option<String> {
        if let Self::PortNamed(name) = self {
            return Some(format!(
                "{name:?} is no number; refused is the port of that name, and every port if none has it"
            ));
        }
        None
    }
}

/// `None` where a value cannot be read: to leave the condition out is to let it hold, which is what
/// a rule that denies must do, and a rule that allows is dropped for the problem anyway.
fn lower_clause<T: Test>(
    fields: &Fields<'_>,
    name: &str,
    negated: bool,
    read: impl Fn(&Place<'_>, &str) -> Result<T, String>,
    place: &mut Place<'_>,
    problems: &mut Problems,
) -> Option<Clause<T>> {
    let before = problems.0.len();
    let items = fields.list(name, problems)?;
    let mut unread = problems.0.len() > before;
    let (mut any, mut texts) = (Vec::new(), Vec::new());
    for (value, at) in items {
        let written = value.as_str().ok_or_else(|| format!("expected a string, not {}", kind(value)));
        match written.and_then(|text| read(place, text)) {
            Ok(test) => {
                let said = |message: String| Problem { at, reason: Reason::Invalid, message };
                match (test.doubt(), test.remark()) {
                    (Some(doubt), _) => problems.0.push(said(doubt)),
                    (None, Some(remark)) => place.remarks.push(said(remark.to_owned())),
                    (None, None) => {}
                }
                any.push(test);
                texts.extend(value.as_str().map(str::to_owned));
            }
            Err(message) => {
                problems.invalid(&at, message);
                unread = true;
            }
        }
    }
    // An empty list is a field that was not set.
    let clause = Clause { at: fields.at.field(name), any, written: texts, negated };
    (!unread && !clause.any.is_empty()).then_some(clause)
}

fn lower_condition(
    fields: &Fields<'_>,
    action: Action,
    place: &mut Place<'_>,
    rule: &mut Rule,
    problems: &mut Problems,
) {
    fields.only(&["key", "values", "notValues"], problems);
    let key = fields.string("key", problems).unwrap_or_default();
    let at = fields.at.field("key");
    let listed = |name| fields.get(name).and_then(Value::as_array).is_none_or(|values| !values.is_empty());
    let given = |name| fields.get(name).is_some() && listed(name);
    if !given("values") && !given("notValues") {
        problems.invalid(&fields.at, "a condition needs values or notValues");
        return;
    }
    let forms = [("values", false), ("notValues", true)];
    let source = |place: &mut Place<'_>, rule: &mut Rule, problems: &mut Problems, read: &ReadSource<'_>| {
        for (name, negated) in forms {
            place.refuses = action.admits() == negated;
            rule.when_source.extend(lower_clause(fields, name, negated, read, place, problems));
        }
    };
    if let Some(name) = header_name(key) {
        match name {
            Ok(name) => source(place, rule, problems, &|place, text| header(place, &name, text)),
            Err(message) => problems.invalid(&at, message),
        }
    } else if let Some(path) = claims::claim_key(key) {
        match path {
            Ok(path) => source(place, rule, problems, &|_, text| claims::claim(&path, text)),
            Err(message) => problems.invalid(&at, message),
        }
    } else if let Some(named) = metadata_key(key) {
        match named {
            Ok((filter, key)) => source(place, rule, problems, &|_, text| metadata(filter, key, text)),
            Err(message) => problems.invalid(&at, message),
        }
    } else if let Some((_, read)) = SOURCE_KEYS.iter().find(|(known, _)| *known == key) {
        source(place, rule, problems, read);
    } else if let Some((_, read)) = OPERATION_KEYS.iter().find(|(known, _)| *known == key) {
        for (name, negated) in forms {
            place.refuses = action.admits() == negated;
            rule.when_operation.extend(lower_clause(fields, name, negated, read, place, problems));
        }
    } else {
        problems.unsupported(&at, format!("condition {key:?} is not supported yet or does not exist"));
    }
}

type ReadSource<'r> = dyn Fn(&Place<'_>, &str) -> Result<Source, String> + 'r;
