//! What callers can dial: services at their addresses, and pods and machines at their own.
//!
//! A pod is dialled at every port. What it declares, or a Service that sends to it, is known of some. It
//! is looked at only if some waypoint takes traffic to it: most meshes have none that does.

use std::{collections::BTreeMap, net::IpAddr, ops::Deref, sync::Arc};

use proto::{Kind, ObjectRef};

use super::waypoint_of::WaypointOf;
use crate::{
    derive::{Derived, Reads, Row, Table},
    inputs::Inputs,
    mesh::{
        endpoint,
        labels::Asked,
        name::{ANY_PORT, Origin, ServiceKey},
        nearness::Nearness,
        protocol::Protocol,
        service::{self, Discovery, Exported, Service, ServicePort},
    },
};

/// A pod as something to dial, or a machine that a WorkloadEntry declares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DialledPod(Service);

impl Row for DialledPod {
    const TABLE: &'static str = "dialled pod";
    type Key = ServiceKey;
    type Bucket = service::Bucket;

    fn buckets(key: &ServiceKey, row: &Self) -> Vec<service::Bucket> {
        Service::buckets(key, &row.0)
    }
}

impl Deref for DialledPod {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.0
    }
}

/// `None` for a pod that is gone, or that no waypoint takes traffic to.
pub(crate) fn bind(
    reads: &Reads,
    inputs: &Inputs,
    waypoint_of: &Derived<WaypointOf>,
    key: &ServiceKey,
) -> Option<DialledPod> {
    waypoint_of.get(reads, key)?;
    if key.origin == Origin::Machine {
        let entry = inputs.workload_entries.get(reads, &key.object())?;
        let endpoint = entry.endpoint.as_ref()?;
        let ports = endpoint.declared().collect();
        return Some(dialled(
            key.object().reference(Kind::WorkloadEntry),
            vec![endpoint.ip()?],
            ports,
            false,
        ));
    }
    let workload = inputs.workloads.get(reads, &key.object())?;
    let mut ports: BTreeMap<u16, Protocol> = workload.ports.iter().copied().collect();
    for (_, slice) in inputs.slices.bucket(reads, &endpoint::Bucket::Pod(key.object())) {
        for port in &slice.ports {
            // What a Service says of a port counts; of several Services, any that says anything.
            let known = ports.entry(port.number).or_insert(port.protocol);
            *known = match (*known, port.protocol) {
                (known, Protocol::Sniffed) => known,
                (Protocol::Sniffed, said) => said,
                (known, said) => known.min(said),
            };
        }
    }
    // What nobody declared is looked at when the first bytes arrive.
    ports.insert(ANY_PORT, Protocol::Sniffed);
    let object = key.object().reference(Kind::Pod);
    Some(dialled(object, workload.ips.clone(), ports, workload.of_a_waypoint))
}

fn dialled(
    declared_by: ObjectRef,
    vips: Vec<IpAddr>,
    ports: BTreeMap<u16, Protocol>,
    of_a_waypoint: bool,
) -> DialledPod {
    let ports = ports.into_iter();
    let ports = ports.map(|(number, protocol)| ServicePort { number, name: "".into(), protocol }).collect();
    DialledPod(Service {
        declared_by,
        host: "".into(),
        generation: None,
        created: i64::MAX,
        asked: Asked::default(),
        of_a_waypoint,
        vips,
        blocks: Vec::new(),
        ports,
        publish_not_ready: false,
        nearness: Nearness::Alike,
        exported: Exported::All,
        discovery: Discovery::Slices { machines: None },
        problems: Vec::new(),
    })
}

/// Services and pods as one table.
#[derive(Clone, Copy)]
pub(crate) struct Addressed<'t> {
    pub(crate) services: &'t Table<Service>,
    pub(crate) pods: &'t Table<DialledPod>,
}

impl<'t> Addressed<'t> {
    pub(crate) fn get(self, reads: &Reads, key: &ServiceKey) -> Option<&'t Service> {
        match key.origin {
            Origin::Kubernetes | Origin::Entry => self.services.get(reads, key).map(Arc::as_ref),
            Origin::Pod | Origin::Machine => self.pods.get(reads, key).map(|pod| &pod.0),
        }
    }

    /// What is dialled at that address.
    pub(crate) fn at(
        self,
        reads: &Reads,
        ip: IpAddr,
    ) -> impl Iterator<Item = (&'t ServiceKey, &'t Service)> + use<'t> {
        let bucket = service::Bucket::Vip(ip);
        let services = self.services.bucket(reads, &bucket).map(|(key, row)| (key, &**row));
        let pods = self.pods.bucket(reads, &bucket).map(|(key, row)| (key, &row.0));
        services.chain(pods)
    }

    /// For finding keys only.
    pub(crate) fn known(self, key: &ServiceKey) -> Option<&'t Service> {
        match key.origin {
            Origin::Kubernetes | Origin::Entry => self.services.untracked().get(key).map(Arc::as_ref),
            Origin::Pod | Origin::Machine => self.pods.untracked().get(key).map(|pod| &pod.0),
        }
    }

    /// The keys that the current commit changed.
    pub(crate) fn changed(self) -> impl Iterator<Item = &'t ServiceKey> {
        self.services.changed().iter().chain(self.pods.changed())
    }
}
