//! EndpointSlice: addresses behind a Service, and which number each named port has there.

use std::net::IpAddr;

use proto::{Name, kubernetes};

use super::{
    name::{Key, ServiceKey},
    protocol::Protocol,
};
use crate::derive::Row;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slice {
    pub(crate) service: ServiceKey,
    pub(crate) ports: Vec<SlicePort>,
    pub(crate) endpoints: Vec<SliceEndpoint>,
}

/// A port that endpoints listen on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SlicePort {
    /// The Service's name for it.
    pub(crate) name: Name,
    pub(crate) number: u16,
    pub(crate) protocol: Protocol,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Bucket {
    /// Slices of that service.
    Service(ServiceKey),
    /// Slices that name that pod.
    Pod(Key),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SliceEndpoint {
    /// The first of its addresses that is an IP: they are fungible by the API.
    pub(crate) ip: IpAddr,
    pub(crate) pod: Option<Key>,
    pub(crate) ready: bool,
    /// Answers requests, ready for new ones or not.
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) zone: Name,
    /// Empty where nobody says.
    pub(crate) node: Name,
}

/// Where an endpoint is, as far as anyone said.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Locality {
    pub(crate) region: Name,
    pub(crate) zone: Name,
    pub(crate) sub_zone: Name,
}

impl Locality {
    /// Reads `region/zone/subzone`, of which the later parts may be missing.
    pub(crate) fn of_path(path: &str) -> Self {
        let mut parts = path.splitn(3, '/').chain(std::iter::repeat("")).map(Name::from);
        let mut part = || parts.next().unwrap_or_default();
        Self { region: part(), zone: part(), sub_zone: part() }
    }
}

impl Row for Slice {
    const TABLE: &'static str = "slice";
    type Key = Key;
    type Bucket = Bucket;

    fn buckets(_key: &Key, row: &Self) -> Vec<Bucket> {
        let pods = row.endpoints.iter().filter_map(|endpoint| endpoint.pod.clone()).map(Bucket::Pod);
        pods.chain([Bucket::Service(row.service.clone())]).collect()
    }
}

/// `None` for a slice that belongs to no Service, or that holds no IP addresses.
pub(crate) fn lower(object: &kubernetes::EndpointSlice) -> Option<Slice> {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let service = super::labels::label(&object.metadata, "kubernetes.io/service-name")?;
    if object.address_type == "FQDN" {
        return None;
    }
    let tcp = |protocol: Option<&str>| protocol.is_none_or(|protocol| protocol == "TCP");
    let ports = object.ports.iter().flatten().filter(|port| tcp(port.protocol.as_deref()));
    let ports = ports.filter_map(|port| {
        let number = u16::try_from(port.port?).ok()?;
        Some(SlicePort {
            name: port.name.as_deref().unwrap_or_default().into(),
            number,
            protocol: Protocol::lower(port.app_protocol.as_deref(), port.name.as_deref()),
        })
    });
    Some(Slice {
        service: ServiceKey::kubernetes(namespace, service),
        ports: ports.collect(),
        endpoints: object
            .endpoints
            .iter()
            .filter_map(|endpoint| lower_endpoint(endpoint, namespace))
            .collect(),
    })
}

fn lower_endpoint(endpoint: &kubernetes::Endpoint, namespace: &str) -> Option<SliceEndpoint> {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    let pod = target.and_then(|target| {
        Some(Key::new(target.namespace.as_deref().unwrap_or(namespace), target.name.as_deref()?))
    });
    Some(SliceEndpoint {
        ip: endpoint.addresses.iter().find_map(|address| address.parse().ok())?,
        pod,
        // The API: an unknown readiness is readiness.
        ready: conditions.ready.unwrap_or(true),
        // The API: a serving that nobody says is what readiness says.
        serving: conditions.serving.or(conditions.ready).unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        zone: endpoint.zone.as_deref().unwrap_or_default().into(),
        node: endpoint.node_name.as_deref().unwrap_or_default().into(),
    })
}
