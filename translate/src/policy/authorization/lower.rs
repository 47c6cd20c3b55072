//! From the manifest to rules that fail closed.
//!
//! What cannot be read or is not supported makes an ALLOW rule vanish and a DENY condition hold:
//! a mistake always denies more, never less, and is a problem with its place.

use std::sync::Arc;

use proto::{Kind, Name, mesh_api};
use serde_json::Value;

use super::{
    Action, Authorization, Clause, Judgement, Rule, Source, Target, custom,
    source::{OPERATIONS, Place, Read, SOURCE_KEYS, SOURCES, bounded, header_name, port},
};
use crate::{
    fields::{Fields, Problems, kind},
    mesh::{labels, name::Key, pattern::Pattern},
    problem::FieldPath,
};

/// Reads a policy. There is always one to enforce: at worst it denies everything to its targets.
pub(crate) fn lower(object: &mesh_api::AuthorizationPolicy) -> Authorization {
    let mut problems = Problems::default();
    let namespace: Name = object.metadata.namespace.as_deref().unwrap_or_default().into();
    let spec = Fields::read(Some(&object.spec), FieldPath::new("spec"), &mut problems);
    spec.only(&["selector", "targetRef", "targetRefs", "action", "provider", "rules"], &mut problems);
    let targets = lower_targets(&spec, &namespace, &mut problems);
    let reading = lower_action(&spec, &mut problems);
    let enforced = !is_dry_run(object, &mut problems);
    let rules = match reading {
        Reading::Rules(action) => {
            let place = Place { namespace: &namespace, any_case: false };
            lower_rules(&spec, action, place, &mut problems)
        }
        // One rule without conditions matches everything.
        Reading::DenyEverything => vec![Rule::default()],
        Reading::NoVerdict => Vec::new(),
    };
    let action = match reading {
        Reading::Rules(action) => enforced.then_some(action),
        Reading::DenyEverything => Some(Action::Deny),
        Reading::NoVerdict => None,
    };
    let asks = custom::lower(&spec, &mut problems);
    Authorization {
        generation: object.metadata.generation,
        targets,
        targeted: spec.get("targetRefs").is_some() || spec.get("targetRef").is_some(),
        judgement: Arc::new(Judgement { action, rules, asks }),
        problems: problems.0,
    }
}

/// What the action lets us do with the rules.
#[derive(Clone, Copy)]
enum Reading {
    Rules(Action),
    DenyEverything,
    NoVerdict,
}

