//! What a rule of an HTTPRoute matches: path, method, headers, query parameters.

use std::collections::BTreeSet;

use proto::gateway::httproutes::{
    HttpRouteRulesMatches, HttpRouteRulesMatchesHeadersType, HttpRouteRulesMatchesMethod,
    HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType, HttpRouteRulesMatchesQueryParamsType,
};

use super::header::is_name;
use crate::{
    mesh::pattern::{Pattern, check_regex},
    problem::{FieldPath, Problem, Reason},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HttpMatch {
    pub(crate) path: PathMatch,
    pub(crate) method: Option<&'static str>,
    /// Lower-case name and what the value must be; a name stands once.
    pub(crate) headers: Vec<(String, Pattern)>,
    pub(crate) query: Vec<(String, Pattern)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PathMatch {
    Exact(String),
    /// By whole segments, without a slash at the end; empty for every path.
    Prefix(String),
    Regex(String),
}

impl HttpMatch {
    /// What a rule without matches matches.
    pub(crate) const fn everything() -> Self {
        Self { path: PathMatch::Prefix(String::new()), method: None, headers: Vec::new(), query: Vec::new() }
    }
}

/// `None` for a match that cannot be expressed: it matches nothing, and the problem says why.
pub(crate) fn lower(
    spec: &HttpRouteRulesMatches,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Option<HttpMatch> {
    let HttpRouteRulesMatches { headers, method, path, query_params } = spec;
    let before = problems.len();
    let path = path.as_ref().map(|path| lower_path(path, &at.field("path"), problems));
    let mut lowered = HttpMatch { method: method.as_ref().map(method_name), ..HttpMatch::everything() };
    let mut names = BTreeSet::new();
    for (index, header) in headers.iter().flatten().enumerate() {
        let at = at.field("headers").index(index);
        let name = header.name.to_ascii_lowercase();
        // Gateway API: of headers with equal names the first counts.
        if names.insert(name) {
            let regex = matches!(header.r#type, Some(HttpRouteRulesMatchesHeadersType::RegularExpression));
            lowered.headers.extend(lower_header(&header.name, regex, &header.value, &at, problems));
        }
    }
    names.clear();
    for (index, parameter) in query_params.iter().flatten().enumerate() {
        let at = at.field("queryParams").index(index);
        if !names.insert(parameter.name.clone()) {
            continue;
        }
        let regex = matches!(parameter.r#type, Some(HttpRouteRulesMatchesQueryParamsType::RegularExpression));
        let value = pattern(regex, &parameter.value, &at, problems);
        lowered.query.extend(value.map(|value| (parameter.name.clone(), value)));
    }
    if let Some(path) = path {
        lowered.path = path?;
    }
    (problems.len() == before).then_some(lowered)
}

/// A header's name and what its value must be.
pub(crate) fn lower_header(
    name: &str,
    regex: bool,
    value: &str,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Option<(String, Pattern)> {
    let name = name.to_ascii_lowercase();
    if !is_name(&name) {
        problems.push(invalid(&at.field("name"), format!("{name:?} is not a header name")));
    }
    pattern(regex, value, at, problems).map(|value| (name, value))
}

fn lower_path(
    path: &HttpRouteRulesMatchesPath,
    at: &FieldPath,
    problems: &mut Vec<Problem>,
) -> Option<PathMatch> {
    let value = path.value.as_deref().unwrap_or("/");
    let at = at.field("value");
    let kind = path.r#type.as_ref().unwrap_or(&HttpRouteRulesMatchesPathType::PathPrefix);
    let plain = value.starts_with('/')
        && !value.contains(['?', '#'])
        && !value.contains("//")
        && !value.chars().any(char::is_control);
    match kind {
        HttpRouteRulesMatchesPathType::RegularExpression => match check_regex(value) {
            Ok(()) => Some(PathMatch::Regex(value.to_owned())),
            Err(why) => {
                problems.push(invalid(&at, format!("{why}; the rule matches nothing")));
                None
            }
        },
        HttpRouteRulesMatchesPathType::Exact | HttpRouteRulesMatchesPathType::PathPrefix if !plain => {
            problems.push(invalid(
                &at,
                format!("{value:?} is not a path that starts with one slash and has no query"),
            ));
            None
        }
        HttpRouteRulesMatchesPathType::Exact => Some(PathMatch::Exact(value.to_owned())),
        HttpRouteRulesMatchesPathType::PathPrefix => {
            Some(PathMatch::Prefix(value.trim_end_matches('/').to_owned()))
        }
    }
}

fn pattern(regex: bool, value: &str, at: &FieldPath, problems: &mut Vec<Problem>) -> Option<Pattern> {
    if !regex {
        return Some(Pattern::Exact(value.to_owned()));
    }
    match check_regex(value) {
        Ok(()) => Some(Pattern::Regex(value.to_owned())),
        Err(why) => {
            problems.push(invalid(&at.field("value"), format!("{why}; the rule matches nothing")));
            None
        }
    }
}

fn invalid(at: &FieldPath, message: String) -> Problem {
    Problem { at: at.clone(), reason: Reason::UnsupportedValue, message }
}

const fn method_name(method: &HttpRouteRulesMatchesMethod) -> &'static str {
    match method {
        HttpRouteRulesMatchesMethod::Get => "GET",
        HttpRouteRulesMatchesMethod::Head => "HEAD",
        HttpRouteRulesMatchesMethod::Post => "POST",
        HttpRouteRulesMatchesMethod::Put => "PUT",
        HttpRouteRulesMatchesMethod::Delete => "DELETE",
        HttpRouteRulesMatchesMethod::Connect => "CONNECT",
        HttpRouteRulesMatchesMethod::Options => "OPTIONS",
        HttpRouteRulesMatchesMethod::Trace => "TRACE",
        HttpRouteRulesMatchesMethod::Patch => "PATCH",
    }
}
