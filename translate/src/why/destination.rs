//! What somebody dials: the service port that a name or an address leads to.

use std::net::IpAddr;

use proto::{Kind, ObjectRef};

use super::{
    Inquiry, Unanswered,
    answer::{Because, Dialled},
    question::{Destination, Port},
};
use crate::{
    bind::waypoint_of::WaypointOf,
    derive::Reads,
    mesh::{
        labels::UseWaypoint,
        name::{ANY_PORT, Dialled as By, Key, Origin, PortKey, ScopeKey, ServiceKey},
        service::{self, Service},
    },
};

/// The port that was dialled, and which waypoint it is behind, or why behind none.
pub(super) struct Found {
    pub(super) dialled: Dialled,
    pub(super) bound: Result<PortKey, Because>,
    /// A second waypoint, which gets a share of the connections.
    pub(super) canary: Option<Key>,
    pub(super) notes: Vec<String>,
}

impl<'m> Inquiry<'m> {
    /// Finds what is dialled by a caller of that namespace.
    pub(super) fn find(
        &self,
        to: &Destination,
        port: &Port,
        namespace: Option<&str>,
    ) -> Result<Found, Unanswered> {
        let (key, row, address) = match to {
            Destination::Address(ip) => {
                let Some((key, row)) = self.at(*ip, port) else { return self.workload_at(*ip, port) };
                (key, row, Some(*ip))
            }
            Destination::Host(host) => {
                let (key, row) = self.named(host, namespace)?;
                (key, row, row.vips.first().copied())
            }
        };
        let (number, declared) = number(row, port)?;
        let port_name = row.port(declared).map(|port| port.name.clone()).filter(|name| !name.is_empty());
        let mut found = Found {
            dialled: Dialled {
                object: row.declared_by.clone(),
                host: key.host(&self.mesh.settings.cluster_domain),
                address,
                port: number,
                port_name,
                protocol: row.port(declared).map(|port| port.protocol.as_str()).unwrap_or_default(),
            },
            bound: Err(self.unbound(key, &row.declared_by)),
            canary: None,
            notes: Vec::new(),
        };
        let Some(WaypointOf::Bound { waypoint, canary }) =
            self.mesh.bindings.waypoint_of.untracked().get(key).map(AsRef::as_ref)
        else {
            return Ok(found);
        };
        let own = PortKey::new(waypoint, key, declared);
        found.canary = canary.as_ref().and_then(|canary| canary.clone().ok());
        let scope = address.and_then(|ip| {
            let dialled = By::at(ip, declared);
            self.mesh.resources.scope(&ScopeKey { waypoint: waypoint.clone(), dialled })?.port()
        });
        if row.vips.is_empty() && row.blocks.is_empty() {
            found.notes.push(
                "it has no address, so no tunnel is for it; its endpoints are dialled instead: ask about one"
                    .to_owned(),
            );
        }
        found.bound = Ok(match scope {
            Some(other) if *other != own => {
                found.notes.push(format!("{} claims its address too, and has it", other.service));
                other.clone()
            }
            Some(_) | None => own,
        });
        Ok(found)
    }

