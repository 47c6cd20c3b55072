//! The resources in the order in which they follow from the joins, and what of them a commit moved.

use std::{collections::BTreeMap, sync::Arc};

use proto::Delta;

use crate::{
    bind::{
        addressed::Addressed,
        endpoints_of::{self, EndpointsOf},
        routes_of,
        upstream_of::{self, Upstream},
        waypoint_of::WaypointOf,
    },
    bindings::{Bindings, ports, serving},
    change::Audience,
    derive::{Derived, Reads, Touched},
    emit::{self, Emit},
    envoy::{
        assignment::{Assignment, SniffedAssignment},
        blocks::Blocks,
        cluster::{ServiceCluster, SniffedCluster},
        infrastructure::{self, Infrastructure, InnerListeners},
        merged::{MergedAssignment, MergedCluster},
        route_config::PortConfig,
        scope::Scope,
        trusted::Trusted,
    },
    inputs::Inputs,
    mesh::{
        name::{Dialled, Key, PortKey, RuleKey, ScopeKey, ServiceKey},
        protocol::Protocol,
    },
    settings::Settings,
};

#[derive(Default)]
pub(crate) struct Resources {
    pub(crate) infrastructure: Derived<Infrastructure>,
    pub(crate) inner_listeners: Derived<InnerListeners>,
    trusted: Derived<Trusted>,
    pub(crate) configs: Derived<PortConfig>,
    clusters: Derived<ServiceCluster>,
    endpoints_of: Derived<EndpointsOf>,
    assignments: Derived<Assignment>,
    scopes: Derived<Scope>,
    blocks: Derived<Blocks>,
    merged: Derived<MergedCluster>,
    merged_assignments: Derived<MergedAssignment>,
    sniffed: Derived<SniffedCluster>,
    sniffed_assignments: Derived<SniffedAssignment>,
}

impl Resources {
    pub(crate) fn update(
        &mut self,
        touched: &mut Touched,
        inputs: &Inputs,
        bindings: &Bindings,
        settings: &Settings,
    ) {
        let Self {
            infrastructure,
            inner_listeners,
            trusted,
            configs,
            clusters,
            endpoints_of,
            assignments,
            ..
        } = self;
        let Bindings { routes_of, policies_of, .. } = bindings;
        let addressed = bindings.addressed(inputs);

        update_listeners(infrastructure, inner_listeners, trusted, touched, inputs, settings);

        configs.update(
            touched,
            routes_of.changed().iter().cloned(),
            |key| routes_of.untracked().contains_key(key),
            |reads, key| {
                let routes = Arc::clone(routes_of.get(reads, key)?);
                // Only what tells namespaces of callers apart depends on how they may be named.
                let aliases = if routes.has_consumers() { inputs.aliases(reads) } else { &[] };
                let policies = policies_of.get(reads, &(key.waypoint.clone(), key.service.clone()))?;
                let service = addressed.get(reads, &key.service)?;
                // Only where they matter: a new name elsewhere is no new resource.
                let named = service.ports.iter().filter(|_| policies.names_ports());
                Some(PortConfig {
                    aliases: aliases.to_vec(),
                    routes,
                    policies: Arc::clone(policies),
                    port_names: named.map(|port| (port.name.clone(), port.number)).collect(),
                    wildcard: service.wildcard().cloned(),
                })
            },
        );

        update_clusters(clusters, touched, inputs, bindings);
        let clusters = &*clusters;

        endpoints_of.update(
            touched,
            clusters.changed().iter().map(|key| (key.service.clone(), key.port)),
            |key| clusters.count(&Reads::default(), key) > 0,
            |reads, key| {
                if clusters.count(reads, key) == 0 {
                    return None;
                }
                endpoints_of::bind(reads, inputs, key)
            },
        );
        let endpoints_of = &*endpoints_of;

        assignments.update(
            touched,
            clusters.changed().iter().cloned(),
            |key| clusters.untracked().contains_key(key),
            |reads, key| {
                if clusters.get(reads, key)?.upstream != Upstream::Endpoints {
                    return None;
                }
                let endpoints = endpoints_of.get(reads, &(key.service.clone(), key.port))?;
                // Only who has to prove an identity depends on how it may be named.
                let aliases = if endpoints.verified() { inputs.aliases(reads) } else { &[] };
                let keeps = routes_of.count(reads, &routes_of::Bucket::Keeps(key.clone())) > 0;
                Some(Assignment::of(endpoints, keeps, aliases))
            },
        );

        self.update_scopes(touched, addressed, bindings);
        self.update_merged(touched, inputs, bindings);
        self.update_sniffed(touched, inputs, bindings);
    }

