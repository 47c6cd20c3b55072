//! `portolan proxy-config`: what a waypoint's proxies were sent, and what of it they have acknowledged.

use std::{collections::BTreeMap, io::Write};

use anyhow::ensure;
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::runtime;

use super::replicas::{Replicas, Said};
use crate::{
    admin::debug::{ConfigDump, ProxyRef, ResourceDump},
    cli::{Ending, format::Shape, table},
};

/// Print what the proxies of a waypoint were sent, in which version, and what of it they have acknowledged.
///
/// Of secrets there is what everybody may know of their certificates, and never a key.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 everything is acknowledged, 1 an error (no such waypoint or proxy, nobody answers), \
                        2 wrong arguments, 3 a proxy lacks something of it, 4 a replica of the control plane does not answer"
)]
pub(in crate::cli) struct ProxyConfig {
    /// A waypoint, as in shop/waypoint, or a proxy as proxy-status names it
    #[arg(value_name = "WAYPOINT|PROXY", value_parser = parse_name)]
    of: String,
    /// Only resources of this type
    #[arg(value_enum, value_name = "TYPE", default_value = "all")]
    only: Type,
    /// Only the resource of this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    replicas: Replicas,
    /// How to print it: a line for each resource, or all that it says
    #[arg(short, long, value_enum, default_value = "table")]
    output: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
enum Type {
    All,
    #[value(alias = "cluster")]
    Clusters,
    #[value(alias = "endpoint")]
    Endpoints,
    #[value(alias = "listener")]
    Listeners,
    #[value(alias = "scope")]
    Scopes,
    #[value(alias = "route")]
    Routes,
    #[value(alias = "secret")]
    Secrets,
    #[value(alias = "extension")]
    Extensions,
}

impl Type {
    /// As the debug endpoint calls it.
    const fn name(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Clusters => Some("clusters"),
            Self::Endpoints => Some("endpoints"),
            Self::Listeners => Some("listeners"),
            Self::Scopes => Some("scopes"),
            Self::Routes => Some("routes"),
            Self::Secrets => Some("secrets"),
            Self::Extensions => Some("extensions"),
        }
    }
}

fn parse_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/:".contains(&byte);
    if text.is_empty() || !text.bytes().all(plain) {
        return Err("write a waypoint, as in shop/waypoint, or the name of a proxy".to_owned());
    }
    Ok(text.to_owned())
}

/// What all replicas together say.
#[derive(Debug, Serialize)]
pub(super) struct Merged {
    waypoints: Vec<Fleet>,
    unanswered: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Fleet {
    waypoint: String,
    proxies: Vec<ProxyRef>,
    resources: Vec<ResourceDump>,
}

impl ProxyConfig {
    /// Prints it to `out`; who did not answer is told on `err`.
    pub(in crate::cli) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ending> {
        let Self { of, only, name, replicas, output } = self;
        let only = only.name().map(|kind| format!("&type={kind}")).unwrap_or_default();
        let bodies = if output == Shape::Table { "" } else { "&bodies" };
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let path = format!("/debug/config_dump?of={of}{only}{bodies}");
        let said = runtime.block_on(replicas.ask(&path))?;
        let merged = Merged::of(said, &of, name.as_deref())?;
        merged.print(output, out, err)?;
        Ok(merged.ending())
    }
}

impl Merged {
    pub(super) fn of(said: Vec<Said<ConfigDump>>, of: &str, name: Option<&str>) -> anyhow::Result<Self> {
        let mut unanswered = BTreeMap::new();
        let mut fleets = BTreeMap::<String, Fleet>::new();
        for Said { replica, answer } in said {
            match answer {
                Ok(ConfigDump { waypoints }) => {
                    for config in waypoints {
                        let waypoint = config.waypoint.clone();
                        let fleet = fleets.entry(config.waypoint).or_insert_with(|| Fleet {
                            waypoint,
                            proxies: Vec::new(),
                            resources: Vec::new(),
                        });
                        fleet.proxies.extend(config.proxies);
                        fleet.add(config.resources);
                    }
                }
                Err(error) => {
                    unanswered.insert(replica, format!("{error:#}"));
                }
            }
        }
        let words = unanswered.iter().map(|(replica, why)| format!("; {replica} does not answer: {why}"));
        let words: String = words.collect();
        ensure!(
            !fleets.is_empty(),
            "the control plane has no waypoint {of}, and no proxy that is called so{words}"
        );
        if let Some(name) = name {
            for fleet in fleets.values_mut() {
                fleet.resources.retain(|resource| resource.name == name);
            }
            let found = fleets.values().any(|fleet| !fleet.resources.is_empty());
            ensure!(found, "there is no resource {name:?} there{words}");
        }
        Ok(Self { waypoints: fleets.into_values().collect(), unanswered })
    }

    pub(super) fn ending(&self) -> Ending {
        let lacks = |resource: &ResourceDump| !resource.lacking.is_empty();
        if self.waypoints.iter().flat_map(|fleet| &fleet.resources).any(lacks) {
            Ending::Lacking
        } else if self.unanswered.is_empty() {
            Ending::Well
        } else {
            Ending::Unanswered
        }
    }

    pub(super) fn print(&self, shape: Shape, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<()> {
        for (replica, why) in &self.unanswered {
            writeln!(err, "warning: {replica} does not answer, its proxies are not counted here: {why}")?;
        }
        if let Some(format) = shape.format() {
            return Ok(format.print(self, out)?);
        }
        let several = self.waypoints.len() > 1;
        for fleet in &self.waypoints {
            if several {
                writeln!(out, "{}", fleet.waypoint)?;
            }
            table::print(
                ["TYPE", "NAME", "VERSION", "ACKNOWLEDGED", "NOTE"],
                fleet.resources.iter().map(row),
                out,
            )?;
        }
        Ok(())
    }
}

impl Fleet {
    /// Adds what another replica has: the same resources, once both have read the same.
    fn add(&mut self, more: Vec<ResourceDump>) {
        for resource in more {
            let same = |one: &&mut ResourceDump| {
                (&one.kind, &one.name, &one.version) == (&resource.kind, &resource.name, &resource.version)
            };
            match self.resources.iter_mut().find(same) {
                Some(one) => {
                    one.wanted += resource.wanted;
                    one.acknowledged += resource.acknowledged;
                    one.lacking.extend(resource.lacking);
                }
                None => self.resources.push(resource),
            }
        }
    }
}

fn row(resource: &ResourceDump) -> [String; 5] {
    let ResourceDump { kind, name, version, wanted, acknowledged, lacking, certificates, body: _ } = resource;
    let mut notes: Vec<String> = lacking
        .iter()
        .map(|lack| match lack.message.as_str() {
            "" => format!("{}: {}", lack.proxy, lack.why),
            said => format!("{}: {}: {said}", lack.proxy, lack.why),
        })
        .collect();
    notes.extend(certificates.iter().map(|certificate| {
        let whose = if certificate.uris.is_empty() {
            certificate.subject.clone()
        } else {
            certificate.uris.join(" ")
        };
        let role = if certificate.authority { "root" } else { "certificate" };
        format!("{role} {whose}, serial {}, until {}", certificate.serial, certificate.not_after)
    }));
    if version.is_none() {
        notes.insert(0, "is to go".to_owned());
    }
    let acknowledged = format!("{acknowledged} of {wanted}");
    [kind.clone(), name.clone(), version.clone().unwrap_or_default(), acknowledged, notes.join("; ")]
}
