//! Which of several matches wins.

use std::cmp::Reverse;

use proto::{Name, ObjectRef};

use super::matches::{HttpMatch, PathMatch};

/// How specific a match is; the more specific sorts first. Matches of one kind of route compare:
/// on a port of a service, routes of one kind apply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    kind: u8,
    lengths: [Reverse<usize>; 2],
    without_method: bool,
    headers: Reverse<usize>,
    query: Reverse<usize>,
}

impl Rank {
    /// Gateway API, HTTPRouteRule.matches: an exact path, then the longest prefix, then a method
    /// match, then the most header matches, then the most query parameter matches. Regular
    /// expressions are left to the implementation; as with Istio they come after prefixes.
    pub(crate) fn of_http(found: &HttpMatch) -> Self {
        let (kind, length) = match &found.path {
            PathMatch::Exact(path) => (0, path.len()),
            PathMatch::Prefix(path) => (1, path.len()),
            PathMatch::Regex(regex) => (2, regex.len()),
        };
        Self {
            kind,
            lengths: [Reverse(length), Reverse(0)],
            without_method: found.method.is_none(),
            headers: Reverse(found.headers.len()),
            query: Reverse(found.query.len()),
        }
    }

    /// Gateway API, GRPCRouteRule.matches: the most characters of the service, then of the method,
    /// then the most header matches.
    pub(crate) const fn of_grpc(service: usize, method: usize, headers: usize) -> Self {
        Self {
            kind: 0,
            lengths: [Reverse(service), Reverse(method)],
            without_method: false,
            headers: Reverse(headers),
            query: Reverse(0),
        }
    }
}

/// Sorts before what it wins over: by rank; among equals the oldest route, then the first by
/// namespace and name, then the first rule in the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Precedence {
    rank: Rank,
    created: i64,
    route: (Name, Name),
    rule: usize,
    nth: usize,
}

impl Precedence {
    /// Of the `nth` match of a rule of a route that was created at that time (seconds since 1970).
    pub(crate) fn of(rank: &Rank, created: i64, route: &ObjectRef, rule: usize, nth: usize) -> Self {
        Self { rank: rank.clone(), created, route: (route.namespace.clone(), route.name.clone()), rule, nth }
    }
}
