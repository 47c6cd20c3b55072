//! The RouteConfiguration of a service port: the route for its tunnels, the routes for the requests
//! in them, and the filters that judge those requests. One resource, so one change is one resource
//! and nothing drains.

use std::{collections::BTreeMap, sync::Arc};

use proto::{
    Name, TypeUrl,
    envoy::{Any, BoolValue, RouteConfiguration, core, route, string_struct},
};

use super::{
    connect_terminate::{L4_ALLOW, L4_ASK, L4_AUDIT, L4_DENY, l4, l4_ask},
    dispatch,
    extension::{metadata, typed},
    found,
    main_internal::{self, SERVICE_FILTERS, service_filters},
    request_route, server_name, sniffed,
    tls_router::{self, NAME_ALLOW, NAME_AUDIT, NAME_DENY},
};
use crate::{
    bind::{
        by_name::{ByName, Connections},
        policies_of::PoliciesOf,
        routes_of::RoutesOf,
    },
    derive::Row,
    emit::Emit,
    mesh::{
        name::{Key, PortKey},
        protocol::Protocol,
    },
    policy::{
        authentication,
        authorization::{self, At, Layer, Verdicts, custom},
    },
    route::retry,
    settings::Settings,
};

/// All that the resource depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PortConfig {
    pub(crate) routes: Arc<RoutesOf>,
    pub(crate) policies: Arc<PoliciesOf>,
    /// The ports of the service by their names, if some policy asks for one by its name.
    pub(crate) port_names: BTreeMap<Name, u16>,
    /// The only hosts that requests may name, and that they are sent to.
    pub(crate) wildcard: Option<Name>,
    /// Trust domains besides our own that callers of a namespace may be in; none where nobody asks.
    pub(crate) aliases: Vec<Name>,
}

impl Row for PortConfig {
    const TABLE: &'static str = "port config";
    type Key = PortKey;
    type Bucket = ();

