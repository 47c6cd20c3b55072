//! `portolan translate`: what a directory of manifests becomes, or a cluster as it is now.

use std::io::Write;

use clap::Args;
use translate::{Audience, Mesh};
use watch::Severity;

use super::{
    Ending,
    format::Format,
    gateway,
    mesh::{MeshArguments, Needed},
    place::PlaceArguments,
    report,
    source::SourceArguments,
};

/// Print every Envoy resource of every waypoint, and what is said about the objects.
#[derive(Debug, Args)]
pub(super) struct Translate {
    #[command(flatten)]
    source: SourceArguments,
    /// Only this waypoint's resources
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = gateway::parse)]
    gateway: Option<Audience>,
    #[command(flatten)]
    place: PlaceArguments,
    #[command(flatten)]
    mesh: MeshArguments,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Format,
}

impl Translate {
    /// Prints to `out`; what is wrong with the manifests is told on `err`.
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ending> {
        let (settings, changes, complaints) = self.mesh.read(self.source, Needed::Proxies)?;
        let commit = Mesh::new(settings).commit(changes);
        let report = report::report(&commit, self.gateway.as_ref(), &self.place.place());
        for complaint in &complaints {
            writeln!(err, "{complaint}")?;
        }
        self.output.print(&report?, out)?;
        // A kind that we do not read is worth a word, not a failure.
        let wrong = complaints.iter().any(|complaint| complaint.severity == Severity::Error);
        Ok(if wrong { Ending::WithComplaints } else { Ending::Well })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use clap::Parser;
    use serde_json::Value;

    use super::*;
    use crate::cli::Arguments;

    const SERVICE: &str =
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}";

    /// How the command ended, and what it wrote to standard output and to standard error.
    struct Outcome {
        ending: anyhow::Result<Ending>,
        out: String,
        err: String,
    }

    fn translate(directory: &Path, options: &[&str]) -> Outcome {
        let arguments = ["portolan", "translate", directory.to_str().unwrap()];
        let arguments = Arguments::parse_from(arguments.iter().chain(options));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ending = arguments.run(&mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Outcome { ending, out: text(out), err: text(err) }
    }

    #[test]
    fn json_and_yaml_are_the_same_document() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("web.yaml"), SERVICE).unwrap();
        let json = translate(directory.path(), &["-o", "json"]);
        let yaml = translate(directory.path(), &[]);
        assert_eq!((json.ending.unwrap(), yaml.ending.unwrap()), (Ending::Well, Ending::Well));
        let json: Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(json, serde_saphyr::from_str::<Value>(&yaml.out).unwrap());
        assert_eq!(json["waypoints"], Value::Array(Vec::new()));
        assert!(json["statuses"].is_array());
    }

    #[test]
    fn a_bad_manifest_is_told_of_and_the_rest_is_printed() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("web.yaml"), SERVICE).unwrap();
        let bad = SERVICE.replace("80", "eighty");
        fs::write(directory.path().join("bad.yaml"), bad).unwrap();
        let outcome = translate(directory.path(), &["-o", "json"]);
        assert_eq!(outcome.ending.unwrap(), Ending::WithComplaints);
        assert!(outcome.err.contains("bad.yaml"), "{}", outcome.err);
        assert!(outcome.err.contains("spec.ports[0].port"), "{}", outcome.err);
        assert!(serde_json::from_str::<Value>(&outcome.out).unwrap()["waypoints"].is_array());
    }

    #[test]
    fn a_kind_that_is_not_read_is_told_of_and_is_no_failure() {
        let directory = tempfile::tempdir().unwrap();
        let deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}";
        fs::write(directory.path().join("web.yaml"), deployment).unwrap();
        let outcome = translate(directory.path(), &[]);
        assert_eq!(outcome.ending.unwrap(), Ending::Well);
        assert!(outcome.err.contains("Deployment"), "{}", outcome.err);
    }

    #[test]
    fn what_the_command_line_says_holds_before_the_mesh_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let config = "{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: 'trustDomain: corp.example'}}";
        let waypoint = "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: w}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}";
        fs::write(directory.path().join("mesh.yaml"), format!("{config}\n---\n{waypoint}\n")).unwrap();
        let by_config = translate(directory.path(), &[]).out;
        assert!(by_config.contains("spiffe://corp.example/"), "{by_config}");
        assert!(!by_config.contains("spiffe://cluster.local/"), "{by_config}");
        let by_flag = translate(directory.path(), &["--trust-domain", "given.example"]).out;
        assert!(by_flag.contains("spiffe://given.example/"), "{by_flag}");
        assert!(by_flag.contains("PartiallyInvalid"), "{by_flag}");
        let another = translate(directory.path(), &["--revision", "canary"]).out;
        assert!(another.contains("spiffe://cluster.local/"), "{another}");
    }

    #[test]
    fn near_endpoints_come_first_for_a_proxy_whose_place_is_given() {
        let directory = tempfile::tempdir().unwrap();
        let manifests = r"
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: w}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, labels: {istio.io/use-waypoint: w}}, spec: {clusterIP: 10.0.0.1, trafficDistribution: PreferSameZone, ports: [{port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.1.0.1], zone: a}, {addresses: [10.1.0.2], zone: b}]}
";
        fs::write(directory.path().join("web.yaml"), manifests).unwrap();
        let priorities = |options: &[&str]| {
            let report: Value =
                serde_json::from_str(&translate(directory.path(), &[&["-o", "json"], options].concat()).out)
                    .unwrap();
            let localities = report["waypoints"][0]["resources"]["Endpoint"][0]["endpoints"].clone();
            let localities = localities.as_array().unwrap().clone();
            let shown =
                localities.iter().map(|one| (one["locality"]["zone"].clone(), one["priority"].clone()));
            shown.collect::<Vec<_>>()
        };
        let (a, b) = (Value::from("a"), Value::from("b"));
        assert_eq!(priorities(&[]), [(a.clone(), Value::Null), (b.clone(), Value::Null)]);
        assert_eq!(priorities(&["--zone", "b"]), [(b, Value::Null), (a, 1.into())]);
    }

    #[test]
    fn a_gateway_that_is_not_there_is_an_error_that_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let outcome = translate(directory.path(), &["--gateway", "default/waypoint"]);
        let error = outcome.ending.unwrap_err().to_string();
        assert!(error.starts_with("there is no waypoint default/waypoint; "), "{error}");
        assert_eq!(outcome.out, "");
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let outcome = translate(&directory.path().join("manifests"), &[]);
        assert!(outcome.ending.unwrap_err().to_string().contains("manifests"));
    }
}
