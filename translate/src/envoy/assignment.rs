//! Endpoints of a service port: plain addresses, and tunnels to pods that ambient captures.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use proto::{
    Name, Place, TypeUrl,
    envoy::{
        ClusterLoadAssignment, UInt32Value, cluster_load_assignment,
        core::{self, HealthStatus},
        endpoint, string_struct,
    },
};

use super::{
    cluster::SniffedCluster,
    connect_originate::{DESTINATION, NAME as CONNECT_ORIGINATE, TUNNEL},
    extension::{internal_address, metadata, socket_address},
};
use crate::{
    bind::endpoints_of::{Endpoint, EndpointsOf},
    derive::Row,
    emit::Emit,
    mesh::{
        endpoint::Locality,
        name::{ANY_PORT, Key, PortKey, ScopeKey},
        nearness::Nearness,
    },
    settings::Settings,
};

/// The endpoints behind one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Assignment {
    staying: Arc<[Endpoint]>,
    /// Those that leave, as far as anybody may get one of them.
    leaving: Arc<[Endpoint]>,
    pub(super) nearness: Nearness,
    keeps_sessions: bool,
    /// Trust domains besides our own in which captured pods may prove who they are; none if there are
    /// no such pods.
    aliases: Vec<Name>,
}

impl Assignment {
    /// Endpoints that leave are there for those who come back to them, if anybody does, and for
    /// everybody where nothing else is left.
    pub(crate) fn of(endpoints: &EndpointsOf, keeps_sessions: bool, aliases: &[Name]) -> Self {
        let EndpointsOf { staying, leaving, nearness } = endpoints;
        // On some node there may be nothing else.
        let wanted = keeps_sessions || staying.is_empty() || *nearness == Nearness::OnlyNode;
        Self {
            staying: Arc::clone(staying),
            leaving: if wanted { Arc::clone(leaving) } else { Arc::default() },
            nearness: *nearness,
            keeps_sessions: keeps_sessions && !leaving.is_empty(),
            aliases: aliases.to_vec(),
        }
    }

    fn seen_from(&self, cluster_name: String, settings: &Settings, place: &Place) -> ClusterLoadAssignment {
        let assignment = by_locality(cluster_name, self.chosen(settings, place));
        ClusterLoadAssignment { policy: self.keeps_sessions.then(|| steadfast(&assignment)), ..assignment }
    }

    /// What a reader there gets: each with its rank, its locality and its weight.
    pub(super) fn chosen(
        &self,
        settings: &Settings,
        place: &Place,
    ) -> Vec<(u32, Locality, u32, endpoint::LbEndpoint)> {
        let rank = near(self.nearness, place);
        let ranked = |all: &Arc<[Endpoint]>, health: HealthStatus| -> Vec<_> {
            let all = all.iter();
            all.filter_map(|one| {
                let endpoint = lb_endpoint(one, health, &settings.trust_domain, &self.aliases);
                Some((rank(&one.locality, &one.node)?, one.locality.clone(), one.weight, endpoint))
            })
            .collect()
        };
        let mut chosen = ranked(&self.staying, HealthStatus::Unknown);
        // If nobody stays, those that leave take what comes, as kube-proxy has it.
        if chosen.is_empty() {
            chosen = ranked(&self.leaving, HealthStatus::Unknown);
        } else if self.keeps_sessions {
            chosen.extend(ranked(&self.leaving, HealthStatus::Draining));
        }
        chosen
    }
}

impl Row for Assignment {
    const TABLE: &'static str = "assignment";
    type Key = PortKey;
    type Bucket = ();

