//! What a directory of manifests says about who is where: the harness's own reading, as a client's ztunnel has it.
//!
//! It shares no code with the control plane under test beyond the types of the objects, so that the two
//! can disagree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result};
use proto::{Object, kubernetes};
use serde_json::Value;

use crate::{
    backend::Protocol,
    hbone::{PORT, Waypoint},
    identity::spiffe,
};

/// The mesh as its manifests describe it.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Pods that have an address, by `namespace/name`.
    pub pods: BTreeMap<String, Pod>,
    /// Services that have an address, by `namespace/name`.
    pub services: BTreeMap<String, Service>,
    /// The addresses of Gateways, by `namespace/name`.
    pub gateways: BTreeMap<String, IpAddr>,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub account: String,
    /// Its address.
    pub address: IpAddr,
    /// Whether the mesh has captured it: a ztunnel takes HBONE for it.
    pub captured: bool,
    /// The ports that it or an EndpointSlice names, and what is spoken there.
    pub ports: BTreeMap<u16, Protocol>,
}

/// A Service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its address.
    pub address: IpAddr,
    /// The Gateway that its traffic goes through, as `namespace/name`.
    pub waypoint: Option<String>,
}

impl Catalog {
    /// Reads every manifest below a directory. Objects that do not decode are left out, since a test may
    /// put some there on purpose.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut objects = Vec::new();
        gather(directory, &mut objects)?;
        Ok(Self::of(&objects))
    }

    // `if let` instead of `match`: a kind that control planes learn to read is none of a client's business.
    fn of(objects: &[Object]) -> Self {
        let mut catalog = Self::default();
        let mut namespaces = BTreeMap::new();
        for object in objects {
            if let Object::Namespace(namespace) = object {
                let name = namespace.metadata.name.clone().unwrap_or_default();
                namespaces.insert(name, namespace.metadata.labels.clone().unwrap_or_default());
            }
            if let Object::Pod(pod) = object {
                catalog.pods.extend(read_pod(pod).map(|pod| (key(object), pod)));
            }
            if let Object::Gateway(gateway) = object {
                let addresses = gateway.spec.addresses.iter().flatten();
                let address = addresses
                    .filter_map(|address| address.value.as_deref())
                    .find_map(|value| value.parse().ok());
                catalog.gateways.extend(address.map(|address| (key(object), address)));
            }
        }
        for object in objects {
            if let Object::Service(service) = object {
                let service = read_service(service, &namespaces);
                catalog.services.extend(service.map(|service| (key(object), service)));
            }
            if let Object::EndpointSlice(slice) = object {
                catalog.serve(slice);
            }
        }
        catalog
    }

    /// Adds the ports that a slice names to the pods it names.
    fn serve(&mut self, slice: &kubernetes::EndpointSlice) {
        let named = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        let addresses = named.filter_map(|address| address.parse().ok()).collect::<BTreeSet<IpAddr>>();
        for pod in self.pods.values_mut().filter(|pod| addresses.contains(&pod.address)) {
            for port in slice.ports.iter().flatten() {
                let number = port.port.and_then(|port| u16::try_from(port).ok());
                let protocol = protocol(port.name.as_deref());
                if let Some(number) = number {
                    pod.ports.entry(number).or_insert(protocol);
                }
            }
        }
    }

    /// The address behind a host and port: `web.webapp:80`, with or without `.svc.cluster.local`, or an
    /// address as it is.
    pub fn resolve(&self, authority: &str) -> Result<Destination> {
        if let Ok(address) = authority.parse::<SocketAddr>() {
            let service = self.services.values().find(|service| service.address == address.ip());
            return Ok(Destination {
                address,
                waypoint: service.and_then(|service| service.waypoint.clone()),
            });
        }
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
        let port =
            port.parse().with_context(|| format!("{authority:?} has no port number after the colon"))?;
        let short =
            host.strip_suffix(".svc.cluster.local").or_else(|| host.strip_suffix(".svc")).unwrap_or(host);
        let (name, namespace) = short.split_once('.').unwrap_or((short, "default"));
        let service = self.services.get(&format!("{namespace}/{name}"));
        let service = service.with_context(|| format!("no Service {namespace}/{name} with an address"))?;
        let address = SocketAddr::new(service.address, port);
        Ok(Destination { address, waypoint: service.waypoint.clone() })
    }

    /// Where the waypoint of a Gateway is and who it must be: the service account of the Gateway's name.
    pub fn waypoint(&self, gateway: &str) -> Result<Waypoint> {
        let address = self.gateways.get(gateway);
        let address = address.with_context(|| format!("no Gateway {gateway} with spec.addresses"))?;
        let (namespace, name) = gateway.split_once('/').context("a Gateway is named as namespace/name")?;
        Ok(Waypoint { address: SocketAddr::new(*address, PORT), identity: spiffe(namespace, name) })
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The Service's address and port.
    pub address: SocketAddr,
    /// Through which Gateway, as `namespace/name`.
    pub waypoint: Option<String>,
}

