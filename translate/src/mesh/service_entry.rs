//! ServiceEntry: hosts that Kubernetes has no Service for, each of them a service of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proto::{Kind, Name, ObjectRef, mesh_api};
use serde_json::Value;

use super::{
    block::Block,
    labels::Asked,
    name::{Key, ServiceKey, created},
    nearness::Nearness,
    protocol::Protocol,
    selector::Selector,
    service::{Discovery, Entry, Exported, Resolution, Service, ServicePort, Sources},
    workload_entry::{Address, is_host, lower_endpoint},
};
use crate::{
    derive::Row,
    fields::{Fields, Problems, kind},
    problem::{FieldPath, Problem},
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServiceEntry {
    pub(crate) generation: Option<i64>,
    pub(crate) created: i64,
    /// What it declares of each of its hosts.
    pub(crate) services: BTreeMap<ServiceKey, Service>,
    pub(crate) problems: Vec<Problem>,
}

impl Row for ServiceEntry {
    const TABLE: &'static str = "service entry";
    type Key = Key;
    /// Its hosts: of several entries of a namespace that declare one, one has it.
    type Bucket = ServiceKey;

    fn buckets(_key: &Key, row: &Self) -> Vec<ServiceKey> {
        row.services.keys().cloned().collect()
    }
}

pub(crate) fn lower(key: &Key, object: &mesh_api::ServiceEntry) -> ServiceEntry {
    let metadata = &object.metadata;
    let mut problems = Problems::default();
    let spec = Fields::read(Some(&object.spec), FieldPath::new("spec"), &mut problems);
    spec.only(
        &[
            "hosts",
            "addresses",
            "ports",
            "location",
            "resolution",
            "endpoints",
            "exportTo",
            "subjectAltNames",
            "workloadSelector",
        ],
        &mut problems,
    );
    refuse_sans(&spec, &mut problems);
    let resolution = lower_resolution(&spec, &mut problems);
    let ports = lower_ports(&spec, resolution, &mut problems);
    let sources = lower_sources(&spec, &key.namespace, resolution, &mut problems);
    let exported = lower_export(&spec, &key.namespace, &mut problems);
    let addresses = lower_addresses(&spec, &mut problems);
    let nearness = Nearness::of_annotation(metadata, &mut problems.0);
    let mut services = BTreeMap::new();
    for host in lower_hosts(&spec, resolution, &mut problems) {
        let (vips, blocks) = match &addresses {
            Some(addresses) => addresses.clone(),
            None => (allocated(&object.status, &host), Vec::new()),
        };
        let service = Service {
            declared_by: ObjectRef {
                kind: Kind::ServiceEntry,
                namespace: key.namespace.clone(),
                name: key.name.clone(),
            },
            host: host.clone(),
            generation: metadata.generation,
            created: created(metadata),
            asked: Asked::lower(metadata),
            of_a_waypoint: false,
            vips,
            blocks,
            ports: ports.iter().map(|(port, _)| port.clone()).collect(),
            publish_not_ready: false,
            nearness,
            exported: exported.clone(),
            discovery: Discovery::Entry(Entry {
                resolution,
                sources: sources.clone(),
                targets: ports.iter().map(|(port, target)| (port.number, *target)).collect(),
            }),
            problems: Vec::new(),
        };
        services.insert(ServiceKey::entry(&key.namespace, &host), service);
    }
    ServiceEntry {
        generation: metadata.generation,
        created: created(metadata),
        services,
        problems: problems.0,
    }
}

fn refuse_sans(spec: &Fields<'_>, problems: &mut Problems) {
    if spec.get("subjectAltNames").is_some() {
        problems.unsupported(
            &spec.at.field("subjectAltNames"),
            "names are verified in tunnels only; give endpoints a serviceAccount, and the label networking.istio.io/tunnel: http",
        );
    }
    let location = spec.string("location", problems);
    if location.is_some_and(|location| location != "MESH_EXTERNAL" && location != "MESH_INTERNAL") {
        problems.invalid(&spec.at.field("location"), "expected MESH_EXTERNAL or MESH_INTERNAL");
    }
}

/// What cannot be read leads nowhere.
fn lower_resolution(spec: &Fields<'_>, problems: &mut Problems) -> Resolution {
    match spec.string("resolution", problems) {
        // As the API has it: without a word, the caller's own address counts.
        None if spec.get("resolution").is_none() => Resolution::Dialled,
        Some("NONE") => Resolution::Dialled,
        Some("STATIC") => Resolution::Static,
        Some("DNS") => Resolution::Dns,
        Some("DNS_ROUND_ROBIN") => Resolution::RoundRobinDns,
        Some("DYNAMIC_DNS") => Resolution::Requested,
        other => {
            if let Some(other) = other {
                problems.invalid(
                    &spec.at.field("resolution"),
                    format!(
                        "{other:?} is not NONE, STATIC, DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS; it leads nowhere"
                    ),
                );
            }
            Resolution::Nowhere
        }
    }
}

fn lower_hosts(spec: &Fields<'_>, resolution: Resolution, problems: &mut Problems) -> Vec<Name> {
    let mut hosts = Vec::new();
    let at = spec.at.field("hosts");
    for (value, at) in spec.list("hosts", problems).unwrap_or_default() {
        let Some(text) = value.as_str() else {
            problems.invalid(&at, format!("expected a string, not {}", kind(value)));
            continue;
        };
        let host = text.to_ascii_lowercase();
        let wildcard = host.strip_prefix("*.");
        if !is_host(wildcard.unwrap_or(&host)) {
            problems.invalid(&at, format!("{text:?} is not a DNS name, nor one that starts with *."));
        } else if wildcard.is_some() && matches!(resolution, Resolution::Dns | Resolution::RoundRobinDns) {
            problems.invalid(&at, "a wildcard cannot be looked up; use resolution: DYNAMIC_DNS");
        } else if wildcard.is_none() && resolution == Resolution::Requested {
            problems.invalid(&at, "DYNAMIC_DNS is for wildcards; use resolution: DNS for a single host");
        } else {
            hosts.push(Name::from(host));
        }
    }
    if spec.get("hosts").is_none() {
        problems.invalid(&at, "the hosts are missing");
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// Each port with the one that its endpoints listen on.
fn lower_ports(
    spec: &Fields<'_>,
    resolution: Resolution,
    problems: &mut Problems,
) -> Vec<(ServicePort, u16)> {
    let mut ports: Vec<(ServicePort, u16)> = Vec::new();
    for (value, at) in spec.list("ports", problems).unwrap_or_default() {
        let fields = Fields::read(Some(value), at, problems);
        fields.only(&["number", "name", "protocol", "targetPort"], problems);
        let protocol = fields.string("protocol", problems).unwrap_or_default();
        // A tunnel carries TCP; UDP ports are not the waypoint's and are no mistake.
        if protocol.eq_ignore_ascii_case("UDP") {
            continue;
        }
        let before = problems.0.len();
        if fields.get("number").is_none() {
            problems.invalid(&fields.at.field("number"), "the number of the port is missing");
        }
        let number = fields.number("number", 1..=65535, problems);
        // The zero of the API is the same as no value.
        let target = fields.number("targetPort", 0..=65535, problems).filter(|target| *target > 0);
        let name = fields.string("name", problems).unwrap_or_default();
        let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else { continue };
        let target = target.and_then(|target| u16::try_from(target).ok()).unwrap_or(number);
        let protocol =
            Protocol::lower((!protocol.is_empty()).then_some(protocol), Some(name)).at_port(number);
        if resolution == Resolution::Requested {
            if protocol != Protocol::Http {
                problems.unsupported(
                    &fields.at.field("protocol"),
                    "only a request says which host of a wildcard is meant; use protocol: HTTP",
                );
            }
            if target != number {
                problems.unsupported(
                    &fields.at.field("targetPort"),
                    "a host of a wildcard is dialled at the port of the request; leave the field out",
                );
            }
        }
        if problems.0.len() == before {
            ports.push((ServicePort { number, name: name.into(), protocol }, target));
        }
    }
    ports.sort_unstable();
    ports.dedup_by_key(|(port, _)| port.number);
    ports
}

fn lower_sources(
    spec: &Fields<'_>,
    namespace: &str,
    resolution: Resolution,
    problems: &mut Problems,
) -> Sources {
    let at = spec.at.field("workloadSelector");
    let listed = spec.list("endpoints", problems);
    if spec.get("workloadSelector").is_some() {
        if listed.is_some_and(|listed| !listed.is_empty()) {
            problems
                .invalid(&at, "an entry has endpoints or a workloadSelector, not both; it has no endpoints");
            return Sources::Unreadable;
        }
        let before = problems.0.len();
        let selector = Fields::read(spec.get("workloadSelector"), at.clone(), problems);
        selector.only(&["labels"], problems);
        let labels = selector.strings("labels", problems);
        if labels.is_empty() {
            problems.invalid(&at.field("labels"), "a selector needs labels; nothing is selected");
        }
        let selector = Selector::lower(Some(&labels), std::iter::empty(), &at, &mut problems.0);
        return match selector {
            Some(selector) if problems.0.len() == before => Sources::Selected(selector),
            Some(_) | None => Sources::Unreadable,
        };
    }
    let mut endpoints = Vec::new();
    let listed = listed.unwrap_or_default();
    let any =
        spec.get("endpoints").is_some_and(|value| value.as_array().is_none_or(|items| !items.is_empty()));
    if resolution == Resolution::RoundRobinDns && listed.len() > 1 {
        problems.invalid(
            &spec.at.field("endpoints"),
            "DNS_ROUND_ROBIN is for one endpoint; all addresses of each of these are used, as with DNS",
        );
    }
    for (value, at) in listed {
        let fields = Fields::read(Some(value), at, problems);
        let Some(endpoint) = lower_endpoint(&fields, namespace, problems) else { continue };
        match (&endpoint.address, resolution) {
            (Address::Host(_), Resolution::Static) => problems.invalid(
                &fields.at.field("address"),
                "STATIC endpoints have IP addresses; use resolution: DNS for names",
            ),
            (Address::Host(_) | Address::Ip(_), _) => endpoints.push(endpoint),
        }
    }
    // Endpoints of which none can be read are not the same as no endpoints.
    if any && endpoints.is_empty() { Sources::Unreadable } else { Sources::Listed(endpoints) }
}

fn lower_export(spec: &Fields<'_>, namespace: &Name, problems: &mut Problems) -> Exported {
    let Some(listed) = spec.list("exportTo", problems).filter(|listed| !listed.is_empty()) else {
        // A list that is none is known to nobody else; the problem is there already.
        let broken = spec.get("exportTo").is_some_and(|value| !value.is_array());
        return if broken { Exported::To([namespace.clone()].into()) } else { Exported::All };
    };
    let mut namespaces = BTreeSet::new();
    for (value, at) in listed {
        match value.as_str() {
            Some("*") => return Exported::All,
            Some(".") => namespaces.extend([namespace.clone()]),
            // Nobody at all.
            Some("~") => {}
            Some(other) => namespaces.extend([other.into()]),
            None => problems.invalid(&at, format!("expected a string, not {}", kind(value))),
        }
    }
    Exported::To(namespaces)
}

/// The single addresses and the blocks that the entry asks for; `None` if it asks for none and is to
/// be given some.
fn lower_addresses(spec: &Fields<'_>, problems: &mut Problems) -> Option<(Vec<IpAddr>, Vec<Block>)> {
    let listed = spec.list("addresses", problems).filter(|listed| !listed.is_empty())?;
    let (mut addresses, mut blocks) = (BTreeSet::new(), BTreeSet::new());
    for (value, at) in listed {
        let Some(text) = value.as_str() else {
            problems.invalid(&at, format!("expected a string, not {}", kind(value)));
            continue;
        };
        match Block::parse(text) {
            Some(block) if block.is_single() => drop(addresses.insert(block.address)),
            Some(block) => drop(blocks.insert(block)),
            None => problems.invalid(&at, format!("{text:?} is not an IP address, nor a block of them")),
        }
    }
    Some((addresses.into_iter().collect(), blocks.into_iter().collect()))
}

/// The addresses that were allocated for a host, by whoever does that: they stand in the status.
fn allocated(status: &Value, host: &str) -> Vec<IpAddr> {
    let all = status["addresses"].as_array().into_iter().flatten();
    let own = all.filter(|address| address["host"].as_str().is_none_or(|of| of.eq_ignore_ascii_case(host)));
    let mut addresses: Vec<IpAddr> =
        own.filter_map(|address| address["value"].as_str()?.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
