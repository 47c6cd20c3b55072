//! Which endpoints a service port has, each with the workload behind it.

use std::net::IpAddr;

use proto::Name;

use crate::{
    derive::{Reads, Row},
    inputs::Inputs,
    mesh::{
        endpoint::{self, SliceEndpoint, SlicePort},
        identity::Identity,
        name::{Origin, ServiceKey},
        workload::Workload,
    },
};

/// The endpoints of a service port, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct EndpointsOf(pub(crate) Vec<Endpoint>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Endpoint {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    /// Reached through a tunnel, whose far end proves the workload's identity.
    pub(crate) tunnel: bool,
    pub(crate) workload: Option<EndpointWorkload>,
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
        Origin::Kubernetes => inputs.services.get(reads, service)?,
        Origin::Pod => return pod(reads, inputs, service, *port),
    };
    let name = &row.port(*port)?.name;
    let mut endpoints = Vec::new();
    for (_, slice) in inputs.slices.bucket(reads, &endpoint::Bucket::Service(service.clone())) {
        let Some(SlicePort { number, .. }) = slice.ports.iter().find(|port| port.name == *name) else {
            continue;
        };
        for listed in &slice.endpoints {
            // Terminating endpoints leave; not ready ones stay only where the Service asks for them.
            if !listed.terminating && (listed.ready || row.publish_not_ready) {
                endpoints.push(endpoint(reads, inputs, listed, *number));
            }
        }
    }
    // Slices may overlap while they are rearranged.
    endpoints.sort_unstable();
    endpoints.dedup_by_key(|endpoint| (endpoint.ip, endpoint.port));
    Some(EndpointsOf(endpoints))
}

/// A pod that is dialled at its own address is its only endpoint.
fn pod(reads: &Reads, inputs: &Inputs, key: &ServiceKey, port: u16) -> Option<EndpointsOf> {
    let workload = inputs.workloads.get(reads, &key.object())?;
    let ip = *workload.ips.first()?;
    Some(EndpointsOf(vec![Endpoint {
        ip,
        port,
        tunnel: workload.captured,
        workload: Some(describe(workload)),
    }]))
}

fn endpoint(reads: &Reads, inputs: &Inputs, listed: &SliceEndpoint, port: u16) -> Endpoint {
    let workload = match &listed.pod {
        Some(pod) => inputs.workloads.get(reads, pod),
        None => inputs.workloads.bucket(reads, &listed.ip).map(|(_, workload)| workload).next(),
    };
    let workload = workload.map(|workload| &**workload);
    Endpoint {
        ip: listed.ip,
        port,
        tunnel: workload.is_some_and(|workload| workload.captured),
        workload: workload.map(describe),
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
