//! What is behind a service port: endpoints with addresses, or something that only the proxy can find.

use proto::Name;

use super::addressed::Addressed;
use crate::{
    derive::Reads,
    inputs::Inputs,
    mesh::{
        endpoint::Locality,
        name::{ANY_PORT, Origin, ServiceKey},
        nearness::Nearness,
        service::{Discovery, Entry, Resolution, Sources},
        workload_entry::{Address, Listed},
    },
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Upstream {
    /// Endpoints with addresses. They come and go without the rest.
    Endpoints,
    /// Names to look up.
    Names { names: Vec<Named>, lookup: Lookup, nearness: Nearness },
    /// The address that the caller dials, at this port; at the dialled one, if it is any.
    Dialled { port: u16 },
    /// The host that each request names, if it is one of this wildcard.
    Requested { wildcard: Name },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lookup {
    /// Every address of a name is an endpoint.
    All,
    /// The addresses of a name are one endpoint, wherever it is now.
    One,
}

impl Upstream {
    /// Whether it is another one for readers elsewhere.
    pub(crate) fn is_placed(&self) -> bool {
        match self {
            Self::Names { nearness, .. } => *nearness != Nearness::Alike,
            Self::Endpoints | Self::Dialled { .. } | Self::Requested { .. } => false,
        }
    }
}

/// An endpoint with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Named {
    /// A DNS name, or an address among them.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) weight: u32,
    pub(crate) locality: Locality,
}

/// `None` if there is no such service port.
pub(crate) fn bind(
    reads: &Reads,
    inputs: &Inputs,
    addressed: Addressed<'_>,
    service: &ServiceKey,
    number: u16,
) -> Option<Upstream> {
    if (service.origin, number) == (Origin::Pod, ANY_PORT) {
        let pod = inputs.workloads.get(reads, &service.object())?;
        // A tunnel to a captured pod says who must be there, whatever the port.
        return Some(if pod.captured { Upstream::Endpoints } else { Upstream::Dialled { port: ANY_PORT } });
    }
    let row = addressed.get(reads, service)?;
    let port = row.port(number)?;
    let entry = match &row.discovery {
        Discovery::Slices { .. } => return Some(Upstream::Endpoints),
        Discovery::Entry(entry) => entry,
    };
    let target = entry.target(number);
    Some(match entry.resolution {
        Resolution::Static | Resolution::Nowhere => Upstream::Endpoints,
        Resolution::Dialled => Upstream::Dialled { port: target },
        Resolution::Requested => Upstream::Requested { wildcard: row.host.clone() },
        Resolution::Dns | Resolution::RoundRobinDns => {
            let one_of = |listed: &Listed| Named {
                host: match &listed.address {
                    Address::Ip(ip) => ip.to_string(),
                    Address::Host(host) => host.to_string(),
                },
                port: listed.ports.get(&*port.name).copied().unwrap_or(target),
                weight: listed.weight,
                locality: listed.locality.clone(),
            };
            let mut names: Vec<Named> = match &entry.sources {
                // Without endpoints, the host itself is looked up.
                Sources::Listed(listed) if listed.is_empty() => vec![Named {
                    host: row.host.to_string(),
                    port: target,
                    weight: 1,
                    locality: Locality::default(),
                }],
                Sources::Listed(listed) => listed.iter().map(one_of).collect(),
                Sources::Selected(selector) => {
                    let entries = inputs.workload_entries.bucket(reads, &service.namespace);
                    let endpoints = entries.filter_map(|(_, entry)| entry.selectable());
                    endpoints.filter(|endpoint| selector.matches(&endpoint.labels)).map(one_of).collect()
                }
                Sources::Unreadable => Vec::new(),
            };
            names.sort_unstable();
            names.dedup_by(|one, other| (&one.host, one.port) == (&other.host, other.port));
            let one = entry.resolution == Resolution::RoundRobinDns && names.len() == 1;
            let lookup = if one { Lookup::One } else { Lookup::All };
            Upstream::Names { names, lookup, nearness: row.nearness }
        }
    })
}

impl Entry {
    /// The port that endpoints listen on, if they say nothing else.
    pub(crate) fn target(&self, port: u16) -> u16 {
        self.targets.get(&port).copied().unwrap_or(port)
    }
}
