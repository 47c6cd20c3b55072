//! Pod: who it is, where it is, and whether it is reached through a tunnel.

use std::{collections::BTreeMap, net::IpAddr};

use proto::{Name, kubernetes};

use super::{
    identity::Identity,
    labels::{self, Asked},
    name::Key,
    protocol::Protocol,
};
use crate::derive::Row;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) identity: Identity,
    pub(crate) asked: Asked,
    /// It is a proxy of a waypoint; a waypoint never sits in front of a waypoint.
    pub(crate) of_a_waypoint: bool,
    /// The TCP ports that its containers declare, and what they speak by name.
    pub(crate) ports: Vec<(u16, Protocol)>,
    /// Ambient captures it: only HBONE reaches it, and it proves its identity there.
    pub(crate) captured: bool,
    /// The name of what owns it, as metrics and logs show it.
    pub(crate) name: Name,
    /// Canonical service and revision, by Istio's labels.
    pub(crate) app: Name,
    pub(crate) version: Name,
    pub(crate) labels: BTreeMap<String, String>,
    /// Where it runs.
    pub(crate) node: Name,
    /// It takes requests, as far as anyone said, and is not about to go.
    pub(crate) ready: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Bucket {
    /// Pods at that address: an EndpointSlice need not name the pod.
    Ip(IpAddr),
    /// Pods in that namespace.
    Namespace(Name),
}

impl Row for Workload {
    const TABLE: &'static str = "workload";
    type Key = Key;
    type Bucket = Bucket;

    fn buckets(key: &Key, row: &Self) -> Vec<Bucket> {
        let ips = row.ips.iter().copied().map(Bucket::Ip);
        ips.chain([Bucket::Namespace(key.namespace.clone())]).collect()
    }
}

/// `None` for a pod that has no address of its own: host network pods share the node's, and a
/// finished pod's address may already be another's.
pub(crate) fn lower(object: &kubernetes::Pod) -> Option<Workload> {
    let metadata = &object.metadata;
    let spec = object.spec.as_ref()?;
    let status = object.status.as_ref()?;
    let finished = status.phase.as_deref().is_some_and(|phase| phase == "Succeeded" || phase == "Failed");
    if finished || spec.host_network.unwrap_or(false) {
        return None;
    }
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut ips: Vec<IpAddr> =
        listed.chain(status.pod_ip.as_deref()).filter_map(|ip| ip.parse().ok()).collect();
    ips.sort_unstable();
    ips.dedup();

    let name = metadata.name.as_deref().unwrap_or_default();
    let first = |names: &[&str]| names.iter().find_map(|name| labels::label(metadata, name));
    let workload_name = workload_name(object).unwrap_or(name);
    Some(Workload {
        ips,
        identity: Identity {
            namespace: metadata.namespace.as_deref().unwrap_or_default().into(),
            service_account: spec.service_account_name.as_deref().unwrap_or("default").into(),
        },
        asked: Asked::lower(metadata),
        of_a_waypoint: labels::label(metadata, labels::GATEWAY_NAME).is_some(),
        ports: ports(spec),
        captured: labels::annotation(metadata, labels::REDIRECTION) == Some("enabled"),
        name: workload_name.into(),
        app: first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
            .unwrap_or(workload_name)
            .into(),
        version: first(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"])
            .unwrap_or("latest")
            .into(),
        labels: metadata.labels.clone().unwrap_or_default(),
        node: spec.node_name.as_deref().unwrap_or_default().into(),
        ready: metadata.deletion_timestamp.is_none()
            && !status
                .conditions
                .iter()
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status != "True"),
    })
}

/// The Deployment behind a ReplicaSet is its name less the template hash; other owners name themselves.
fn workload_name(object: &kubernetes::Pod) -> Option<&str> {
    let owners = object.metadata.owner_references.as_deref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    if owner.kind == "ReplicaSet" {
        let hash = labels::label(&object.metadata, "pod-template-hash")?;
        return owner.name.strip_suffix(hash)?.strip_suffix('-');
    }
    Some(&owner.name)
}

fn ports(spec: &kubernetes::PodSpec) -> Vec<(u16, Protocol)> {
    let declared = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let tcp = declared.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
    let mut ports: Vec<_> = tcp
        .filter_map(|port| {
            let number = u16::try_from(port.container_port).ok().filter(|number| *number > 0)?;
            Some((number, Protocol::lower(None, port.name.as_deref())))
        })
        .collect();
    ports.sort_unstable();
    ports.dedup_by_key(|(number, _)| *number);
    ports
}
