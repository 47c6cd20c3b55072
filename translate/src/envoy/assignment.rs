//! Endpoints of a service port: plain addresses, and tunnels to pods that ambient captures.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use proto::{
    TypeUrl,
    envoy::{ClusterLoadAssignment, UInt32Value, core, endpoint, string_struct},
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
        name::{AddressKey, Key, PortKey},
    },
    settings::Settings,
};

/// The endpoints behind one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Assignment {
    pub(crate) endpoints: Arc<EndpointsOf>,
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
        assignment(Self::name(key, settings), &self.endpoints, settings)
    }
}

/// The same endpoints once more, for what is not HTTP behind a port that does not say. Endpoints have
/// the name of their cluster: Envoy keeps a cluster warming until something of that name comes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SniffedAssignment {
    pub(crate) endpoints: Arc<EndpointsOf>,
}

impl Row for SniffedAssignment {
    const TABLE: &'static str = "sniffed assignment";
    type Key = AddressKey;
    type Bucket = ();

    fn buckets(_key: &AddressKey, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Emit for SniffedAssignment {
    const TYPE: TypeUrl = TypeUrl::Endpoint;
    type Message = ClusterLoadAssignment;

    fn waypoint(key: &AddressKey) -> &Key {
        &key.waypoint
    }

    fn name(key: &AddressKey, settings: &Settings) -> String {
        SniffedCluster::name(key, settings)
    }

    fn emit(&self, key: &AddressKey, settings: &Settings) -> ClusterLoadAssignment {
        assignment(Self::name(key, settings), &self.endpoints, settings)
    }
}

fn assignment(cluster_name: String, endpoints: &EndpointsOf, settings: &Settings) -> ClusterLoadAssignment {
    let endpoints = endpoints.0.iter();
    let endpoints =
        endpoints.map(|one| (&one.locality, one.weight, lb_endpoint(one, &settings.trust_domain)));
    by_locality(cluster_name, endpoints)
}

/// Endpoints with their localities. A locality weighs what its endpoints do together, so that an
/// endpoint has the same share wherever it is.
pub(crate) fn by_locality<'l>(
    cluster_name: String,
    endpoints: impl Iterator<Item = (&'l Locality, u32, endpoint::LbEndpoint)>,
) -> ClusterLoadAssignment {
    let mut localities: BTreeMap<&Locality, (u32, Vec<endpoint::LbEndpoint>)> = BTreeMap::new();
    for (locality, weight, mut endpoint) in endpoints {
        endpoint.load_balancing_weight = (weight != 1).then_some(UInt32Value { value: weight });
        let (sum, members) = localities.entry(locality).or_default();
        *sum = sum.saturating_add(weight);
        members.push(endpoint);
    }
    let localities = localities.into_iter().map(|(locality, (sum, members))| endpoint::LocalityLbEndpoints {
        locality: (*locality != Locality::default()).then(|| core::Locality {
            region: locality.region.to_string(),
            zone: locality.zone.to_string(),
            sub_zone: locality.sub_zone.to_string(),
        }),
        lb_endpoints: members,
        load_balancing_weight: Some(UInt32Value { value: sum }),
        ..endpoint::LocalityLbEndpoints::default()
    });
    ClusterLoadAssignment {
        cluster_name,
        endpoints: localities.collect(),
        ..ClusterLoadAssignment::default()
    }
}

fn lb_endpoint(one: &Endpoint, trust_domain: &str) -> endpoint::LbEndpoint {
    let destination = SocketAddr::new(one.ip, one.port).to_string();
    let workload = one.workload.as_ref();
    let identity = workload.map(|workload| workload.identity.uri(trust_domain));
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
                (DESTINATION, string_struct([("local", destination)])),
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
        ..endpoint::LbEndpoint::default()
    }
}
