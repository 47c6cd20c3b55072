//! Service: its addresses, its ports, and what it says about its waypoint.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proto::{
    Kind, Name, ObjectRef,
    kubernetes::{self, IntOrString},
};

use super::{
    block::Block,
    labels::{self, Asked},
    name::{ServiceKey, created},
    nearness::Nearness,
    protocol::Protocol,
    selector::Selector,
    workload_entry::Listed,
};
use crate::{
    derive::Row,
    problem::{FieldPath, Lowered, Problem, Reason},
    settings::Settings,
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    /// The object that declares it.
    pub(crate) declared_by: ObjectRef,
    /// Its DNS name.
    pub(crate) host: Name,
    pub(crate) generation: Option<i64>,
    pub(crate) created: i64,
    pub(crate) asked: Asked,
    /// It belongs to a waypoint itself; a waypoint never sits in front of a waypoint.
    pub(crate) of_a_waypoint: bool,
    /// None for a headless Service.
    pub(crate) vips: Vec<IpAddr>,
    /// It is dialled anywhere in these.
    pub(crate) blocks: Vec<Block>,
    /// Ports that a waypoint can serve, by number.
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) publish_not_ready: bool,
    pub(crate) nearness: Nearness,
    pub(crate) exported: Exported,
    pub(crate) discovery: Discovery,
    pub(crate) problems: Vec<Problem>,
}

/// Which namespaces know of it (`exportTo`).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Exported {
    All,
    To(BTreeSet<Name>),
}

impl Exported {
    pub(crate) fn reaches(&self, namespace: &Name) -> bool {
        match self {
            Self::All => true,
            Self::To(namespaces) => namespaces.contains(namespace),
        }
    }
}

/// How its endpoints are found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Discovery {
    /// By the EndpointSlices that name it, and by the WorkloadEntries that it selects.
    Slices { machines: Option<Machines> },
    /// As its ServiceEntry says.
    Entry(Entry),
}

impl Discovery {
    /// Whether its endpoints have addresses that we know.
    pub(crate) const fn has_addresses(&self) -> bool {
        match self {
            Self::Slices { .. } => true,
            Self::Entry(entry) => match entry.resolution {
                Resolution::Static | Resolution::Nowhere => true,
                Resolution::Dns | Resolution::RoundRobinDns | Resolution::Dialled | Resolution::Requested => {
                    false
                }
            },
        }
    }
}

/// Which WorkloadEntries of its namespace a Service selects, and where it asks them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Machines {
    pub(crate) selector: Selector,
    /// By the Service's port.
    pub(crate) targets: BTreeMap<u16, Target>,
}

