//! Which endpoints a service port has, each with the workload behind it.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use proto::Name;

use crate::{
    derive::{Reads, Row},
    inputs::Inputs,
    mesh::{
        endpoint::{self, Locality, SliceEndpoint, SlicePort},
        identity::Identity,
        name::{Origin, ServiceKey},
        nearness::Nearness,
        service::{Discovery, Entry, Machines, Resolution, Service, Sources, Target},
        workload::{self, Workload},
        workload_entry::Listed,
    },
};

/// The endpoints of a service port, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EndpointsOf {
    /// Those that take requests.
    pub(crate) staying: Arc<[Endpoint]>,
    /// Those that are about to go and still serve those who come back to them.
    pub(crate) leaving: Arc<[Endpoint]>,
    pub(crate) nearness: Nearness,
}

impl EndpointsOf {
    /// Whether some of them have to prove who they are.
    pub(crate) fn verified(&self) -> bool {
        self.staying.iter().chain(&*self.leaving).any(|endpoint| endpoint.tunnel)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Endpoint {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    /// Reached through a tunnel, whose far end proves the workload's identity.
    pub(crate) tunnel: bool,
    pub(crate) workload: Option<EndpointWorkload>,
    pub(crate) locality: Locality,
    /// Where it runs; empty if nobody says.
    pub(crate) node: Name,
    /// Its share, among the weights of all.
    pub(crate) weight: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EndpointWorkload {
    pub(crate) identity: Identity,
    pub(crate) name: Name,
    pub(crate) app: Name,
    pub(crate) version: Name,
}

impl Row for EndpointsOf {
    const TABLE: &'static str = "endpoints of";
    type Key = (ServiceKey, u16);
    type Bucket = ();

    fn buckets(_key: &Self::Key, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

/// `None` if there is no such service port.
pub(crate) fn bind(
    reads: &Reads,
    inputs: &Inputs,
    (service, port): &(ServiceKey, u16),
) -> Option<EndpointsOf> {
    let row = match service.origin {
        Origin::Kubernetes | Origin::Entry => inputs.services.get(reads, service)?,
        Origin::Pod => return pod(reads, inputs, service, *port),
        Origin::Machine => return machine(reads, inputs, service, *port),
    };
    let name = &row.port(*port)?.name;
    let (staying, mut leaving) = match &row.discovery {
        Discovery::Slices { machines } => {
            let (mut staying, leaving) = of_slices(reads, inputs, service, row, name);
            let machines = machines.iter();
            staying
                .extend(machines.flat_map(|machines| of_machines(reads, inputs, service, machines, *port)));
            (staying, leaving)
        }
        Discovery::Entry(entry) => (of_entry(reads, inputs, service, entry, *port, name), Vec::new()),
    };
    let sorted = |mut endpoints: Vec<Endpoint>| {
        endpoints.sort_unstable();
        endpoints.dedup_by_key(|endpoint| (endpoint.ip, endpoint.port));
        endpoints
    };
    let staying = sorted(staying);
    let address = |one: &Endpoint| (one.ip, one.port);
    let stays = |one: &Endpoint| staying.binary_search_by_key(&address(one), address).is_ok();
    leaving.retain(|one| !stays(one));
    Some(EndpointsOf { leaving: sorted(leaving).into(), staying: staying.into(), nearness: row.nearness })
}

/// Those that are ready, and those that still serve while they leave. Not ready ones count only
/// where the Service asks for them.
fn of_slices(
    reads: &Reads,
    inputs: &Inputs,
    service: &ServiceKey,
    row: &Service,
    name: &Name,
) -> (Vec<Endpoint>, Vec<Endpoint>) {
    let mut staying = Vec::new();
    let mut leaving = Vec::new();
    for (_, slice) in inputs.slices.bucket(reads, &endpoint::Bucket::Service(service.clone())) {
        let Some(SlicePort { number, .. }) = slice.ports.iter().find(|port| port.name == *name) else {
            continue;
        };
        for listed in &slice.endpoints {
            if !listed.terminating && (listed.ready || row.publish_not_ready) {
                staying.push((listed, *number));
            } else if listed.terminating && listed.serving {
                leaving.push((listed, *number));
            }
        }
    }
    // A dual-stack pod is in a slice of each family, and gets no double share for it. Slices may
    // also overlap while they are rearranged.
    let once = |mut chosen: Vec<(&SliceEndpoint, u16)>| -> Vec<Endpoint> {
        chosen.sort_by_key(|(listed, port)| (listed.ip, *port));
        let mut seen = BTreeSet::new();
        chosen.retain(|(listed, port)| listed.pod.as_ref().is_none_or(|pod| seen.insert((pod, *port))));
        chosen.into_iter().map(|(listed, port)| endpoint(reads, inputs, listed, port)).collect()
    };
    (once(staying), once(leaving))
}

/// As ambient has it: a named port is the machine's own of that name, and no name is a number.
fn of_machines(
    reads: &Reads,
    inputs: &Inputs,
    service: &ServiceKey,
    Machines { selector, targets }: &Machines,
    port: u16,
) -> Vec<Endpoint> {
    let entries = inputs.workload_entries.bucket(reads, &service.namespace);
    let endpoints = entries.filter_map(|(_, entry)| entry.selectable());
    let selected = endpoints.filter(|endpoint| selector.matches(&endpoint.labels));
    selected
        .filter_map(|listed| {
            let port = match targets.get(&port)? {
                Target::Number(number) => *number,
                Target::Named(name) => *listed.ports.get(&**name)?,
            };
            written(reads, inputs, listed, port)
        })
        .collect()
}

fn of_entry(
    reads: &Reads,
    inputs: &Inputs,
    service: &ServiceKey,
    entry: &Entry,
    port: u16,
    name: &Name,
) -> Vec<Endpoint> {
    if entry.resolution != Resolution::Static {
        return Vec::new();
    }
    let target = entry.target(port);
    let written = |listed: &Listed| {
        written(reads, inputs, listed, listed.ports.get(&**name).copied().unwrap_or(target))
    };
    match &entry.sources {
        Sources::Listed(listed) => listed.iter().filter_map(written).collect(),
        Sources::Selected(selector) => {
            let entries = inputs.workload_entries.bucket(reads, &service.namespace);
            let entries = entries.filter_map(|(_, entry)| entry.selectable());
            let entries = entries.filter(|endpoint| selector.matches(&endpoint.labels)).filter_map(written);
            let pods =
                inputs.workloads.bucket(reads, &workload::Bucket::Namespace(service.namespace.clone()));
            let pods = pods.filter(|(_, pod)| pod.ready && selector.matches(&pod.labels));
            entries.chain(pods.filter_map(|(_, pod)| of_pod(pod, target))).collect()
        }
        Sources::Unreadable => Vec::new(),
    }
}

/// An endpoint that someone wrote down. If a pod is there, it is the pod that decides how it is reached.
fn written(reads: &Reads, inputs: &Inputs, listed: &Listed, port: u16) -> Option<Endpoint> {
    // What has a name only the proxy could find, and nobody asks for that.
    let ip = listed.ip()?;
    let pod = inputs.workloads.bucket(reads, &workload::Bucket::Ip(ip)).map(|(_, pod)| pod).next();
    let label = |names: [&str; 3]| {
        names.into_iter().find_map(|name| listed.labels.get(name)).map(|value| Name::from(value.as_str()))
    };
    let own = || {
        let identity = listed.identity.clone()?;
        let app = label(["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
        Some(EndpointWorkload {
            name: app.clone().unwrap_or_else(|| identity.service_account.clone()),
            app: app.unwrap_or_else(|| identity.service_account.clone()),
            version: label(["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"])
                .unwrap_or_else(|| "latest".into()),
            identity,
        })
    };
    Some(Endpoint {
        ip,
        port,
        tunnel: pod.map_or_else(|| listed.tunnel(), |pod| pod.captured),
        workload: pod.map_or_else(own, |pod| Some(describe(pod))),
        locality: listed.locality.clone(),
        node: listed.locality.sub_zone.clone(),
        weight: listed.weight,
    })
}

/// A pod that is dialled at its own address is its only endpoint.
fn pod(reads: &Reads, inputs: &Inputs, key: &ServiceKey, port: u16) -> Option<EndpointsOf> {
    let workload = inputs.workloads.get(reads, &key.object())?;
    Some(EndpointsOf { staying: [of_pod(workload, port)?].into(), ..EndpointsOf::default() })
}

/// And so is a machine.
fn machine(reads: &Reads, inputs: &Inputs, key: &ServiceKey, port: u16) -> Option<EndpointsOf> {
    let entry = inputs.workload_entries.get(reads, &key.object())?;
    let endpoint = written(reads, inputs, entry.endpoint.as_ref()?, port)?;
    Some(EndpointsOf { staying: [endpoint].into(), ..EndpointsOf::default() })
}

fn of_pod(workload: &Workload, port: u16) -> Option<Endpoint> {
    Some(Endpoint {
        ip: *workload.ips.first()?,
        port,
        tunnel: workload.captured,
        workload: Some(describe(workload)),
        locality: Locality::default(),
        node: workload.node.clone(),
        weight: 1,
    })
}

fn endpoint(reads: &Reads, inputs: &Inputs, listed: &SliceEndpoint, port: u16) -> Endpoint {
    let workload = match &listed.pod {
        Some(pod) => inputs.workloads.get(reads, pod),
        None => inputs
            .workloads
            .bucket(reads, &workload::Bucket::Ip(listed.ip))
            .map(|(_, workload)| workload)
            .next(),
    };
    let workload = workload.map(|workload| &**workload);
    Endpoint {
        ip: listed.ip,
        port,
        tunnel: workload.is_some_and(|workload| workload.captured),
        workload: workload.map(describe),
        locality: Locality { zone: listed.zone.clone(), ..Locality::default() },
        node: listed.node.clone(),
        weight: 1,
    }
}

fn describe(workload: &Workload) -> EndpointWorkload {
    EndpointWorkload {
        identity: workload.identity.clone(),
        name: workload.name.clone(),
        app: workload.app.clone(),
        version: workload.version.clone(),
    }
}
