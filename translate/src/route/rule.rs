//! A route as the joins see it, whatever its kind: parents, and rules of matches and backends.

use std::collections::BTreeSet;

use proto::{Kind, Name, ObjectRef};

use super::{
    backend::BackendRef, hostname::Hostname, matches::HttpMatch, parent::ParentRef, precedence::Rank,
    retry::Retry, session::Session, timeout::Timeouts,
};
use crate::{derive::Row, filter::Filter, problem::Problem};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Route {
    pub(crate) generation: Option<i64>,
    /// Seconds since 1970; a route without a time is younger than every other.
    pub(crate) created: i64,
    pub(crate) parents: Vec<ParentRef>,
    pub(crate) rules: Vec<Rule>,
    /// The names of which connections have to ask for one; none of a route that takes all there are.
    pub(crate) hostnames: BTreeSet<Hostname>,
    pub(crate) problems: Vec<Problem>,
    /// Why none of it can be applied. It keeps its place if no other route wants that, and what it
    /// would have had to decide there is refused.
    pub(crate) refused: Option<Problem>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    /// Its name if it has one, else its place in the list.
    pub(crate) name: Name,
    /// Empty if nothing that it wants to match can be matched.
    pub(crate) matches: Vec<(Rank, HttpMatch)>,
    /// `None` for a rule that asks for more than we can do: its requests get 500, never less than asked.
    pub(crate) backends: Option<Vec<BackendRef>>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) delivery: Delivery,
}

/// How a request is carried to its backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Delivery {
    pub(crate) timeouts: Timeouts,
    /// `None` for the retries that every request has.
    pub(crate) retry: Option<Retry>,
    pub(crate) session: Option<Session>,
}

/// Whether routes of that kind share out connections. They have nothing to match by: the first takes
/// all that there is.
pub(crate) const fn takes_connections(kind: Kind) -> bool {
    match kind {
        Kind::TCPRoute | Kind::TLSRoute => true,
        Kind::Namespace
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Pod
        | Kind::ConfigMap
        | Kind::GatewayClass
        | Kind::Gateway
        | Kind::HTTPRoute
        | Kind::GRPCRoute
        | Kind::ReferenceGrant
        | Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::AuthorizationPolicy
        | Kind::RequestAuthentication => false,
    }
}

impl Row for Route {
    const TABLE: &'static str = "route";
    type Key = ObjectRef;
    type Bucket = ();

    fn buckets(_key: &ObjectRef, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}
