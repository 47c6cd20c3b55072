//! HTTPRoute: rules of matches and backends, for the HTTP ports of its parents.

use proto::{
    Name,
    gateway::{
        HttpRoute as Object,
        httproutes::{HttpRouteRules, HttpRouteSpec},
    },
};

use super::{
    backend,
    matches::{self, HttpMatch},
    parent,
    precedence::Rank,
    rule::{Route, Rule},
};
use crate::{
    mesh::name::created,
    problem::{FieldPath, Problem, Reason},
};

pub(crate) fn lower(object: &Object) -> Route {
    // Host names do not count behind a waypoint: the address that was dialled decides.
    let HttpRouteSpec { hostnames: _, parent_refs, rules, use_default_gateways: _ } = &object.spec;
    let namespace: Name = object.metadata.namespace.as_deref().unwrap_or_default().into();
    let mut problems = Vec::new();
    let at = FieldPath::new("spec").field("rules");
    let rules = rules.iter().flatten().enumerate();
    let rules = rules
        .map(|(index, spec)| lower_rule(index, spec, &namespace, &at.index(index), &mut problems))
        .collect();
    Route {
        generation: object.metadata.generation,
        created: created(&object.metadata),
        parents: parent::lower(parent_refs.as_ref(), &namespace),
        rules,
        problems,
    }
}

fn lower_rule(
    index: usize,
    spec: &HttpRouteRules,
    namespace: &Name,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Rule {
    let HttpRouteRules { backend_refs, filters, matches: wanted, name, retry, session_persistence, timeouts } =
        spec;
    let asked = [
        ("filters", filters.as_ref().is_some_and(|filters| !filters.is_empty())),
        ("retry", retry.is_some()),
        ("sessionPersistence", session_persistence.is_some()),
        ("timeouts", timeouts.is_some()),
    ];
    let before = problems.len();
    problems.extend(asked.into_iter().filter(|(_, asked)| *asked).map(|(field, _)| Problem {
        at: at.field(field),
        reason: Reason::UnsupportedValue,
        message: format!("{field} are not supported yet; requests that the rule matches get 500"),
    }));
    let supported = problems.len() == before;
    let wanted = wanted.as_deref().unwrap_or_default();
    let at_matches = at.field("matches");
    let matches = if wanted.is_empty() {
        vec![HttpMatch::everything()]
    } else {
        let wanted = wanted.iter().enumerate();
        wanted.filter_map(|(nth, one)| matches::lower(one, &at_matches.index(nth), problems)).collect()
    };
    let backends = backend::lower(backend_refs.iter().flatten(), namespace, &at.field("backendRefs"));
    Rule {
        name: name.as_deref().map_or_else(|| index.to_string().into(), Into::into),
        matches: matches.into_iter().map(|found| (Rank::of_http(&found), found)).collect(),
        backends: supported.then_some(backends),
    }
}
