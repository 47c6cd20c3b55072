//! Service: its addresses, its ports, and what it says about its waypoint.

use std::net::IpAddr;

use proto::{Name, kubernetes};

use super::{
    labels::{self, Asked},
    name::{ServiceKey, created},
    protocol::Protocol,
};
use crate::{
    derive::Row,
    problem::{FieldPath, Lowered, Problem, Reason},
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    pub(crate) generation: Option<i64>,
    pub(crate) created: i64,
    pub(crate) asked: Asked,
    /// It belongs to a waypoint itself; a waypoint never sits in front of a waypoint.
    pub(crate) of_a_waypoint: bool,
    /// None for a headless Service.
    pub(crate) vips: Vec<IpAddr>,
    /// Ports that a waypoint can serve, by number.
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) publish_not_ready: bool,
    pub(crate) problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServicePort {
    pub(crate) number: u16,
    pub(crate) name: Name,
    pub(crate) protocol: Protocol,
}

impl Service {
    pub(crate) fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Bucket {
    /// Services in that namespace.
    Namespace(Name),
    /// Services that are dialled at that address.
    Vip(IpAddr),
}

impl Row for Service {
    const TABLE: &'static str = "service";
    type Key = ServiceKey;
    type Bucket = Bucket;

    fn buckets(key: &ServiceKey, row: &Self) -> Vec<Bucket> {
        let vips = row.vips.iter().copied().map(Bucket::Vip);
        vips.chain([Bucket::Namespace(key.namespace.clone())]).collect()
    }
}

pub(crate) fn lower(object: &kubernetes::Service) -> Service {
    let metadata = &object.metadata;
    let spec = object.spec.clone().unwrap_or_default();
    let addresses = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
    let mut vips: Vec<IpAddr> = addresses.iter().filter_map(|ip| ip.parse().ok()).collect();
    vips.sort_unstable();
    vips.dedup();
    let ports = lower_ports(&spec.ports.unwrap_or_default(), &FieldPath::new("spec").field("ports"));
    Service {
        generation: metadata.generation,
        created: created(metadata),
        asked: Asked::lower(metadata),
        of_a_waypoint: labels::label(metadata, labels::MANAGED)
            .is_some_and(|by| by == "istio.io-mesh-controller" || by == "portolan.dev-waypoint-controller"),
        vips,
        ports: ports.value,
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        problems: ports.problems,
    }
}

fn lower_ports(ports: &[kubernetes::ServicePort], at: &FieldPath) -> Lowered<Vec<ServicePort>> {
    let mut lowered: Lowered<Vec<ServicePort>> = Lowered::default();
    for (index, port) in ports.iter().enumerate() {
        // A tunnel carries TCP; UDP ports are not the waypoint's and are no mistake.
        if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
            continue;
        }
        match u16::try_from(port.port) {
            Ok(number) if number > 0 => lowered.value.push(ServicePort {
                number,
                name: port.name.as_deref().unwrap_or_default().into(),
                protocol: Protocol::lower(port.app_protocol.as_deref(), port.name.as_deref()),
            }),
            Ok(_) | Err(_) => lowered.problems.push(Problem {
                at: at.index(index).field("port"),
                reason: Reason::Invalid,
                message: format!("port {} is not in 1..65535", port.port),
            }),
        }
    }
    lowered.value.sort_unstable();
    lowered.value.dedup_by_key(|port| port.number);
    lowered
}
