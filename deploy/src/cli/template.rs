//! What the pods of waypoints are made with, on the command line.

use clap::Args;

use crate::{
    proxy::Endpoint,
    waypoint::{AUDIENCE, IMAGE, Template},
};

/// What holds for the pods of every waypoint.
#[derive(Clone, Debug, Args)]
pub(super) struct TemplateArguments {
    /// The image of Envoy
    #[arg(long = "proxy-image", value_name = "IMAGE", default_value = IMAGE)]
    image: String,
    /// Where proxies in the cluster reach us [default: the Service portolan of our namespace, port 15010]
    #[arg(long = "proxy-xds", value_name = "HOST:PORT")]
    xds: Option<Endpoint>,
    /// Whom the service account tokens of proxies are for
    #[arg(long = "token-audience", value_name = "AUDIENCE", default_value = AUDIENCE)]
    audience: String,
}

impl TemplateArguments {
    /// What was asked for, where `namespace` is ours.
    pub(super) fn template(&self, namespace: &str) -> Template {
        let Self { image, xds, audience } = self;
        let service = || Template::service(namespace);
        Template {
            image: image.clone(),
            xds: xds.clone().unwrap_or_else(service),
            audience: audience.clone(),
        }
    }
}
