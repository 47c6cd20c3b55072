//! Which route takes a request or a connection, by the rows that the port's resource is made of.

use proto::{Name, ObjectRef};

use super::{
    Inquiry,
    answer::{Leads, Route},
};
use crate::{
    bind::{
        applied_route::Bucket,
        by_name::Connections,
        resolved_route::Forward,
        routes_of::{Failure, Routed},
    },
    derive::Reads,
    envoy::{request_route::callers_of, route_config::PortConfig},
    filter::Filter,
    mesh::{name::PortKey, pattern::Pattern},
    policy::authorization::facts::{Inside, Seen},
    route::{
        hostname::Hostname,
        matches::{HttpMatch, PathMatch},
        rule::takes_connections,
    },
};

impl Inquiry<'_> {
    /// Whether that peer is a caller of the namespace, as the routes of consumers tell it.
    pub(super) fn is_of(&self, namespace: &Name, peer: Option<&str>, config: &PortConfig) -> bool {
        let callers = callers_of(namespace, &config.aliases, &self.mesh.settings);
        peer.is_some_and(|peer| self.expressions.holds(&callers, peer.as_bytes(), false))
    }

    /// Where a request goes.
    pub(super) fn of_request(
        &self,
        config: &PortConfig,
        key: &PortKey,
        peer: Option<&str>,
        inside: &Inside<'_>,
    ) -> Route {
        let consumers = &config.routes.consumers;
        let consumer = consumers.iter().find(|(namespace, _)| self.is_of(namespace, peer, config));
        let routes = consumer.map_or(&config.routes.routes, |(_, routes)| routes);
        let found = match inside {
            Inside::Request(seen) if is_served(config, key, seen) => {
                Ok(routes.iter().find(|routed| self.takes(&routed.found, seen)))
            }
            Inside::Request(_) => Ok(None),
            Inside::AnyRequest | Inside::Bytes { .. } => {
                let all = routes.first().filter(|first| first.found == HttpMatch::everything());
                all.filter(|_| config.wildcard.is_none()).map(Some).ok_or(())
            }
        };
        let consumer = consumer.map(|(namespace, _)| namespace.clone());
        let nothing = |leads| Route { route: None, rule: None, consumer: consumer.clone(), leads };
        match found {
            Err(()) => nothing(Leads::Unknown),
            Ok(None) => nothing(Leads::NotFound),
            Ok(Some(Routed { name, forward, failure, .. })) => {
                let status = match failure {
                    Failure::InternalServerError => 500,
                    Failure::Unavailable => 503,
                };
                let (route, rule) = self.written(key, forward, Some(name));
                Route { route, rule, consumer, leads: self.leads(forward, status) }
            }
        }
    }

    /// Where a connection goes.
    pub(super) fn of_connection(
        &self,
        config: &PortConfig,
        key: &PortKey,
        peer: Option<&str>,
        server_name: Option<&str>,
    ) -> Route {
        let mut of_namespaces = config.routes.consumed.iter();
        let consumer = of_namespaces.find(|(namespace, _)| self.is_of(namespace, peer, config));
        let Connections { all, by_name } =
            consumer.map_or(&config.routes.connections, |(_, connections)| connections);
        let consumer = consumer.map(|(namespace, _)| namespace.clone());
        if by_name.is_empty() {
            let (route, rule) = self.written(key, all, None);
            return Route { route, rule, consumer, leads: self.leads(all, 503) };
        }
        let asked = server_name.map(|name| Hostname::Exact(name.to_ascii_lowercase().into()));
        let Some(named) = by_name.of(asked.as_ref()) else {
            return Route { route: None, rule: None, consumer, leads: Leads::NotFound };
        };
        let (route, rule) = self.written(key, &named.forward, Some(&named.name));
        Route { route, rule, consumer, leads: self.leads(&named.forward, 503) }
    }

    /// The route and the rule that say so; a row knows them by the name that logs show. A port that no
    /// route says anything of has none.
    fn written(
        &self,
        key: &PortKey,
        forward: &Forward,
        name: Option<&str>,
    ) -> (Option<ObjectRef>, Option<Name>) {
        let reads = Reads::default();
        let bindings = &self.mesh.bindings;
        let on_port = bindings.applied_routes.bucket(&reads, &Bucket::Service(key.service.clone()));
        let on_port = on_port.filter(|(_, applied)| applied.applies_to(&key.service, key.port));
        let on_waypoint = bindings.applied_routes.bucket(&reads, &Bucket::Gateway(key.waypoint.clone()));
        // What the rules of other routes say may be the same, and is not what is said of connections.
        let suits = |route: &ObjectRef| takes_connections(route.kind) || name.is_some();
        for (route, _) in on_port.chain(on_waypoint).filter(|(route, _)| suits(route)) {
            let rules = bindings.resolved_routes.get(&reads, route).map(|row| row.rules.as_slice());
            let is = |rule: &Name| {
                name.is_none_or(|name| *name == format!("{}/{}/{rule}", route.namespace, route.name))
            };
            let mut rules = rules.unwrap_or_default().iter();
            if let Some(rule) = rules.find(|rule| *rule.forward == *forward && is(&rule.name)) {
                return (Some(route.clone()), Some(rule.name.clone()));
            }
        }
        (None, None)
    }

    fn leads(&self, forward: &Forward, status: u16) -> Leads {
        if forward.filters.iter().any(Filter::redirects) {
            return Leads::Redirected;
        }
        let shares = forward.shares.iter().filter(|share| share.weight > 0);
        let shares = shares.map(|share| {
            let to = share.backend.as_ref().map(|(service, port)| {
                format!("{}:{port}", service.host(&self.mesh.settings.cluster_domain))
            });
            (to, share.weight)
        });
        let shares: Vec<_> = shares.collect();
        if shares.iter().all(|(to, _)| to.is_none()) { Leads::Fails(status) } else { Leads::To(shares) }
    }

    /// Whether a request is one that a rule matches, as Envoy matches its routes.
    fn takes(&self, found: &HttpMatch, seen: &Seen<'_>) -> bool {
        let HttpMatch { path, method, headers, query } = found;
        let bare = seen.bare_path();
        let by_path = match path {
            PathMatch::Exact(path) => bare == path,
            PathMatch::Prefix(prefix) => bare
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            PathMatch::Regex(regex) => {
                let regex = Pattern::Regex(regex.clone());
                self.expressions.holds(&regex, bare.as_bytes(), false)
            }
        };
        // All lines of a header are one value here.
        let by_headers = headers.iter().all(|(name, value)| {
            seen.line(name).is_some_and(|line| self.expressions.holds(value, &line, false))
        });
        let asked = seen.path.split_once('?').map_or("", |(_, query)| query);
        let first = |name: &str| {
            let mut pairs = asked.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        let by_query = query.iter().all(|(name, value)| {
            first(name).is_some_and(|found| self.expressions.holds(value, found.as_bytes(), false))
        });
        by_path && method.is_none_or(|method| method == seen.method) && by_headers && by_query
    }
}

/// Whether the host of a request is one that is served: behind a wildcard it names where it goes.
fn is_served(config: &PortConfig, key: &PortKey, seen: &Seen<'_>) -> bool {
    let Some(wildcard) = &config.wildcard else { return true };
    let host = seen.host.to_ascii_lowercase();
    let bare = match host.strip_suffix(&format!(":{}", key.port)) {
        Some(bare) => bare,
        None if key.port == 80 => &host,
        None => return false,
    };
    wildcard.strip_prefix('*').is_some_and(|below| bare.len() > below.len() && bare.ends_with(below))
}