    /// Whoever has the name, as a caller of that namespace sees it: DNS tries its own namespace first.
    fn named(
        &self,
        host: &str,
        namespace: Option<&str>,
    ) -> Result<(&'m ServiceKey, &'m Service), Unanswered> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let domain = &self.mesh.settings.cluster_domain;
        let own = namespace.map(|namespace| format!("{host}.{namespace}.svc.{domain}"));
        let below = [format!("{host}.svc.{domain}"), format!("{host}.{domain}"), host.clone()];
        let dots = host.match_indices('.').map(|(dot, _)| format!("*{}", &host[dot..]));
        let candidates = own.into_iter().chain(below).chain(dots);
        let mut hidden = None;
        for candidate in candidates {
            let reads = Reads::default();
            let bucket = service::Bucket::Host(candidate.as_str().into());
            let all = self.mesh.inputs.services.bucket(&reads, &bucket);
            let (known, unknown): (Vec<_>, Vec<_>) = all.partition(|(key, row)| {
                namespace.is_none_or(|own| *key.namespace == *own || row.exported.reaches(&own.into()))
            });
            // As the backends of routes are found by their hosts.
            let first = known.into_iter().min_by_key(|(key, row)| {
                (
                    Some(&*key.namespace) != namespace,
                    key.origin != Origin::Kubernetes,
                    row.created,
                    (*key).clone(),
                )
            });
            if let Some((key, row)) = first {
                return Ok((key, row));
            }
            hidden = hidden.or_else(|| unknown.first().map(|(_, row)| row.declared_by.clone()));
        }
        if let Some(object) = hidden {
            return Err(Unanswered::NotExported { object, namespace: namespace.unwrap_or_default().into() });
        }
        let services = self.mesh.inputs.services.untracked();
        let like = services.iter().filter(|(key, _)| *key.name == *host);
        let like = like.map(|(key, _)| format!("{}.{}", key.name, key.namespace)).collect();
        Err(Unanswered::NoSuchService { asked: host, namespace: namespace.map(Into::into), like })
    }

    /// Whatever has the address, as a waypoint dispatches it: the address itself, then the longest
    /// block, then the older; what is behind a waypoint before all else.
    fn at(&self, ip: IpAddr, port: &Port) -> Option<(&'m ServiceKey, &'m Service)> {
        let reads = Reads::default();
        let has = |row: &Service| number(row, port).is_ok();
        let single = self.mesh.bindings.addressed(&self.mesh.inputs).at(&reads, ip);
        let single = single.map(|(key, row)| (key, row, u8::MAX));
        let services = self.mesh.inputs.services.untracked().iter();
        let blocks = services.flat_map(|(key, row)| {
            let within = row.blocks.iter().filter(move |block| block.holds(ip));
            within.map(move |block| (key, &**row, block.prefix))
        });
        let first = single.chain(blocks).min_by_key(|(key, row, prefix)| {
            let bound = self.mesh.bindings.waypoint_of.untracked().get(*key);
            let bound = bound.is_some_and(|row| row.bound().is_some());
            (!has(row), !bound, u8::MAX - prefix, key.origin, row.created, (*key).clone())
        });
        first.map(|(key, row, _)| (key, row))
    }

    /// A pod or machine that no waypoint takes traffic to: of those there are no rows to dial.
    fn workload_at(&self, ip: IpAddr, port: &Port) -> Result<Found, Unanswered> {
        let Port::Number(number) = port else { return Err(Unanswered::NothingAt(ip)) };
        let inputs = &self.mesh.inputs;
        let pods = inputs.workloads.untracked().iter().filter(|(_, row)| row.ips.contains(&ip));
        let pods = pods.map(|(key, _)| (ServiceKey::pod(key), key.reference(Kind::Pod)));
        let machines = inputs.workload_entries.untracked().iter();
        let machines = machines
            .filter(|(_, row)| row.endpoint.as_ref().is_some_and(|endpoint| endpoint.ip() == Some(ip)));
        let machines =
            machines.map(|(key, _)| (ServiceKey::machine(key), key.reference(Kind::WorkloadEntry)));
        let (key, object) = pods.chain(machines).next().ok_or(Unanswered::NothingAt(ip))?;
        let dialled = Dialled {
            host: key.host(&self.mesh.settings.cluster_domain),
            object: object.clone(),
            address: Some(ip),
            port: *number,
            port_name: None,
            protocol: "auto",
        };
        let bound = Err(self.unbound(&key, &object));
        Ok(Found { dialled, bound, canary: None, notes: Vec::new() })
    }

    /// Why it is behind no waypoint.
    fn unbound(&self, key: &ServiceKey, object: &ObjectRef) -> Because {
        let said = self.mesh.statuses.of(object);
        let said =
            said.and_then(|status| status.conditions.iter().find(|it| it.kind == "istio.io/WaypointBound"));
        if let Some(condition) = said {
            return Because::Unbound {
                reason: condition.reason.to_owned(),
                message: condition.message.clone(),
            };
        }
        let inputs = &self.mesh.inputs;
        let row = self.mesh.bindings.addressed(inputs).known(key);
        let of_a_waypoint = row.is_some_and(|row| row.of_a_waypoint);
        let opted_out = row.is_some_and(|row| row.asked.waypoint == UseWaypoint::OptOut);
        let message = if of_a_waypoint {
            format!("{object} belongs to a waypoint itself, and none sits in front of a waypoint")
        } else if opted_out {
            format!("{object} says istio.io/use-waypoint: none")
        } else if key.origin.is_workload() {
            format!(
                "{object} asks for no waypoint, and its namespace for none that takes traffic to workloads; label it istio.io/use-waypoint, and the Gateway istio.io/waypoint-for: workload or all"
            )
        } else {
            format!(
                "neither {object} nor its namespace asks for one; label one of them istio.io/use-waypoint"
            )
        };
        Because::Unbound { reason: "NoWaypoint".to_owned(), message }
    }
}

/// The number of a port, and the one that it is declared as.
fn number(row: &Service, port: &Port) -> Result<(u16, u16), Unanswered> {
    let known = match port {
        Port::Number(number) => {
            let any = || row.port(ANY_PORT).map(|_| (*number, ANY_PORT));
            row.port(*number).map(|_| (*number, *number)).or_else(any)
        }
        Port::Named(name) => {
            let named = row.ports.iter().find(|port| port.name == *name && !name.is_empty());
            named.map(|port| (port.number, port.number))
        }
    };
    let asked = match port {
        Port::Number(number) => number.to_string(),
        Port::Named(name) => name.to_string(),
    };
    let shown = |port: &service::ServicePort| match &*port.name {
        "" => port.number.to_string(),
        name => format!("{} ({name})", port.number),
    };
    let ports = row.ports.iter().filter(|port| port.number != ANY_PORT).map(shown).collect();
    known.ok_or_else(|| Unanswered::NoSuchPort { object: row.declared_by.clone(), asked, ports })
}

/// The namespace that a SPIFFE id of a mesh names.
pub(super) fn namespace_of(peer: &str) -> Option<&str> {
    let (_domain, rest) = peer.strip_prefix("spiffe://")?.split_once('/')?;
    let mut parts = rest.strip_prefix("ns/")?.split('/');
    parts.next().filter(|namespace| !namespace.is_empty() && parts.next() == Some("sa"))
}
