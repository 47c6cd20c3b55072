//! GRPCRoute: rules of methods, headers and backends, for the HTTP ports of its parents.

use std::collections::BTreeSet;

use proto::{
    Name,
    gateway::{
        GrpcRoute as Object,
        grpcroutes::{
            GrpcRouteRules, GrpcRouteRulesMatches, GrpcRouteRulesMatchesHeadersType,
            GrpcRouteRulesMatchesMethod, GrpcRouteRulesMatchesMethodType, GrpcRouteSpec,
        },
    },
};

use super::{
    backend,
    matches::{self, HttpMatch, PathMatch},
    parent,
    precedence::Rank,
    rule::{Delivery, Route, Rule},
    session,
};
use crate::{
    filter,
    mesh::{
        name::created,
        pattern::{check_regex, quote},
    },
    problem::{FieldPath, Problem, Reason},
};

pub(crate) fn lower(object: &Object) -> Route {
    // Host names do not count behind a waypoint: the address that was dialled decides.
    let GrpcRouteSpec { hostnames: _, parent_refs, rules, use_default_gateways: _ } = &object.spec;
    let namespace: Name = object.metadata.namespace.as_deref().unwrap_or_default().into();
    let route: Name = object.metadata.name.as_deref().unwrap_or_default().into();
    let mut problems = Vec::new();
    let at = FieldPath::new("spec").field("rules");
    let rules = rules.iter().flatten().enumerate();
    let rules = rules
        .map(|(index, spec)| lower_rule(index, spec, (&namespace, &route), &at.index(index), &mut problems))
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
    spec: &GrpcRouteRules,
    (namespace, route): (&Name, &Name),
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Rule {
    let GrpcRouteRules { backend_refs, filters, matches: wanted, name, session_persistence } = spec;
    let wanted = wanted.as_deref().unwrap_or_default();
    let at_matches = at.field("matches");
    let matches = if wanted.is_empty() {
        vec![(Rank::of_grpc(0, 0, 0), HttpMatch::everything())]
    } else {
        let wanted = wanted.iter().enumerate();
        wanted.filter_map(|(nth, one)| lower_match(one, &at_matches.index(nth), problems)).collect()
    };
    let mut backends = backend::lower(backend_refs.iter().flatten(), namespace, &at.field("backendRefs"));
    let name: Name = name.as_deref().map_or_else(|| index.to_string().into(), Into::into);

    // What a rule asks for beyond that is done in full, or its calls fail.
    let before = problems.len();
    let at_filters = at.field("filters");
    let filters = filters.iter().flatten().map(proto::gateway::filter);
    let mut filters = filter::lower_rule(filters, !backends.is_empty(), namespace, &at_filters, problems);
    let handed = backends.iter_mut().map(|backend| &mut backend.filters);
    filter::hand_down(&mut filters, handed, &at_filters, problems);
    let session = session_persistence.as_ref().and_then(proto::gateway::session_persistence);
    let session = session.and_then(|spec| {
        let default_name = session::default_name(namespace, route, &name);
        session::lower(&spec, &default_name, &backends, &at.field("sessionPersistence"), problems)
    });
    if problems.len() == before {
        let delivery = Delivery { session, ..Delivery::default() };
        Rule { name, matches, backends: Some(backends), filters, delivery }
    } else {
        Rule { name, matches, backends: None, filters: Vec::new(), delivery: Delivery::default() }
    }
}

/// `None` for a match that cannot be expressed: it matches nothing, and the problem says why.
fn lower_match(
    spec: &GrpcRouteRulesMatches,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Option<(Rank, HttpMatch)> {
    let GrpcRouteRulesMatches { headers, method } = spec;
    let before = problems.len();
    let mut found = HttpMatch::everything();
    let mut names = BTreeSet::new();
    for (index, header) in headers.iter().flatten().enumerate() {
        let at = at.field("headers").index(index);
        // Gateway API: of headers with equal names the first counts.
        if names.insert(header.name.to_ascii_lowercase()) {
            let regex = matches!(header.r#type, Some(GrpcRouteRulesMatchesHeadersType::RegularExpression));
            found.headers.extend(matches::lower_header(&header.name, regex, &header.value, &at, problems));
        }
    }
    let service = method.as_ref().and_then(|method| method.service.as_deref()).unwrap_or_default();
    let called = method.as_ref().and_then(|method| method.method.as_deref()).unwrap_or_default();
    if let Some(method) = method {
        match path(method, service, called) {
            Ok(path) => found.path = path,
            Err((field, message)) => problems.push(Problem {
                at: at.field("method").field(field),
                reason: Reason::UnsupportedValue,
                message: format!("{message}; the match matches nothing"),
            }),
        }
    }
    let rank = Rank::of_grpc(service.len(), called.len(), found.headers.len());
    (problems.len() == before).then_some((rank, found))
}

/// A call of gRPC is a request for `/SERVICE/METHOD`. Which field is wrong, and why, otherwise.
fn path(
    spec: &GrpcRouteRulesMatchesMethod,
    service: &str,
    method: &str,
) -> Result<PathMatch, (&'static str, String)> {
    match spec.r#type {
        None | Some(GrpcRouteRulesMatchesMethodType::Exact) => {
            let plain = |text: &str, also: &str| {
                text.bytes().all(|byte| {
                    byte.is_ascii_alphanumeric() || byte == b'_' || also.as_bytes().contains(&byte)
                })
            };
            if !plain(service, ".") {
                return Err(("service", format!("{service:?} is not the name of a service of gRPC")));
            }
            if !plain(method, "") {
                return Err(("method", format!("{method:?} is not the name of a method of gRPC")));
            }
            match (service, method) {
                ("", "") => Err(("service", "either the service or the method has to be named".to_owned())),
                (service, "") => Ok(PathMatch::Prefix(format!("/{service}"))),
                ("", method) => Ok(PathMatch::Regex(format!("/[^/]+/{}", quote(method)))),
                (service, method) => Ok(PathMatch::Exact(format!("/{service}/{method}"))),
            }
        }
        Some(GrpcRouteRulesMatchesMethodType::RegularExpression) => {
            let part = |field: &'static str, regex: &str| {
                if regex.is_empty() {
                    return Ok("[^/]+".to_owned());
                }
                // Each on its own, so that neither can close a group that the other opens.
                check_regex(regex).map_err(|why| (field, why))?;
                Ok(format!("(?:{regex})"))
            };
            let whole = format!("/{}/{}", part("service", service)?, part("method", method)?);
            check_regex(&whole).map_err(|why| ("method", why))?;
            Ok(PathMatch::Regex(whole))
        }
    }
}