/// Every object in the files below `directory`, `List` objects taken apart.
fn gather(directory: &Path, into: &mut Vec<Object>) -> Result<()> {
    let mut paths = fs::read_dir(directory)
        .with_context(|| format!("reading {}", directory.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            gather(&path, into)?;
        } else if matches!(extension, Some("yaml" | "yml" | "json")) {
            let text = fs::read_to_string(&path)?;
            for value in serde_saphyr::from_multiple::<Value>(&text).unwrap_or_default() {
                let items = value["items"].as_array().cloned().unwrap_or_else(|| vec![value]);
                into.extend(items.into_iter().filter_map(|item| Some(Object::decode(item).ok()?.object)));
            }
        }
    }
    Ok(())
}

fn key(object: &Object) -> String {
    let reference = object.reference();
    format!("{}/{}", reference.namespace, reference.name)
}

fn read_pod(pod: &kubernetes::Pod) -> Option<Pod> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let redirection = annotations.get("ambient.istio.io/redirection").map(String::as_str);
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    Some(Pod {
        name: pod.metadata.name.clone()?,
        namespace: pod.metadata.namespace.clone()?,
        account: spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
        address: status.pod_ip.as_deref()?.parse().ok()?,
        captured: redirection == Some("enabled"),
        ports: ports
            .filter_map(|port| {
                Some((u16::try_from(port.container_port).ok()?, protocol(port.name.as_deref())))
            })
            .collect(),
    })
}

fn read_service(
    service: &kubernetes::Service,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
) -> Option<Service> {
    let namespace = service.metadata.namespace.clone().unwrap_or_default();
    let address = service.spec.as_ref()?.cluster_ip.as_deref()?.parse().ok()?;
    let labels = [service.metadata.labels.as_ref(), namespaces.get(&namespace)];
    Some(Service { address, waypoint: waypoint_of(&namespace, &labels) })
}

/// What a port speaks, by the convention for port names: `tcp-banner` speaks first, `tcp` echoes, all others HTTP.
fn protocol(name: Option<&str>) -> Protocol {
    match name {
        Some("tcp-banner") => Protocol::Banner,
        Some("tls") => Protocol::Tls,
        Some(name) if name == "tcp" || name.starts_with("tcp-") => Protocol::Echo,
        _ => Protocol::Http,
    }
}

/// The Gateway that the nearest `istio.io/use-waypoint` label names; `none` means none.
fn waypoint_of(namespace: &str, nearest_first: &[Option<&BTreeMap<String, String>>]) -> Option<String> {
    let labels =
        nearest_first.iter().flatten().find(|labels| labels.contains_key("istio.io/use-waypoint"))?;
    let name = labels.get("istio.io/use-waypoint").filter(|name| *name != "none")?;
    let namespace = labels.get("istio.io/use-waypoint-namespace").map_or(namespace, String::as_str);
    Some(format!("{namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_by_name_and_goes_through_the_waypoint_of_its_namespace_unless_it_says_otherwise() {
        let directory = tempfile::tempdir().unwrap();
        let manifests = r"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/use-waypoint: waypoint}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 127.10.0.111, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: direct, namespace: shop, labels: {istio.io/use-waypoint: none}}
spec: {clusterIP: 127.10.0.112, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop}
spec: {containers: [{name: web, ports: [{containerPort: 8080}]}]}
status: {podIP: 127.10.0.11}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop}
addressType: IPv4
endpoints: [{addresses: [127.10.0.11]}]
ports: [{name: tcp-admin, port: 9000}]
";
        fs::write(directory.path().join("shop.yaml"), manifests).unwrap();
        let catalog = Catalog::read(directory.path()).unwrap();
        let web = catalog.resolve("web.shop.svc.cluster.local:80").unwrap();
        assert_eq!(web.address.to_string(), "127.10.0.111:80");
        assert_eq!(web.waypoint.as_deref(), Some("shop/waypoint"));
        assert_eq!(catalog.resolve("direct.shop").unwrap().waypoint, None);
        assert_eq!(catalog.resolve("127.10.0.111:80").unwrap(), web);
        let ports = &catalog.pods["shop/web-1"].ports;
        assert_eq!(ports.get(&8080), Some(&Protocol::Http));
        assert_eq!(ports.get(&9000), Some(&Protocol::Echo));
    }
}
