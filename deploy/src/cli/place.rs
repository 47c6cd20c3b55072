//! Where a proxy stands, on the command line.

use clap::Args;
use proto::{Name, Place};

/// What is not said is not known, and nothing is nearer than anything else.
#[derive(Debug, Args)]
pub(super) struct PlaceArguments {
    /// The region that the proxy runs in
    #[arg(long, value_name = "REGION", default_value = "", hide_default_value = true)]
    region: Name,
    /// The zone that the proxy runs in, as its node's label topology.kubernetes.io/zone says
    #[arg(long, value_name = "ZONE", default_value = "", hide_default_value = true)]
    zone: Name,
    /// The node that the proxy runs on
    #[arg(long, value_name = "NODE", default_value = "", hide_default_value = true)]
    node_name: Name,
}

impl PlaceArguments {
    pub(super) fn place(&self) -> Place {
        let Self { region, zone, node_name } = self;
        Place { region: region.clone(), zone: zone.clone(), sub_zone: node_name.clone() }
    }
}
