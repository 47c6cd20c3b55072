//! Hosts of ServiceEntries where a Service would stand: routes on them, and shares of requests sent to them.

use anyhow::{Context, Result};
use http::HeaderMap;
use tests::{
    Caller, Lab,
    backend::{Backend, Protocol},
    exchange::{Request, Session, Version},
    hbone, lab,
    lab::Setup,
    until,
};

use crate::shop::PATIENCE;

const GATEWAY: &str = "mesh/waypoint";

/// Two hosts with an endpoint each, and one that only its own namespace knows.
const HOSTS: &str = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: mesh, labels: {istio.io/use-waypoint: waypoint}}
spec:
  hosts: [api.example.com]
  addresses: [127.10.0.120]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  endpoints: [{address: 127.10.0.21}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other, namespace: elsewhere}
spec:
  hosts: [other.example.com]
  ports: [{number: 8000, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.10.0.22, ports: {http: 8888}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: secret, namespace: elsewhere}
spec:
  hosts: [secret.example.com]
  exportTo: ['.']
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8888}]
  resolution: STATIC
  endpoints: [{address: 127.10.0.22}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: api, namespace: mesh}
spec:
  parentRefs: [{group: networking.istio.io, kind: ServiceEntry, name: api}]
  rules:
  - matches: [{path: {value: /own}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-routed, value: here}]}}]
    backendRefs: [{group: networking.istio.io, kind: Hostname, name: api.example.com, port: 80}]
  - matches: [{path: {value: /other}}]
    backendRefs: [{group: networking.istio.io, kind: Hostname, name: Other.example.com, port: 8000}]
  - matches: [{path: {value: /service}}]
    backendRefs: [{name: dual, port: 80}]
  - matches: [{path: {value: /secret}}]
    backendRefs: [{group: networking.istio.io, kind: Hostname, name: secret.example.com, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: dual, namespace: mesh}
spec:
  parentRefs: [{group: '', kind: Service, name: dual}]
  rules:
  - backendRefs: [{group: networking.istio.io, kind: Hostname, name: other.example.com, port: 8000}]
";

#[test]
fn a_host_has_routes_and_is_a_backend() -> Result<()> {
    let setup = Setup::manifests(include_str!("services.yaml")).file("hosts.yaml", HOSTS);
    lab::test(&setup, async |lab| {
        let _api = backend(lab, "api", 21, 8080).await?;
        let _other = backend(lab, "other", 22, 8888).await?;
        let curl = lab.client("default", "curl")?;
        let wanted = [
            (120, "/own", "200 api here"),
            (120, "/other", "200 other"),
            (120, "/service", "200 web-1"),
            // It is known where it was declared, and nowhere else.
            (120, "/secret", "500"),
            (120, "/", "404"),
            (111, "/", "200 other"),
        ];
        for (host, path, wanted) in wanted {
            assert_eq!(ask(lab, &curl, (host, 80), path).await?, wanted, "{path}");
        }
        // Without the route, requests go to the host that was asked.
        lab.edit("hosts.yaml", "kind: ServiceEntry, name: api}", "kind: ServiceEntry, name: nobody}")?;
        until("the route to be gone", PATIENCE, async || {
            Ok((ask(lab, &curl, (120, 80), "/").await? == "200 api").then_some(()))
        })
        .await
    })
}

/// A machine with a ztunnel of its own, and a Service that selects it.
const MACHINE: &str = r"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: mesh}
spec:
  address: 127.10.0.23
  labels: {app: vm, networking.istio.io/tunnel: http}
  serviceAccount: vm
  ports: {http: 8080}
---
apiVersion: v1
kind: Service
metadata: {name: vm, namespace: mesh}
spec:
  clusterIP: 127.10.0.130
  selector: {app: vm}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: vm, namespace: mesh}
spec:
  targetRefs: [{kind: Service, group: '', name: vm}]
  rules: [{to: [{operation: {paths: [/service]}}]}]
";

#[test]
fn a_machine_is_an_endpoint_of_a_service_and_is_dialled_itself() -> Result<()> {
    let setup = Setup::manifests(include_str!("services.yaml")).file("machine.yaml", MACHINE);
    lab::test(&setup, async |lab| {
        let machine = backend(lab, "vm", 23, 0).await?;
        let identity = lab.authority.workload("mesh", "vm")?;
        let ports = [(8080, machine.address)].into();
        let ztunnel =
            hbone::Server::start(lab.loopback.address(23).into(), &identity, &lab.authority, ports)?;
        let curl = lab.client("default", "curl")?;
        assert_eq!(ask(lab, &curl, (130, 80), "/service").await?, "200 vm");
        assert_eq!(ask(lab, &curl, (130, 80), "/").await?, "403");
        // What holds for the Service is said of the Service, not of the machine.
        assert_eq!(ask(lab, &curl, (23, 8080), "/").await?, "200 vm");
        assert_eq!(ztunnel.accepted().len(), 2);
        Ok(())
    })
}

async fn backend(lab: &Lab, name: &str, host: u8, port: u16) -> Result<Backend> {
    Backend::start(name, Protocol::Http, (lab.loopback.address(host), port).into()).await
}

/// The status, the name of the backend if one answered, and what its route said of itself.
async fn ask(lab: &Lab, caller: &Caller, (host, port): (u8, u16), path: &str) -> Result<String> {
    let authority = format!("{}:{port}", lab.loopback.address(host));
    let connection = caller.connection(GATEWAY).await?;
    let tunnel = connection.tunnel(&authority, &HeaderMap::new()).await?.0;
    let mut session = Session::open(tunnel, Version::Http1, "api.example.com").await?;
    let response = session.send(Request::get(path)).await.with_context(|| format!("asking {path}"))?;
    let seen = response.json().unwrap_or_default();
    let said = [seen["name"].as_str(), seen["headers"]["x-routed"][0].as_str()];
    let said = said.into_iter().flatten();
    Ok(said.fold(response.status.to_string(), |all, said| format!("{all} {said}")))
}
