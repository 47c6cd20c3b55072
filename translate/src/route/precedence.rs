//! Which of several matches wins.

use std::cmp::Reverse;

use proto::{Name, ObjectRef};

use super::matches::{HttpMatch, PathMatch};

/// Sorts before what it wins over.
///
/// Gateway API, HTTPRouteRule.matches: an exact path, then the longest prefix, then a method match,
/// then the most header matches, then the most query parameter matches; among equals the oldest
/// route, then the first by namespace and name, then the first rule in the list. Regular
/// expressions are left to the implementation; as with Istio they come after prefixes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Precedence {
    kind: u8,
    length: Reverse<usize>,
    without_method: bool,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    created: i64,
    route: (Name, Name),
    rule: usize,
    nth: usize,
}

impl Precedence {
    /// Of the `nth` match of a rule of a route that was created at that time (seconds since 1970).
    pub(crate) fn of(found: &HttpMatch, created: i64, route: &ObjectRef, rule: usize, nth: usize) -> Self {
        let (kind, length) = match &found.path {
            PathMatch::Exact(path) => (0, path.len()),
            PathMatch::Prefix(path) => (1, path.len()),
            PathMatch::Regex(regex) => (2, regex.len()),
        };
        Self {
            kind,
            length: Reverse(length),
            without_method: found.method.is_none(),
            headers: Reverse(found.headers.len()),
            query: Reverse(found.query.len()),
            created,
            route: (route.namespace.clone(), route.name.clone()),
            rule,
            nth,
        }
    }
}