    /// What tunnels are dispatched by.
    fn update_scopes(&mut self, touched: &mut Touched, addressed: Addressed<'_>, bindings: &Bindings) {
        let Self { scopes, blocks, .. } = self;
        let Bindings { waypoint_of, block_ports, .. } = bindings;
        let rebound = addressed.changed().chain(waypoint_of.changed());
        scopes.update(
            touched,
            rebound
                .flat_map(|service| addresses(addressed, waypoint_of, service))
                .chain(block_ports.changed().iter().flat_map(by_block)),
            |key| is_dialled(addressed, bindings, key),
            |reads, key| Scope::of(reads, addressed, bindings, key),
        );
        blocks.update(
            touched,
            block_ports.changed().iter().map(|key| key.waypoint.clone()),
            |waypoint| block_ports.count(&Reads::default(), waypoint) > 0,
            |reads, waypoint| Blocks::of(reads, block_ports, waypoint),
        );
    }

    /// For the rules that keep sessions across several backends.
    fn update_merged(&mut self, touched: &mut Touched, inputs: &Inputs, bindings: &Bindings) {
        let Self { merged, merged_assignments, endpoints_of, .. } = self;
        let Bindings { routes_of, .. } = bindings;
        let count =
            |reads: &Reads, key: &RuleKey| routes_of.count(reads, &routes_of::Bucket::Merges(key.clone()));
        let reached = routes_of.changed().iter().flat_map(|key| routes_of.merged(key));
        let new: Vec<_> = reached.filter(|key| !merged.untracked().contains_key(key)).collect();
        let leads = |key: &RuleKey| count(&Reads::default(), key) > 0;
        merged.update(touched, new, leads, |reads, key| (count(reads, key) > 0).then_some(MergedCluster));
        merged_assignments.update(
            touched,
            merged.changed().iter().cloned(),
            |key| merged.untracked().contains_key(key),
            |reads, key| MergedAssignment::of(reads, inputs, routes_of, endpoints_of, key),
        );
    }

    /// For the ports that do not say what they speak: where what is not HTTP goes.
    fn update_sniffed(&mut self, touched: &mut Touched, inputs: &Inputs, bindings: &Bindings) {
        let Self { clusters, scopes, endpoints_of, sniffed, sniffed_assignments, .. } = self;
        let Bindings { routes_of, policies_of, .. } = bindings;
        sniffed.update(
            touched,
            scopes.changed().iter().cloned(),
            |key| scopes.untracked().contains_key(key),
            |reads, key| {
                let port = scopes.get(reads, key)?.port()?.clone();
                // Asked first: the policies of every other port are not its business.
                if routes_of.get(reads, &port)?.protocol != Protocol::Sniffed {
                    return None;
                }
                let policies = policies_of.get(reads, &(port.waypoint.clone(), port.service.clone()))?;
                // Behind policies that ask about HTTP nothing else gets through.
                if policies.needs_http() {
                    return None;
                }
                let upstream = clusters.get(reads, &port)?.upstream.clone();
                Some(SniffedCluster { port, upstream })
            },
        );
        let sniffed = &*sniffed;
        sniffed_assignments.update(
            touched,
            sniffed.changed().iter().cloned(),
            |key| sniffed.untracked().contains_key(key),
            |reads, key| {
                let SniffedCluster { port, upstream } = (**sniffed.get(reads, key)?).clone();
                if upstream != Upstream::Endpoints {
                    return None;
                }
                let endpoints = endpoints_of.get(reads, &(port.service, port.port))?;
                let aliases = if endpoints.verified() { inputs.aliases(reads) } else { &[] };
                Some(SniffedAssignment(Assignment::of(endpoints, false, aliases)))
            },
        );
    }