    fn buckets(_key: &PortKey, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Emit for PortConfig {
    const TYPE: TypeUrl = TypeUrl::Route;
    type Message = RouteConfiguration;

    fn waypoint(key: &PortKey) -> &Key {
        &key.waypoint
    }

    fn name(key: &PortKey, _settings: &Settings) -> String {
        key.route_name()
    }

    fn emit(&self, key: &PortKey, settings: &Settings) -> RouteConfiguration {
        let protocol = self.routes.protocol;
        let mut routes = Vec::new();
        if protocol.may_be_http() {
            for (namespace, consumer) in &self.routes.consumers {
                let whole = consumer.iter().map(|routed| request_route::emit(routed, key, settings));
                let whole = whole.chain([request_route::not_found()]);
                routes.extend(
                    whole.map(|route| {
                        request_route::for_callers_of(namespace, route, &self.aliases, settings)
                    }),
                );
            }
            routes.extend(self.routes.routes.iter().map(|routed| request_route::emit(routed, key, settings)));
            // What no rule matches is judged first like everything else, and then not found.
            routes.push(request_route::not_found());
        }
        let mut filters = if protocol.may_be_http() { self.filters(key, settings) } else { Vec::new() };
        if self.wildcard.is_some() {
            filters.push(typed("dns", &found::requested(&key.cluster_name(&settings.cluster_domain))));
        }
        let filters = (!filters.is_empty()).then(|| (SERVICE_FILTERS.to_owned(), service_filters(filters)));
        let by_name =
            self.policies.asks_names() && (protocol == Protocol::Tcp || !self.routes.consumed.is_empty());
        let of_names = if by_name { self.verdicts(key.port, Layer::Named) } else { Verdicts::default() };
        let of_names = in_filters(of_names, [NAME_AUDIT, NAME_DENY, NAME_ALLOW]);
        RouteConfiguration {
            name: key.route_name(),
            // A cluster may come after the route that names it, and often does on a busy day.
            validate_clusters: Some(BoolValue { value: false }),
            request_headers_to_remove: vec![dispatch::HEADER.to_owned()],
            virtual_hosts: self.virtual_hosts(key, settings, routes),
            typed_per_filter_config: filters.into_iter().chain(of_names).collect(),
            ..RouteConfiguration::default()
        }
    }
}

impl PortConfig {
    /// One for tunnels and requests alike, as the tunnel's authority is an address and a request's
    /// may be anything. Behind a wildcard, requests to its hosts have one of their own, and to
    /// others there is no way: the caller's word decides where they go.
    fn virtual_hosts(
        &self,
        key: &PortKey,
        settings: &Settings,
        requests: Vec<route::Route>,
    ) -> Vec<route::VirtualHost> {
        let tunnels = self.tunnels(key, settings);
        let host = |name: String, domains, routes| route::VirtualHost {
            name,
            domains,
            routes,
            // Said once, for all requests whose rule asks for none of its own.
            retry_policy: self.routes.protocol.may_be_http().then(|| retry::emit(None, None)),
            ..route::VirtualHost::default()
        };
        let Some(wildcard) = &self.wildcard else {
            let with_requests = |routes: Vec<_>| routes.into_iter().chain(requests.iter().cloned()).collect();
            let mut hosts = vec![host(key.route_name(), vec!["*".to_owned()], with_requests(tunnels))];
            // Where some callers speak HTTP, their requests may name any host, one of ours too.
            hosts.extend(
                self.names(key, settings)
                    .into_iter()
                    .map(|named| host(named.name, named.domains, with_requests(named.routes))),
            );
            return hosts;
        };
        // A request is sent to the port that it names: it has to name the one that was dialled.
        let mut domains = vec![format!("{wildcard}:{}", key.port)];
        domains.extend((key.port == 80).then(|| wildcard.to_string()));
        vec![
            host(key.route_name(), domains, requests),
            host(
                "others".to_owned(),
                vec!["*".to_owned()],
                tunnels.into_iter().chain([request_route::not_found()]).collect(),
            ),
        ]
    }

    /// The virtual hosts of the names that connections ask for.
    fn names(&self, key: &PortKey, settings: &Settings) -> Vec<route::VirtualHost> {
        let RoutesOf { protocol, connections, consumed, .. } = &*self.routes;
        // Where only policies ask for names, all of them lead to one place.
        let by_name = |connections: &Connections| match &connections.by_name {
            none if none.is_empty() && self.policies.asks_names() => ByName::whatever(&connections.all),
            by_name => by_name.clone(),
        };
        let mut groups: Vec<_> =
            consumed.iter().map(|(namespace, theirs)| (Some(namespace), by_name(theirs))).collect();
        groups.extend((*protocol == Protocol::Tcp).then(|| (None, by_name(connections))));
        let for_callers_of = |namespace: &Name, route| {
            request_route::for_callers_of(namespace, route, &self.aliases, settings)
        };
        let groups: Vec<_> = groups.iter().map(|(namespace, by_name)| (*namespace, by_name)).collect();
        tls_router::virtual_hosts(&groups, for_callers_of, key, settings)
    }

    /// The routes that `connect_terminate` takes, for the callers of some namespaces and for the
    /// others: into an internal listener for what has to be looked at, straight to the backends for
    /// what has not.
    fn tunnels(&self, key: &PortKey, settings: &Settings) -> Vec<route::Route> {
        let RoutesOf { protocol, connections, consumed, .. } = &*self.routes;
        let internal = |name: &str| route::route_action::ClusterSpecifier::Cluster(name.to_owned());
        let bytes = |Connections { all, by_name }: &Connections| {
            if by_name.is_empty() && !self.policies.asks_names() {
                request_route::connections(all, key, settings)
            } else {
                internal(server_name::NAME)
            }
        };
        let leads_to = match protocol {
            Protocol::Http => internal(main_internal::NAME),
            Protocol::Sniffed => internal(sniffed::NAME),
            Protocol::Tcp => bytes(connections),
        };
        let consumed = consumed.iter().map(|(namespace, theirs)| {
            let tunnel = self.tunnel(Protocol::Tcp, bytes(theirs), key, settings);
            request_route::for_callers_of(namespace, tunnel, &self.aliases, settings)
        });
        consumed.chain([self.tunnel(*protocol, leads_to, key, settings)]).collect()
    }

    fn tunnel(
        &self,
        protocol: Protocol,
        leads_to: route::route_action::ClusterSpecifier,
        key: &PortKey,
        settings: &Settings,
    ) -> route::Route {
        let judged =
            self.judges_tunnels(protocol).then(|| self.verdicts(key.port, self.of_tunnels(protocol)));
        let verdicts = judged.unwrap_or_default();
        let filters = in_filters(verdicts, [L4_AUDIT, L4_DENY, L4_ALLOW]);
        // Who is asked about the tunnel is asked before anything in it is known, the name too.
        let asked = if self.judges_tunnels(protocol) { self.policies.asked.as_slice() } else { &[] };
        let asked = custom::emit(asked, key, self.at(key.port, Layer::Tcp), settings);
        let asked = L4_ASK.into_iter().zip(asked).map(|(name, filters)| (name.to_owned(), l4_ask(filters)));
        let mut tunnel = request_route::tunnel(dispatch::TUNNEL, leads_to);
        if let Some(route::route::Action::Route(action)) = &mut tunnel.action {
            // A tunnel is the caller's to open again, unlike a request.
            action.retry_policy = protocol.may_be_http().then(route::RetryPolicy::default);
        }
        route::Route {
            metadata: Some(metadata([(
                "istio",
                string_struct([
                    ("host", key.service.host(&settings.cluster_domain)),
                    ("name", key.service.name.to_string()),
                    ("namespace", key.service.namespace.to_string()),
                    ("proto", protocol.as_str().to_owned()),
                ]),
            )])),
            typed_per_filter_config: filters.into_iter().chain(asked).collect(),
            ..tunnel
        }
    }

    /// Whether tunnels are judged when they are opened, where they carry that.
    pub(crate) fn judges_tunnels(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Tcp => true,
            Protocol::Http => false,
            // Policies that ask nothing about HTTP hold for the tunnel whatever it carries. With
            // others, only HTTP gets through: there is no cluster for the rest.
            Protocol::Sniffed => !self.policies.needs_http(),
        }
    }

    /// Where what judges tunnels stands, where they carry that.
    pub(crate) fn of_tunnels(&self, protocol: Protocol) -> Layer {
        match protocol {
            Protocol::Tcp if self.policies.asks_names() => Layer::Unnamed,
            Protocol::Tcp | Protocol::Http | Protocol::Sniffed => Layer::Tcp,
        }
    }

    fn verdicts(&self, port: u16, layer: Layer) -> Verdicts {
        authorization::emit(&self.policies.judging(layer), self.at(port, layer))
    }

    pub(crate) fn at(&self, port: u16, layer: Layer) -> At<'_> {
        At { port, names: &self.port_names, layer }
    }

