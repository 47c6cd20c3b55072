//! WorkloadEntry, and the endpoints that a ServiceEntry lists, which have the same fields.

use std::{collections::BTreeMap, net::IpAddr};

use proto::{Name, mesh_api};

use super::{
    endpoint::Locality,
    identity::Identity,
    labels::{self, Asked, HEALTH_CHECKED},
    name::Key,
    protocol::Protocol,
};
use crate::{
    derive::Row,
    fields::{Fields, Problems},
    problem::{FieldPath, Problem},
};

/// The most that an endpoint can weigh: the weights of a cluster add up to less than 2^32.
const HEAVIEST: u32 = 1_000_000;
const FIELDS: [&str; 7] = ["address", "ports", "labels", "network", "locality", "weight", "serviceAccount"];

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkloadEntry {
    /// `None` for one that cannot be reached.
    pub(crate) endpoint: Option<Listed>,
    pub(crate) generation: Option<i64>,
    pub(crate) asked: Asked,
    /// Whether whoever checks it finds that it takes requests.
    pub(crate) healthy: bool,
    pub(crate) problems: Vec<Problem>,
}

impl WorkloadEntry {
    /// The endpoint, where a service selects it.
    pub(crate) fn selectable(&self) -> Option<&Listed> {
        self.endpoint.as_ref().filter(|_| self.healthy)
    }
}

/// An endpoint that someone wrote down.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listed {
    pub(crate) address: Address,
    /// Where it differs from the port's own target, by the port's name.
    pub(crate) ports: BTreeMap<String, u16>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) locality: Locality,
    pub(crate) weight: u32,
    pub(crate) identity: Option<Identity>,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Address {
    Ip(IpAddr),
    /// A DNS name.
    Host(Name),
}

impl Listed {
    /// The address at which it is dialled itself.
    pub(crate) const fn ip(&self) -> Option<IpAddr> {
        match &self.address {
            Address::Ip(ip) => Some(*ip),
            Address::Host(_) => None,
        }
    }

    /// The ports that it declares, and what they speak by name.
    pub(crate) fn declared(&self) -> impl Iterator<Item = (u16, Protocol)> {
        self.ports.iter().map(|(name, number)| (*number, Protocol::lower(None, Some(name))))
    }

    /// Reached through a tunnel: a machine with a ztunnel of its own, which proves who it is.
    pub(crate) fn tunnel(&self) -> bool {
        self.identity.is_some()
            && self.labels.get("networking.istio.io/tunnel").is_some_and(|tunnel| tunnel == "http")
    }
}

impl Row for WorkloadEntry {
    const TABLE: &'static str = "workload entry";
    type Key = Key;
    /// Its namespace: entries select by labels within it.
    type Bucket = Name;

    fn buckets(key: &Key, _row: &Self) -> Vec<Name> {
        vec![key.namespace.clone()]
    }
}

pub(crate) fn lower(object: &mesh_api::WorkloadEntry) -> WorkloadEntry {
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let mut problems = Problems::default();
    let spec = Fields::read(Some(&object.spec), FieldPath::new("spec"), &mut problems);
    let mut endpoint = lower_endpoint(&spec, namespace, &mut problems);
    if let Some(endpoint) = &mut endpoint {
        // A selector looks at the labels of the specification and at the object's own.
        for (key, value) in object.metadata.labels.iter().flatten() {
            endpoint.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    WorkloadEntry {
        endpoint,
        generation: object.metadata.generation,
        asked: Asked::lower(&object.metadata),
        healthy: healthy(object),
        problems: problems.0,
    }
}

/// Who is checked and was never found healthy is not.
fn healthy(object: &mesh_api::WorkloadEntry) -> bool {
    let checked = labels::annotation(&object.metadata, HEALTH_CHECKED);
    let checked =
        checked.is_some_and(|checked| matches!(checked, "true" | "True" | "TRUE" | "t" | "T" | "1"));
    let conditions = object.status["conditions"].as_array().into_iter().flatten();
    let mut health = conditions.filter(|condition| condition["type"] == "Healthy");
    !checked || health.any(|condition| condition["status"] == "True")
}

/// `None` for one that has no address which a waypoint can dial.
pub(super) fn lower_endpoint(
    fields: &Fields<'_>,
    namespace: &str,
    problems: &mut Problems,
) -> Option<Listed> {
    fields.only(&FIELDS, problems);
    let address = lower_address(fields, problems);
    if fields.string("network", problems).is_some_and(|network| !network.is_empty()) {
        problems.unsupported(
            &fields.at.field("network"),
            "there is one network only; the endpoint is dialled as if it were in it",
        );
    }
    let at = fields.at.field("ports");
    let ports = Fields::read(fields.get("ports"), at, problems);
    let ports: Vec<_> =
        ports.names().map(|name| (name.to_owned(), ports.number(name, 1..=65535, problems))).collect();
    let weight = fields.number("weight", 0..=HEAVIEST, problems);
    // A port that cannot be read is none of its ports: no endpoint, rather than one at a wrong port.
    let ports = ports
        .into_iter()
        .map(|(name, number)| Some((name, u16::try_from(number?).ok()?)))
        .collect::<Option<_>>()?;
    let identity = fields.string("serviceAccount", problems).filter(|account| !account.is_empty());
    Some(Listed {
        address: address?,
        ports,
        labels: fields.strings("labels", problems),
        locality: fields.string("locality", problems).map(Locality::of_path).unwrap_or_default(),
        // As in Istio, no weight is the weight of everyone.
        weight: weight.filter(|weight| *weight > 0).unwrap_or(1),
        identity: identity
            .map(|account| Identity { namespace: namespace.into(), service_account: account.into() }),
    })
}

fn lower_address(fields: &Fields<'_>, problems: &mut Problems) -> Option<Address> {
    let at = fields.at.field("address");
    let Some(text) = fields.string("address", problems).filter(|text| !text.is_empty()) else {
        problems.invalid(&at, "an endpoint needs an address, an IP or a DNS name");
        return None;
    };
    if let Ok(ip) = text.parse() {
        return Some(Address::Ip(ip));
    }
    let host = text.to_ascii_lowercase();
    if is_host(&host) {
        return Some(Address::Host(host.as_str().into()));
    }
    problems
        .unsupported(&at, format!("{text:?} is not an IP address nor a DNS name; the endpoint is left out"));
    None
}

/// Whether it is a DNS name in lower case.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
            })
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}
