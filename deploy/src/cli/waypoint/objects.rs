//! `portolan waypoint objects`: what is deployed for the Gateways of a directory or a cluster.

use std::io::Write;

use clap::Args;
use translate::{Audience, Installing, Mesh};
use watch::Severity;

use crate::{
    cli::{
        Ending,
        format::Format,
        gateway,
        mesh::{MeshArguments, Needed},
        source::SourceArguments,
        template::TemplateArguments,
    },
    place::NAMESPACE,
    waypoint,
};

/// Print the Kubernetes objects that run the proxies of the waypoints of a directory or a cluster.
#[derive(Debug, Args)]
pub(super) struct Objects {
    #[command(flatten)]
    source: SourceArguments,
    /// Only those of this waypoint
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = gateway::parse)]
    gateway: Option<Audience>,
    #[command(flatten)]
    mesh: MeshArguments,
    #[command(flatten)]
    template: TemplateArguments,
    /// How to print them, one document each
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Format,
}

impl Objects {
    /// Prints them to `out`; what is wrong with the manifests is told on `err`.
    pub(super) fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Ending> {
        let from = self.source.to_string();
        let (settings, changes, complaints) = self.mesh.read(self.source, Needed::Proxies)?;
        let commit = Mesh::new(settings).commit(changes);
        for complaint in &complaints {
            writeln!(err, "{complaint}")?;
        }
        let mut wrong = complaints.iter().any(|complaint| complaint.severity == Severity::Error);
        let mut found = false;
        for (gateway, plan) in &commit.waypoints {
            let Some(plan) =
                plan.as_ref().filter(|_| self.gateway.as_ref().is_none_or(|only| only == gateway))
            else {
                continue;
            };
            found = true;
            match &plan.installing {
                Installing::Ours(installation) => {
                    let template = self.template.template(NAMESPACE);
                    for object in waypoint::objects(gateway, plan, installation, &template)? {
                        if self.output == Format::Yaml {
                            writeln!(out, "---")?;
                        }
                        self.output.print(&object, out)?;
                    }
                }
                Installing::Held => {
                    wrong = true;
                    let reference = proto::ObjectRef {
                        kind: proto::Kind::Gateway,
                        namespace: gateway.namespace.clone(),
                        name: gateway.name.clone(),
                    };
                    let status = commit.statuses.get(&reference).and_then(Option::as_ref);
                    let accepted = status.and_then(|status| status.conditions.first());
                    let why = accepted.map(|condition| condition.message.as_str()).unwrap_or_default();
                    writeln!(err, "{gateway}: {why}")?;
                }
                Installing::Others => {
                    writeln!(
                        err,
                        "{gateway}: nothing is deployed, as it has spec.addresses or another istio.io/rev"
                    )?;
                }
            }
        }
        if let Some(only) = self.gateway.as_ref().filter(|_| !found) {
            anyhow::bail!("there is no waypoint {only} in {from}");
        }
        Ok(if wrong { Ending::WithComplaints } else { Ending::Well })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use clap::Parser;

    use super::*;
    use crate::cli::Arguments;

    const GATEWAY: &str = "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: w}, spec: {gatewayClassName: istio-waypoint, infrastructure: {parametersRef: {group: '', kind: ConfigMap, name: p}}, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}";

    fn run(directory: &Path) -> (Ending, String, String) {
        let arguments = ["portolan", "waypoint", "objects", directory.to_str().unwrap()];
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ending = Arguments::parse_from(arguments).run(&mut out, &mut err).unwrap();
        (ending, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn what_is_printed_is_what_kubectl_would_apply() {
        let directory = tempfile::tempdir().unwrap();
        let patch = r#"{apiVersion: v1, kind: ConfigMap, metadata: {name: p}, data: {service: "spec: {type: LoadBalancer}"}}"#;
        fs::write(directory.path().join("w.yaml"), format!("{GATEWAY}\n---\n{patch}\n")).unwrap();
        let (ending, out, err) = run(directory.path());
        assert_eq!((ending, err.as_str()), (Ending::Well, ""));
        let kinds: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
        let expected = [
            "ConfigMap",
            "ServiceAccount",
            "Deployment",
            "Service",
            "HorizontalPodAutoscaler",
            "PodDisruptionBudget",
        ];
        assert_eq!(kinds, expected);
        assert!(out.contains("type: LoadBalancer"), "{out}");
    }

    #[test]
    fn a_patch_that_cannot_be_applied_is_told_of_and_nothing_is_printed() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("w.yaml"), GATEWAY).unwrap();
        let (ending, out, err) = run(directory.path());
        assert_eq!((ending, out.as_str()), (Ending::WithComplaints, ""));
        assert!(err.contains("default/w: ") && err.contains("there is no ConfigMap default/p"), "{err}");
    }
}