    fn buckets(_key: &PortKey, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Emit for Assignment {
    const TYPE: TypeUrl = TypeUrl::Endpoint;
    type Message = ClusterLoadAssignment;

    fn waypoint(key: &PortKey) -> &Key {
        &key.waypoint
    }

    fn name(key: &PortKey, settings: &Settings) -> String {
        key.cluster_name(&settings.cluster_domain)
    }

    fn emit(&self, key: &PortKey, settings: &Settings) -> ClusterLoadAssignment {
        self.emit_at(key, settings, &Place::default())
    }

    fn is_placed(&self) -> bool {
        self.nearness != Nearness::Alike
    }

    fn emit_at(&self, key: &PortKey, settings: &Settings, place: &Place) -> ClusterLoadAssignment {
        self.seen_from(Self::name(key, settings), settings, place)
    }
}

/// The same endpoints once more, for what is not HTTP behind a port that does not say. Endpoints have
/// the name of their cluster: Envoy keeps a cluster warming until something of that name comes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SniffedAssignment(pub(crate) Assignment);

impl Row for SniffedAssignment {
    const TABLE: &'static str = "sniffed assignment";
    type Key = ScopeKey;
    type Bucket = ();

    fn buckets(_key: &ScopeKey, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Emit for SniffedAssignment {
    const TYPE: TypeUrl = TypeUrl::Endpoint;
    type Message = ClusterLoadAssignment;

    fn waypoint(key: &ScopeKey) -> &Key {
        &key.waypoint
    }

    fn name(key: &ScopeKey, settings: &Settings) -> String {
        SniffedCluster::name(key, settings)
    }

    fn emit(&self, key: &ScopeKey, settings: &Settings) -> ClusterLoadAssignment {
        self.emit_at(key, settings, &Place::default())
    }

    fn is_placed(&self) -> bool {
        self.0.is_placed()
    }

    fn emit_at(&self, key: &ScopeKey, settings: &Settings, place: &Place) -> ClusterLoadAssignment {
        self.0.seen_from(Self::name(key, settings), settings, place)
    }
}

/// How near endpoints are to a reader there.
pub(super) fn near(nearness: Nearness, place: &Place) -> impl Fn(&Locality, &Name) -> Option<u32> {
    move |locality, node| nearness.rank(place, locality, node)
}

/// Endpoints by their rank, and by their localities within it. A locality weighs what its endpoints
/// do together, so that an endpoint has the same share wherever it is.
pub(super) fn by_locality(
    cluster_name: String,
    endpoints: impl IntoIterator<Item = (u32, Locality, u32, endpoint::LbEndpoint)>,
) -> ClusterLoadAssignment {
    let mut ranks: BTreeMap<u32, BTreeMap<Locality, (u32, Vec<endpoint::LbEndpoint>)>> = BTreeMap::new();
    for (rank, locality, weight, mut endpoint) in endpoints {
        endpoint.load_balancing_weight = (weight != 1).then_some(UInt32Value { value: weight });
        let (sum, members) = ranks.entry(rank).or_default().entry(locality).or_default();
        *sum = sum.saturating_add(weight);
        members.push(endpoint);
    }
    // Envoy wants priorities without gaps.
    let ranks = (0..).zip(ranks.into_values());
    let localities = ranks.flat_map(|(priority, localities)| {
        localities.into_iter().map(move |(locality, (sum, members))| endpoint::LocalityLbEndpoints {
            locality: (locality != Locality::default()).then(|| core::Locality {
                region: locality.region.to_string(),
                zone: locality.zone.to_string(),
                sub_zone: locality.sub_zone.to_string(),
            }),
            lb_endpoints: members,
            load_balancing_weight: Some(UInt32Value { value: sum }),
            priority,
            ..endpoint::LocalityLbEndpoints::default()
        })
    });
    ClusterLoadAssignment {
        cluster_name,
        endpoints: localities.collect(),
        ..ClusterLoadAssignment::default()
    }
}

/// One endpoint that stays is enough to keep its priority, or its locality's share. As Envoy has it,
/// with more than 28 of 100 leaving, requests would go elsewhere.
pub(super) fn steadfast(assignment: &ClusterLoadAssignment) -> cluster_load_assignment::Policy {
    let all: usize = assignment.endpoints.iter().map(|locality| locality.lb_endpoints.len()).sum();
    let percent = u32::try_from(all).unwrap_or(u32::MAX).saturating_mul(100);
    cluster_load_assignment::Policy {
        overprovisioning_factor: (percent > 0).then_some(UInt32Value { value: percent }),
        ..cluster_load_assignment::Policy::default()
    }
}

fn lb_endpoint(
    one: &Endpoint,
    health: HealthStatus,
    trust_domain: &str,
    aliases: &[Name],
) -> endpoint::LbEndpoint {
    let destination = SocketAddr::new(one.ip, one.port).to_string();
    let workload = one.workload.as_ref();
    // Any of these will do: a pod keeps its certificate for a while when the mesh is given a new name.
    let identity = workload.map(|workload| {
        let domains = std::iter::once(trust_domain).chain(aliases.iter().map(AsRef::as_ref));
        domains.map(|domain| workload.identity.uri(domain)).collect::<Vec<_>>().join(",")
    });
    let described = workload.into_iter().flat_map(|workload| {
        [
            ("workload", workload.name.to_string()),
            ("namespace", workload.identity.namespace.to_string()),
            ("app", workload.app.to_string()),
            ("version", workload.version.to_string()),
            ("principal", workload.identity.uri(trust_domain)),
        ]
    });
    let described = ("istio", string_struct(described));
    let (address, metadata) = match identity {
        Some(identity) if one.tunnel => (
            internal_address(CONNECT_ORIGINATE, destination.clone()),
            metadata([
                // Without it the tunnel is for what was dialled.
                (DESTINATION, string_struct((one.port != ANY_PORT).then_some(("local", destination)))),
                (TUNNEL, string_struct([("san", identity)])),
                described,
            ]),
        ),
        Some(_) | None => (socket_address(SocketAddr::new(one.ip, one.port)), metadata([described])),
    };
    endpoint::LbEndpoint {
        metadata: Some(metadata),
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
            address: Some(address),
            ..endpoint::Endpoint::default()
        })),
        health_status: health.into(),
        ..endpoint::LbEndpoint::default()
    }
}
