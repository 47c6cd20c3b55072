//! A route with its references looked up: which parents take it, and where its rules lead.
//!
//! Both the configuration and the status are made from this row, so that they cannot disagree.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proto::{Kind, Name, ObjectRef};

use super::{
    resolved_parent::{self, Attached, ResolvedParent},
    waypoint_of::WaypointOf,
};
use crate::{
    derive::{Derived, Reads, Row},
    filter::Filter,
    inputs::Inputs,
    mesh::{
        name::{Key, Origin, RuleOf, ServiceKey},
        protocol::Protocol,
        service,
    },
    problem::{Problem, Reason},
    route::{
        backend::{BackendRef, Target},
        hostname::Hostname,
        matches::HttpMatch,
        parent::{Parent, ParentRef},
        precedence::Rank,
        rule::{Delivery, Route, Rule},
    },
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResolvedRoute {
    pub(crate) generation: Option<i64>,
    pub(crate) created: i64,
    pub(crate) parents: Vec<ResolvedParent>,
    pub(crate) rules: Vec<ResolvedRule>,
    /// The names of which connections have to ask for one; none of a route that takes all there are.
    pub(crate) hostnames: BTreeSet<Hostname>,
    /// What is wrong with the rules themselves.
    pub(crate) problems: Vec<Problem>,
    /// Why none of it can be applied.
    pub(crate) refused: Option<Problem>,
    /// What is wrong with the references of the rules.
    pub(crate) unresolved: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResolvedRule {
    pub(crate) name: Name,
    pub(crate) matches: Vec<(Rank, HttpMatch)>,
    pub(crate) forward: Arc<Forward>,
}

/// Where requests go: shares of backends. No shares at all: they fail, unless a filter answers them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Forward {
    pub(crate) shares: Vec<Share>,
    /// Those of the rule; a mirror among them has a backend that exists.
    pub(crate) filters: Vec<Filter>,
    pub(crate) delivery: Delivery,
    /// The rule, if its backends are one cluster, so that sessions are kept across them.
    pub(crate) merged: Option<RuleOf>,
}

impl Forward {
    /// What each backend that can be used weighs, if they are one cluster.
    pub(crate) fn merged_shares(&self) -> BTreeMap<&(ServiceKey, u16), u32> {
        let mut weights = BTreeMap::new();
        for Share { weight, backend, filters: _ } in self.shares.iter().filter(|share| share.weight > 0) {
            if let Some(backend) = backend {
                *weights.entry(backend).or_default() += weight;
            }
        }
        weights
    }

    /// The service ports that requests, or copies of them, may end at.
    pub(crate) fn backends(&self) -> impl Iterator<Item = &(ServiceKey, u16)> {
        let shares = self.shares.iter().filter_map(|share| share.backend.as_ref());
        shares.chain(self.filters.iter().filter_map(Filter::mirrors_to))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Share {
    pub(crate) weight: u32,
    /// `None` for a backend that cannot be used: its share fails.
    pub(crate) backend: Option<(ServiceKey, u16)>,
    pub(crate) filters: Vec<Filter>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Bucket {
    /// Routes that are attached to that service.
    Service(ServiceKey),
    /// Routes that are attached to that waypoint as a whole.
    Gateway(Key),
}

impl Row for ResolvedRoute {
    const TABLE: &'static str = "resolved route";
    type Key = ObjectRef;
    type Bucket = Bucket;

    fn buckets(_key: &ObjectRef, row: &Self) -> Vec<Bucket> {
        let attached = row.parents.iter().filter_map(|parent| parent.attached.as_ref().ok());
        let mut buckets: Vec<Bucket> = attached
            .flat_map(|attached| match attached {
                Attached::Services(attached) => {
                    attached.iter().map(|attached| Bucket::Service(attached.service.clone())).collect()
                }
                Attached::Gateway(gateway) => vec![Bucket::Gateway(gateway.clone())],
            })
            .collect();
        buckets.sort_unstable();
        buckets.dedup();
        buckets
    }
}

/// `None` if the route is gone.
pub(crate) fn bind(
    reads: &Reads,
    inputs: &Inputs,
    waypoint_of: &Derived<WaypointOf>,
    key: &ObjectRef,
) -> Option<ResolvedRoute> {
    let route = inputs.routes.get(reads, key)?;
    let referrer = Referrer { reads, inputs, key, route };
    let parents = route
        .parents
        .iter()
        .filter_map(|parent| resolved_parent::bind(reads, inputs, waypoint_of, key, parent));
    let parents = parents.collect();
    let mut unresolved = Vec::new();
    let rules = route.rules.iter().enumerate().map(|(index, rule)| {
        let backends = rule.backends.iter().flatten();
        let shares = backends.map(|backend| referrer.resolve_backend(backend, &mut unresolved)).collect();
        let mut forward = Forward {
            shares,
            filters: rule
                .filters
                .iter()
                .filter_map(|filter| referrer.resolve_filter(filter, &mut unresolved))
                .collect(),
            delivery: rule.delivery.clone(),
            merged: None,
        };
        if rule.delivery.session.is_some() && forward.merged_shares().len() > 1 {
            referrer.merge(rule, &mut forward, &mut unresolved);
            forward.merged = Some(RuleOf { route: key.clone(), index });
        }
        ResolvedRule { name: rule.name.clone(), matches: rule.matches.clone(), forward: Arc::new(forward) }
    });
    let rules = rules.collect();
    Some(ResolvedRoute {
        generation: route.generation,
        created: route.created,
        parents,
        rules,
        hostnames: route.hostnames.clone(),
        problems: route.problems.clone(),
        refused: route.refused.clone(),
        unresolved,
    })
}

/// Who refers to backends.
struct Referrer<'t> {
    reads: &'t Reads,
    inputs: &'t Inputs,
    key: &'t ObjectRef,
    route: &'t Route,
}

impl Referrer<'_> {
    fn resolve_backend(&self, backend: &BackendRef, unresolved: &mut Vec<Problem>) -> Share {
        let found = backend.target.clone().and_then(|(target, port)| self.find(backend, &target, port));
        let backend_found = found.map_err(|problem| unresolved.push(problem)).ok();
        Share { weight: backend.weight, backend: backend_found, filters: backend.filters.clone() }
    }

    /// Takes out what cannot be one cluster with the other backends: its share fails.
    fn merge(&self, rule: &Rule, forward: &mut Forward, unresolved: &mut Vec<Problem>) {
        let Self { reads, inputs, .. } = self;
        for (share, asked) in forward.shares.iter_mut().zip(rule.backends.iter().flatten()) {
            let Some((service, port)) = &share.backend else { continue };
            let row = inputs.services.get(reads, service);
            let speaks = row.and_then(|row| row.port(*port)).map(|port| port.protocol);
            let message = if !row.is_some_and(|row| row.discovery.has_addresses()) {
                "sessions are kept across backends whose endpoints have addresses only; split the rule"
            } else if !speaks.is_some_and(Protocol::may_be_http) {
                "sessions are kept across backends that speak HTTP only; correct the port's appProtocol"
            } else {
                continue;
            };
            unresolved.push(Problem {
                at: asked.at.clone(),
                reason: Reason::UnsupportedValue,
                message: message.to_owned(),
            });
            share.backend = None;
        }
    }

    fn find(&self, backend: &BackendRef, target: &Target, port: u16) -> Result<(ServiceKey, u16), Problem> {
        let problem = |reason, message| Problem { at: backend.at.clone(), reason, message };
        let not_found = |message| problem(Reason::BackendNotFound, message);
        let (service, named) = match target {
            Target::Service(service) => (service.clone(), format!("Service {service}")),
            Target::Host(host) => {
                let service = self.known_by(host).ok_or_else(|| {
                    not_found(format!(
                        "nothing that namespace {:?} knows of has the host {host}",
                        &*self.key.namespace
                    ))
                })?;
                (service, format!("host {host}"))
            }
        };
        // Before anything is said about a Service that is not the route's to know of.
        if !self.may_refer_to(&service) {
            let Self { key, .. } = self;
            return Err(problem(
                Reason::RefNotPermitted,
                format!(
                    "no ReferenceGrant in namespace {:?} lets {}s of namespace {:?} refer to Service {}",
                    &*service.namespace,
                    key.kind.name(),
                    &*key.namespace,
                    service.name
                ),
            ));
        }
        let row = self.inputs.services.get(self.reads, &service);
        let row = row.ok_or_else(|| not_found(format!("{named} was not found")))?;
        row.port(port).ok_or_else(|| not_found(format!("{named} has no port {port}")))?;
        if row.follows_caller() && !self.is_only_for(&row.declared_by) {
            return Err(problem(
                Reason::UnsupportedValue,
                format!(
                    "{named} leads to whatever the caller asked for, so it is a backend of its own entry's routes only; give the entry resolution: DNS or STATIC"
                ),
            ));
        }
        Ok((service, port))
    }

    /// Who has that host, as the route's namespace sees it: its own namespace first, and then whatever
    /// is exported to it, a Service before an entry.
    fn known_by(&self, host: &Name) -> Option<ServiceKey> {
        let all = self.inputs.services.bucket(self.reads, &service::Bucket::Host(host.clone()));
        let own = &self.key.namespace;
        let known = all.filter(|(service, row)| service.namespace == *own || row.exported.reaches(own));
        let first = known.min_by_key(|(service, row)| {
            (service.namespace != *own, service.origin != Origin::Kubernetes, row.created, (*service).clone())
        });
        first.map(|(service, _)| service.clone())
    }

    /// Whether all requests of the route are for what that object declares, and it declares one thing.
    fn is_only_for(&self, object: &ObjectRef) -> bool {
        let only = |parent: &ParentRef| match &parent.parent {
            Parent::Service { object: parent, .. } => parent == object,
            Parent::Gateway { .. } => false,
            // No request comes from there.
            Parent::Refused(_) | Parent::Foreign => true,
        };
        let declared = service::Bucket::DeclaredBy(object.clone());
        self.route.parents.iter().all(only) && self.inputs.services.count(self.reads, &declared) == 1
    }

    /// The filter with its backend looked up, if it can be applied. Gateway API: a mirror whose
    /// backend is missing is left out, and the requests go on without it.
    fn resolve_filter(&self, filter: &Filter, unresolved: &mut Vec<Problem>) -> Option<Filter> {
        match filter {
            Filter::RequestMirror(mirror) => {
                let to = self.resolve_backend(&mirror.backend, unresolved).backend?;
                Some(Filter::RequestMirror(mirror.ending_at(to)))
            }
            Filter::Cors(_)
            | Filter::RequestHeaderModifier(_)
            | Filter::ResponseHeaderModifier(_)
            | Filter::RequestRedirect(_)
            | Filter::UrlRewrite(_) => Some(filter.clone()),
        }
    }

    /// A consumer's route may lead to the very Service that its callers dialled: whoever could not
    /// reach it before cannot reach it now. GEP-1426: "if a mesh implementation *does* expose the
    /// ability to access a broader scope than would otherwise be reachable, then `ReferenceGrant`
    /// must be used"; anything but the parent is such a scope behind a waypoint, which proves its
    /// own identity to backends and not the caller's. An entry says itself who may use it, with
    /// `exportTo`.
    fn may_refer_to(&self, service: &ServiceKey) -> bool {
        let Self { reads, inputs, key, route } = self;
        let is_parent = |parent: &ParentRef| match &parent.parent {
            Parent::Service { object, .. } => {
                object.kind == Kind::Service && ServiceKey::from(Key::of(object)) == *service
            }
            Parent::Gateway { .. } | Parent::Refused(_) | Parent::Foreign => false,
        };
        service.namespace == key.namespace
            || service.origin == Origin::Entry
            || route.parents.iter().any(is_parent)
            || inputs.grants.bucket(reads, &service.namespace).any(|(_, grant)| grant.permits(key, service))
    }
}