    /// What the port's resource says, for whoever asks why.
    pub(crate) fn config(&self, key: &PortKey) -> Option<&PortConfig> {
        self.configs.untracked().get(key).map(Arc::as_ref)
    }

    /// Where what is dialled leads, for whoever asks why.
    pub(crate) fn scope(&self, key: &ScopeKey) -> Option<&Scope> {
        self.scopes.untracked().get(key).map(Arc::as_ref)
    }

    /// What the last update moved.
    pub(crate) fn moved(&self, settings: &Settings) -> BTreeMap<Audience, Delta> {
        let Self {
            infrastructure,
            inner_listeners,
            trusted,
            configs,
            clusters,
            endpoints_of: _,
            assignments,
            scopes,
            blocks,
            merged,
            merged_assignments,
            sniffed,
            sniffed_assignments,
        } = self;
        let mut moved = Moved { settings, deltas: BTreeMap::new() };
        for waypoint in infrastructure.changed() {
            let delta = moved.delta(waypoint);
            match infrastructure.untracked().get(waypoint) {
                Some(row) => {
                    let version = emit::version(&**row, waypoint, settings);
                    delta.set.extend(infrastructure::emit(row, version).into_iter().map(Arc::new));
                }
                None => delta.removed.extend(infrastructure::NAMES.map(|(kind, name)| (kind, name.into()))),
            }
        }
        for waypoint in inner_listeners.changed() {
            let delta = moved.delta(waypoint);
            match inner_listeners.untracked().get(waypoint) {
                Some(row) => {
                    let version = emit::version(&**row, waypoint, settings);
                    delta.set.extend(infrastructure::emit_inner(row, version).into_iter().map(Arc::new));
                }
                None => {
                    delta.removed.extend(infrastructure::INNER_NAMES.map(|(kind, name)| (kind, name.into())));
                }
            }
        }
        moved.add(trusted);
        moved.add(clusters);
        moved.add(sniffed);
        moved.add(merged);
        moved.add(assignments);
        moved.add(sniffed_assignments);
        moved.add(merged_assignments);
        moved.add(scopes);
        moved.add(configs);
        moved.add(blocks);
        moved.deltas
    }

    /// How many rows the last update computed.
    pub(crate) fn computed(&self) -> usize {
        let Self {
            infrastructure,
            inner_listeners,
            trusted,
            configs,
            clusters,
            endpoints_of,
            assignments,
            scopes,
            blocks,
            merged,
            merged_assignments,
            sniffed,
            sniffed_assignments,
        } = self;
        infrastructure.computed()
            + inner_listeners.computed()
            + trusted.computed()
            + configs.computed()
            + clusters.computed()
            + endpoints_of.computed()
            + assignments.computed()
            + scopes.computed()
            + blocks.computed()
            + merged.computed()
            + merged_assignments.computed()
            + sniffed.computed()
            + sniffed_assignments.computed()
    }
}

/// What every waypoint has.
fn update_listeners(
    infrastructure: &mut Derived<Infrastructure>,
    inner_listeners: &mut Derived<InnerListeners>,
    trusted: &mut Derived<Trusted>,
    touched: &mut Touched,
    inputs: &Inputs,
    settings: &Settings,
) {
    infrastructure.update(
        touched,
        inputs.waypoints.changed().iter().cloned(),
        |waypoint| inputs.waypoints.untracked().contains_key(waypoint),
        |reads, waypoint| {
            let waypoint = inputs.waypoints.get(reads, waypoint)?;
            Some(Infrastructure::of(waypoint, settings))
        },
    );
    inner_listeners.update(
        touched,
        inputs.waypoints.changed().iter().cloned(),
        |waypoint| inputs.waypoints.untracked().contains_key(waypoint),
        |reads, waypoint| {
            inputs.waypoints.get(reads, waypoint)?;
            Some(InnerListeners { normalization: **inputs.normalization.get(reads, &())? })
        },
    );
    trusted.update(
        touched,
        inputs.waypoints.changed().iter().cloned(),
        |waypoint| inputs.waypoints.untracked().contains_key(waypoint),
        |reads, waypoint| {
            inputs.waypoints.get(reads, waypoint)?;
            Some(Trusted(inputs.accepted(reads)))
        },
    );
}

