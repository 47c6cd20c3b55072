//! HTTPRoute: rules of matches and backends, for the HTTP ports of its parents.

use proto::{
    Name,
    gateway::{
        HttpRoute as Object,
        httproutes::{HttpRouteRules, HttpRouteSpec},
    },
};

use super::{
    backend::{self, BackendRef},
    matches::{self, HttpMatch},
    parent::{self, ParentRef},
};
use crate::{
    derive::Row,
    mesh::name::{Key, created},
    problem::{FieldPath, Problem, Reason},
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HttpRoute {
    pub(crate) generation: Option<i64>,
    pub(crate) created: i64,
    pub(crate) parents: Vec<ParentRef>,
    pub(crate) rules: Vec<HttpRule>,
    pub(crate) problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HttpRule {
    /// Its name if it has one, else its place in the list.
    pub(crate) name: Name,
    /// Empty if nothing that it wants to match can be matched.
    pub(crate) matches: Vec<HttpMatch>,
    /// `None` for a rule that asks for more than we can do: its requests get 500, never less than asked.
    pub(crate) backends: Option<Vec<BackendRef>>,
}

impl Row for HttpRoute {
    const TABLE: &'static str = "http route";
    type Key = Key;
    type Bucket = ();

    fn buckets(_key: &Key, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

pub(crate) fn lower(object: &Object) -> HttpRoute {
    // Host names do not count behind a waypoint: the address that was dialled decides.
    let HttpRouteSpec { hostnames: _, parent_refs, rules, use_default_gateways: _ } = &object.spec;
    let namespace: Name = object.metadata.namespace.as_deref().unwrap_or_default().into();
    let mut problems = Vec::new();
    let at = FieldPath::new("spec").field("parentRefs");
    let parents = parent_refs.iter().flatten().enumerate();
    let parents = parents.map(|(index, spec)| parent::lower(spec, &namespace, at.index(index))).collect();
    let at = FieldPath::new("spec").field("rules");
    let rules = rules.iter().flatten().enumerate();
    let rules = rules
        .map(|(index, spec)| lower_rule(index, spec, &namespace, &at.index(index), &mut problems))
        .collect();
    HttpRoute {
        generation: object.metadata.generation,
        created: created(&object.metadata),
        parents,
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
) -> HttpRule {
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
    let at_backends = at.field("backendRefs");
    let backends = backend_refs.iter().flatten().enumerate();
    let backends =
        backends.map(|(nth, one)| backend::lower(one, namespace, &at_backends.index(nth))).collect();
    HttpRule {
        name: name.as_deref().map_or_else(|| index.to_string().into(), Into::into),
        matches,
        backends: supported.then_some(backends),
    }
}