fn lower_action(spec: &Fields<'_>, problems: &mut Problems) -> Reading {
    let at = spec.at.field("action");
    let Some(value) = spec.get("action") else { return Reading::Rules(Action::Allow) };
    match value.as_str() {
        Some("ALLOW") => Reading::Rules(Action::Allow),
        // What a provider is asked about is denied where nobody can be asked.
        Some("DENY" | "CUSTOM") => Reading::Rules(Action::Deny),
        Some("AUDIT") => {
            problems.unsupported(
                &at,
                "AUDIT is not supported yet; it never changes a verdict, so nothing is denied for it",
            );
            Reading::NoVerdict
        }
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
fn is_dry_run(object: &mesh_api::AuthorizationPolicy, problems: &mut Problems) -> bool {
    let Some(text) = labels::annotation(&object.metadata, labels::DRY_RUN) else { return false };
    let dry_run = matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True");
    if dry_run {
        let at = FieldPath::new("metadata").field("annotations").field(labels::DRY_RUN);
        problems.unsupported(&at, "dry run is not reported yet; the policy is not enforced");
    }
    dry_run
}

fn lower_targets(spec: &Fields<'_>, namespace: &Name, problems: &mut Problems) -> Vec<Target> {
    let mut refs = spec.list("targetRefs", problems).unwrap_or_default();
    if refs.is_empty() {
        refs.extend(spec.get("targetRef").map(|target| (target, spec.at.field("targetRef"))));
    }
    if !refs.is_empty() && spec.get("selector").is_some() {
        problems.invalid(
            &spec.at.field("selector"),
            "a policy has a selector or targetRefs, not both; the selector is ignored",
        );
    }
    let mut targets = Vec::new();
    for (value, at) in refs {
        let target = Fields::read(Some(value), at, problems);
        target.only(&["group", "kind", "name", "namespace"], problems);
        targets.extend(lower_target(&target, namespace, problems));
    }
    targets.sort_unstable();
    targets.dedup();
    targets
}

fn lower_target(target: &Fields<'_>, namespace: &Name, problems: &mut Problems) -> Option<Target> {
    let group = target.string("group", problems).unwrap_or_default();
    let kind = target.string("kind", problems).unwrap_or_default();
    let name = target.string("name", problems).unwrap_or_default();
    if target.string("namespace", problems).is_some_and(|other| other != &**namespace) {
        problems.invalid(
            &target.at.field("namespace"),
            "a policy governs its own namespace only; leave the field out",
        );
        return None;
    }
    if name.is_empty() {
        problems.invalid(&target.at.field("name"), "the name of the target is missing");
        return None;
    }
    let key = Key::new(namespace, name);
    match (group, kind) {
        ("" | "core", "Service") => Some(Target::Service(key)),
        (group, "ServiceEntry") if group == Kind::ServiceEntry.group() => Some(Target::Entry(key)),
        (group, "Gateway") if group == Kind::Gateway.group() => Some(Target::Gateway(key)),
        (group, "GatewayClass") if group == Kind::Gateway.group() => Some(Target::Class(key)),
        (group, kind) => {
            problems.unsupported(
                &target.at.field("kind"),
                format!(
                    "{kind:?} of group {group:?} cannot be a target; use Service, ServiceEntry or Gateway"
                ),
            );
            None
        }
    }
}

fn lower_rules(
    spec: &Fields<'_>,
    action: Action,
    mut place: Place<'_>,
    problems: &mut Problems,
) -> Vec<Rule> {
    let before = problems.0.len();
    let items = spec.list("rules", problems).unwrap_or_default();
    if problems.0.len() > before {
        // `rules` is not a list at all.
        return match action {
            Action::Allow => Vec::new(),
            Action::Deny => vec![Rule::default()],
        };
    }
    let mut rules = Vec::new();
    for (index, (value, at)) in items.into_iter().enumerate() {
        let before = problems.0.len();
        let rule = lower_rule(index, value, at, action, &mut place, problems);
        let broken = problems.0.len() > before;
        match action {
            Action::Allow if broken => {}
            Action::Allow | Action::Deny => rules.push(rule),
        }
    }
    rules
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
        lower_condition(&Fields::read(Some(value), at, problems), place, &mut rule, problems);
    }
    rule
}

/// The fields of a source or an operation: each is a clause, each has a `not` form.
fn lower_clauses<T>(
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
        place.any_case = (action == Action::Deny) != negated;
        clauses.extend(lower_clause(fields, name, negated, *read, place, problems));
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

/// `None` where a value cannot be read: to leave the condition out is to let it hold, which is what
/// a rule that denies must do, and a rule that allows is dropped for the problem anyway.
fn lower_clause<T>(
    fields: &Fields<'_>,
    name: &str,
    negated: bool,
    read: Read<T>,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<Clause<T>> {
    let before = problems.0.len();
    let mut any = Vec::new();
    for (value, at) in fields.list(name, problems)? {
        match value
            .as_str()
            .ok_or_else(|| format!("expected a string, not {}", kind(value)))
            .and_then(|text| read(place, text))
        {
            Ok(test) => any.push(test),
            Err(message) => problems.invalid(&at, message),
        }
    }
    // An empty list is a field that was not set.
    (problems.0.len() == before && !any.is_empty()).then_some(Clause { any, negated })
}

fn lower_condition(fields: &Fields<'_>, place: &Place<'_>, rule: &mut Rule, problems: &mut Problems) {
    fields.only(&["key", "values", "notValues"], problems);
    let key = fields.string("key", problems).unwrap_or_default();
    let at = fields.at.field("key");
    if fields.get("values").is_none() && fields.get("notValues").is_none() {
        problems.invalid(&fields.at, "a condition needs values or notValues");
        return;
    }
    let forms = [("values", false), ("notValues", true)];
    if let Some(header) = header_name(key) {
        match header {
            Ok(header) => rule.when_source.extend(
                forms
                    .into_iter()
                    .filter_map(|(name, negated)| lower_header(fields, name, negated, &header, problems)),
            ),
            Err(message) => problems.invalid(&at, message),
        }
    } else if let Some((_, read)) = SOURCE_KEYS.iter().find(|(known, _)| *known == key) {
        let clauses = forms
            .into_iter()
            .filter_map(|(name, negated)| lower_clause(fields, name, negated, *read, place, problems));
        rule.when_source.extend(clauses);
    } else if key == "destination.port" {
        let clauses = forms
            .into_iter()
            .filter_map(|(name, negated)| lower_clause(fields, name, negated, port, place, problems));
        rule.when_operation.extend(clauses);
    } else {
        problems.unsupported(&at, format!("condition {key:?} is not supported yet or does not exist"));
    }
}

fn lower_header(
    fields: &Fields<'_>,
    name: &str,
    negated: bool,
    header: &str,
    problems: &mut Problems,
) -> Option<Clause<Source>> {
    let before = problems.0.len();
    let mut any = Vec::new();
    for (value, at) in fields.list(name, problems)? {
        match value
            .as_str()
            .ok_or_else(|| "expected a string".to_owned())
            .and_then(|text| bounded(text).map(|()| text))
        {
            Ok(text) => any.push(Source::Header { name: header.to_owned(), value: Pattern::of_istio(text) }),
            Err(message) => problems.invalid(&at, message),
        }
    }
    (problems.0.len() == before && !any.is_empty()).then_some(Clause { any, negated })
}
