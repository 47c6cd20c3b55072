//! `portolan waypoint generate`: the Gateway of a waypoint, to be applied or kept.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::{Ending, format::Format};

/// Print the Gateway of a waypoint.
#[derive(Debug, Args)]
pub(super) struct Generate {
    #[command(flatten)]
    gateway: GatewayArguments,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Format,
}

/// What a waypoint's Gateway is to be like.
#[derive(Clone, Debug, Args)]
pub(super) struct GatewayArguments {
    /// The name of the waypoint
    #[arg(long, value_name = "NAME", default_value = "waypoint", value_parser = parse_name)]
    name: String,
    /// The namespace that it is in [default: that of the kubeconfig's context; generate says none]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Which traffic it takes [default: service, by not saying so]
    #[arg(long = "for", value_enum, value_name = "TRAFFIC")]
    traffic: Option<Traffic>,
    /// The revision of the control plane that it is for
    #[arg(short, long, value_name = "REVISION")]
    revision: Option<String>,
    /// The class of the Gateway: portolan-waypoint where istiod has the other one
    #[arg(long, value_name = "CLASS", default_value = "istio-waypoint")]
    class: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Traffic {
    /// To the addresses of services
    Service,
    /// To the addresses of pods
    Workload,
    /// To both
    All,
    /// To neither, for trying things out
    None,
}

impl Traffic {
    /// As it stands in the label `istio.io/waypoint-for`.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Workload => "workload",
            Self::All => "all",
            Self::None => "none",
        }
    }
}

impl Generate {
    /// Prints it to `out`.
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<Ending> {
        self.output.print(&self.gateway.gateway(), out)?;
        Ok(Ending::Well)
    }
}

impl GatewayArguments {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    pub(super) fn class(&self) -> &str {
        &self.class
    }

    /// The Gateway that was asked for.
    pub(super) fn gateway(&self) -> Value {
        let Self { name, namespace, traffic, revision, class } = self;
        let mut metadata = json!({ "name": name });
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        if let Some(traffic) = traffic {
            metadata["labels"]["istio.io/waypoint-for"] = json!(traffic.as_str());
        }
        if let Some(revision) = revision {
            metadata["labels"]["istio.io/rev"] = json!(revision);
        }
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": metadata,
            "spec": {
                "gatewayClassName": class,
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            },
        })
    }
}

fn parse_name(name: &str) -> Result<String, String> {
    if name.is_empty() || name == "none" {
        return Err(
            "a waypoint cannot be called so: `none` is how things say that they want no waypoint".to_owned()
        );
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Arguments;

    fn generated(options: &[&str]) -> Value {
        let arguments = ["portolan", "waypoint", "generate"];
        let arguments = Arguments::try_parse_from(arguments.iter().chain(options)).unwrap();
        let mut out = Vec::new();
        assert_eq!(arguments.run(&mut out, &mut Vec::new()).unwrap(), Ending::Well);
        serde_saphyr::from_str(&String::from_utf8(out).unwrap()).unwrap()
    }

    #[test]
    fn what_is_not_said_is_left_to_the_defaults_of_whoever_reads_it() {
        let expected = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "waypoint"},
            "spec": {"gatewayClassName": "istio-waypoint", "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
        });
        assert_eq!(generated(&[]), expected);
    }

    #[test]
    fn every_flag_is_a_field_and_what_is_printed_is_a_gateway_that_we_read() {
        let gateway = generated(&[
            "--for",
            "all",
            "-n",
            "shop",
            "--name",
            "front",
            "-r",
            "canary",
            "--class",
            "portolan-waypoint",
        ]);
        let labels = json!({"istio.io/waypoint-for": "all", "istio.io/rev": "canary"});
        assert_eq!(gateway["metadata"], json!({"name": "front", "namespace": "shop", "labels": labels}));
        assert_eq!(gateway["spec"]["gatewayClassName"], "portolan-waypoint");
        assert_eq!(proto::Object::decode(gateway).unwrap().ignored, [""; 0]);
    }

    #[test]
    fn none_is_no_name() {
        let arguments = ["portolan", "waypoint", "generate", "--name", "none"];
        assert!(Arguments::try_parse_from(arguments).is_err());
    }
}
