//! HTTPRoute: rules of matches and backends, for the HTTP ports of its parents.

use std::collections::BTreeSet;

use proto::{
    Name,
    gateway::{
        HttpRoute as Object,
        httproutes::{HttpRouteRules, HttpRouteSpec},
    },
};

use super::{
    backend,
    matches::{self, HttpMatch, PathMatch},
    parent,
    precedence::Rank,
    retry,
    rule::{Delivery, Route, Rule},
    session, timeout,
};
use crate::{
    filter::{self, Filter},
    mesh::name::created,
    problem::{FieldPath, Problem, Reason},
};

pub(crate) fn lower(object: &Object) -> Route {
    // Host names do not count behind a waypoint: the address that was dialled decides.
    let HttpRouteSpec { hostnames: _, parent_refs, rules, use_default_gateways: _ } = &object.spec;
    let namespace: Name = object.metadata.namespace.as_deref().unwrap_or_default().into();
    let name: Name = object.metadata.name.as_deref().unwrap_or_default().into();
    let mut problems = Vec::new();
    let at = FieldPath::new("spec").field("rules");
    let rules = rules.iter().flatten().enumerate();
    let rules = rules
        .map(|(index, spec)| lower_rule(index, spec, (&namespace, &name), &at.index(index), &mut problems))
        .collect();
    Route {
        generation: object.metadata.generation,
        created: created(&object.metadata),
        parents: parent::lower(parent_refs.as_ref(), &namespace),
        rules,
        problems,
        hostnames: BTreeSet::new(),
        refused: None,
    }
}

fn lower_rule(
    index: usize,
    spec: &HttpRouteRules,
    (namespace, route): (&Name, &Name),
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Rule {
    let HttpRouteRules { backend_refs, filters, matches: wanted, name, retry, session_persistence, timeouts } =
        spec;
    let name: Name = name.as_deref().map_or_else(|| index.to_string().into(), Into::into);
    let wanted = wanted.as_deref().unwrap_or_default();
    let at_matches = at.field("matches");
    let matches: Vec<HttpMatch> = if wanted.is_empty() {
        vec![HttpMatch::everything()]
    } else {
        let wanted = wanted.iter().enumerate();
        wanted.filter_map(|(nth, one)| matches::lower(one, &at_matches.index(nth), problems)).collect()
    };
    let mut backends = backend::lower(backend_refs.iter().flatten(), namespace, &at.field("backendRefs"));

    // What a rule asks for beyond that is done in full, or its requests fail.
    let before = problems.len();
    let at_filters = at.field("filters");
    let filters = filters.iter().flatten().map(proto::gateway::filter);
    let mut filters = filter::lower_rule(filters, !backends.is_empty(), namespace, &at_filters, problems);
    let handed = backends.iter_mut().map(|backend| &mut backend.filters);
    filter::hand_down(&mut filters, handed, &at_filters, problems);
    let by_prefix = |found: &HttpMatch| matches!(found.path, PathMatch::Prefix(_));
    if filters.iter().any(Filter::replaces_prefix) && !matches.iter().all(by_prefix) {
        problems.push(Problem {
            at: at_filters,
            reason: Reason::Invalid,
            message: "ReplacePrefixMatch needs matches of type PathPrefix".to_owned(),
        });
    }
    let delivery = Delivery {
        timeouts: timeout::lower(timeouts.as_ref(), &at.field("timeouts"), problems),
        retry: retry.as_ref().and_then(|spec| retry::lower(spec, &at.field("retry"), problems)),
        session: session_persistence.as_ref().and_then(|spec| {
            let default_name = session::default_name(namespace, route, &name);
            session::lower(spec, &default_name, &backends, &at.field("sessionPersistence"), problems)
        }),
    };
    let matches = matches.into_iter().map(|found| (Rank::of_http(&found), found)).collect();
    if problems.len() == before {
        Rule { name, matches, backends: Some(backends), filters, delivery }
    } else {
        Rule { name, matches, backends: None, filters: Vec::new(), delivery: Delivery::default() }
    }
}