/// The port that an endpoint listens on, as a Service has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Number(u16),
    /// The one that the endpoint has under this name.
    Named(Name),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) resolution: Resolution,
    pub(crate) sources: Sources,
    /// The port that endpoints listen on, for each port.
    pub(crate) targets: BTreeMap<u16, u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Endpoints have IP addresses.
    Static,
    /// Endpoints have names; all addresses of each are used.
    Dns,
    /// One name, and whichever of its addresses was found last.
    RoundRobinDns,
    /// The address that the caller dials.
    Dialled,
    /// The host that each request names.
    Requested,
    /// It cannot be read.
    Nowhere,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sources {
    /// These.
    Listed(Vec<Listed>),
    /// Pods and WorkloadEntries of the entry's namespace with these labels.
    Selected(Selector),
    /// What stands there cannot be read, so nothing is there.
    Unreadable,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServicePort {
    pub(crate) number: u16,
    pub(crate) name: Name,
    pub(crate) protocol: Protocol,
}

impl Service {
    /// The hosts of which each request names one, if it is a service of that kind.
    pub(crate) fn wildcard(&self) -> Option<&Name> {
        match &self.discovery {
            Discovery::Entry(Entry { resolution: Resolution::Requested, .. }) => Some(&self.host),
            Discovery::Entry(_) | Discovery::Slices { .. } => None,
        }
    }

    /// Whether its requests end where the caller says, not where it says.
    pub(crate) const fn follows_caller(&self) -> bool {
        match &self.discovery {
            Discovery::Entry(Entry { resolution: Resolution::Requested | Resolution::Dialled, .. }) => true,
            Discovery::Entry(_) | Discovery::Slices { .. } => false,
        }
    }

    pub(crate) fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Bucket {
    /// Services that are dialled at that address.
    Vip(IpAddr),
    /// Services of that DNS name, in any namespace.
    Host(Name),
    /// The services that an object declares: one for a Service, one a host for a ServiceEntry.
    DeclaredBy(ObjectRef),
}

impl Row for Service {
    const TABLE: &'static str = "service";
    type Key = ServiceKey;
    type Bucket = Bucket;

    fn buckets(_key: &ServiceKey, row: &Self) -> Vec<Bucket> {
        let vips = row.vips.iter().copied().map(Bucket::Vip);
        let own = [Bucket::Host(row.host.clone()), Bucket::DeclaredBy(row.declared_by.clone())];
        vips.chain(own).collect()
    }
}

pub(crate) fn lower(key: &ServiceKey, object: &kubernetes::Service, settings: &Settings) -> Service {
    let metadata = &object.metadata;
    let spec = object.spec.clone().unwrap_or_default();
    let machines = machines(&spec);
    let addresses = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
    let mut vips: Vec<IpAddr> = addresses.iter().filter_map(|ip| ip.parse().ok()).collect();
    vips.sort_unstable();
    vips.dedup();
    let at = FieldPath::new("spec");
    let mut ports = lower_ports(&spec.ports.unwrap_or_default(), &at.field("ports"));
    let mut unsupported = |field: &str, message: &str| {
        ports.problems.push(Problem {
            at: at.field(field),
            reason: Reason::UnsupportedValue,
            message: message.to_owned(),
        });
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        unsupported("type", "an ExternalName has no endpoints; nothing is sent to it, so use a ServiceEntry");
        ports.value.clear();
    } else if vips.is_empty() {
        unsupported(
            "clusterIP",
            "a headless Service has no address of its own: its pods are dialled, so label them istio.io/use-waypoint",
        );
    }
    let nearness = Nearness::lower(
        spec.internal_traffic_policy.as_deref(),
        spec.traffic_distribution.as_deref(),
        metadata,
        &mut ports.problems,
    );
    Service {
        declared_by: ObjectRef {
            kind: Kind::Service,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        },
        host: key.host(&settings.cluster_domain).into(),
        generation: metadata.generation,
        created: created(metadata),
        asked: Asked::lower(metadata),
        of_a_waypoint: labels::label(metadata, labels::MANAGED)
            .is_some_and(|by| by == "istio.io-mesh-controller" || by == "portolan.dev-waypoint-controller"),
        vips,
        blocks: Vec::new(),
        ports: ports.value,
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        nearness,
        exported: Exported::All,
        discovery: Discovery::Slices { machines },
        problems: ports.problems,
    }
}

/// `None` for a Service whose endpoints somebody else writes down.
fn machines(spec: &kubernetes::ServiceSpec) -> Option<Machines> {
    let labels = spec.selector.as_ref().filter(|labels| !labels.is_empty())?;
    let targets = spec.ports.iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.port).ok()?;
        let target = match &port.target_port {
            None | Some(IntOrString::Int(0)) => Target::Number(number),
            Some(IntOrString::Int(target)) => Target::Number(u16::try_from(*target).ok()?),
            Some(IntOrString::String(name)) => Target::Named(name.as_str().into()),
        };
        Some((number, target))
    });
    Some(Machines { selector: Selector::of_labels(labels), targets: targets.collect() })
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
                protocol: Protocol::lower(port.app_protocol.as_deref(), port.name.as_deref()).at_port(number),
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