/// The clusters of service ports.
fn update_clusters(
    clusters: &mut Derived<ServiceCluster>,
    touched: &mut Touched,
    inputs: &Inputs,
    bindings: &Bindings,
) {
    let Bindings { routes_of, policies_of, .. } = bindings;
    let addressed = bindings.addressed(inputs);
    // A cluster is there for as long as some route leads to it, or some policy has it asked.
    let count = |reads: &Reads, key: &PortKey| {
        routes_of.count(reads, &routes_of::Bucket::EndsAt(key.clone())) + policies_of.count(reads, key)
    };
    let leads = |key: &PortKey| count(&Reads::default(), key) > 0;
    // One that is there already hears by itself of what it read.
    let reached = routes_of.changed().iter().flat_map(|key| routes_of.backends(key));
    let asked = policies_of.changed().iter().flat_map(|key| policies_of.asked(key));
    let new: Vec<_> = reached.chain(asked).filter(|key| !clusters.untracked().contains_key(key)).collect();
    clusters.update(touched, new, leads, |reads, key| {
        if count(reads, key) == 0 {
            return None;
        }
        let service = addressed.get(reads, &key.service)?;
        let protocol = service.port(key.port)?.protocol;
        let upstream = upstream_of::bind(reads, inputs, addressed, &key.service, key.port)?;
        // Whether or not a policy asks just now: whoever is asked while policies change is asked in the
        // protocol that it speaks.
        let mut callers = inputs.providers.bucket(reads, &(service.host.clone(), key.port));
        let called = callers.any(|(_, provider)| provider.may_be_in(&key.service.namespace));
        Some(ServiceCluster { protocol, upstream, called })
    });
}

struct Moved<'s> {
    settings: &'s Settings,
    deltas: BTreeMap<Audience, Delta>,
}

impl Moved<'_> {
    fn delta(&mut self, waypoint: &Key) -> &mut Delta {
        let audience = Audience { namespace: waypoint.namespace.clone(), name: waypoint.name.clone() };
        self.deltas.entry(audience).or_default()
    }

    fn add<R: Emit<Key: Send + Sync + 'static>>(&mut self, table: &Derived<R>) {
        let settings = self.settings;
        for key in table.changed() {
            let delta = self.delta(R::waypoint(key));
            match table.untracked().get(key) {
                Some(row) => delta.set.push(Arc::new(emit::resource(row, key, settings))),
                None => delta.removed.push((R::TYPE, R::name(key, settings).into())),
            }
        }
    }
}

/// The addresses at which callers reach a service behind its waypoint, for finding keys only.
fn addresses<'t>(
    addressed: Addressed<'t>,
    waypoint_of: &'t Derived<WaypointOf>,
    service: &'t ServiceKey,
) -> impl Iterator<Item = ScopeKey> + 't {
    let vips = addressed.known(service).map(|row| row.vips.as_slice()).unwrap_or_default();
    ports(addressed, waypoint_of, service).flat_map(move |PortKey { waypoint, port, .. }| {
        vips.iter().map(move |vip| ScopeKey { waypoint: waypoint.clone(), dialled: Dialled::at(*vip, port) })
    })
}

/// The scopes by which a port is found that is dialled within blocks, for finding keys only.
fn by_block(PortKey { waypoint, service, port }: &PortKey) -> [ScopeKey; 2] {
    [Dialled::Within(service.clone(), *port), Dialled::Elsewhere]
        .map(|dialled| ScopeKey { waypoint: waypoint.clone(), dialled })
}

fn is_dialled(
    addressed: Addressed<'_>,
    bindings: &Bindings,
    ScopeKey { waypoint, dialled }: &ScopeKey,
) -> bool {
    let Bindings { waypoint_of, block_ports, .. } = bindings;
    let ip = match dialled {
        Dialled::At(address) => address.ip(),
        Dialled::Host(ip) => *ip,
        Dialled::Within(service, port) => {
            return block_ports.untracked().contains_key(&PortKey::new(waypoint, service, *port));
        }
        Dialled::Elsewhere => return block_ports.count(&Reads::default(), waypoint) > 0,
    };
    let mut at = addressed.at(&Reads::default(), ip);
    at.any(|(service, _)| serving(waypoint_of, service).any(|serving| serving == waypoint))
}