    /// The service's filters, in the order in which Envoy runs them.
    fn filters(&self, key: &PortKey, settings: &Settings) -> Vec<core::TypedExtensionConfig> {
        let verdicts = self.verdicts(key.port, Layer::Http);
        // Who is asked elsewhere comes first, who asks next, and then who may ask: what only serves the
        // allowed never answers anyone else.
        let mut chain =
            custom::emit(&self.policies.asked, key, self.at(key.port, Layer::Http), settings).concat();
        chain.extend(authentication::emit(&self.policies.checks));
        let rbacs =
            [("authz-audit", verdicts.audit), ("authz-deny", verdicts.deny), ("authz-allow", verdicts.allow)];
        chain.extend(rbacs.into_iter().filter_map(|(name, rules)| Some(typed(name, &rules?))));
        chain.extend(request_route::service_filters(&self.routes));
        chain
    }
}

/// The verdicts as the filters of those names have them: audit, deny, allow.
fn in_filters(verdicts: Verdicts, names: [&str; 3]) -> BTreeMap<String, Any> {
    let Verdicts { audit, deny, allow } = verdicts;
    let filters = names.into_iter().zip([audit, deny, allow]);
    filters.filter_map(|(name, rules)| Some((name.to_owned(), l4(rules?)))).collect()
}
