//! Where we are ourselves, on the command line and by the environment of a pod.

use std::{fs, net::IpAddr, path::Path};

use clap::Args;
use proto::Name;

use crate::place::{NAMESPACE, Place};

/// Where a pod finds the namespace of its service account.
const MOUNTED: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Our own place in the cluster.
#[derive(Clone, Debug, Args)]
pub(super) struct OwnArguments {
    /// The namespace that we are in [default: that of the pod's service account, else portolan-system]
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    namespace: Option<Name>,
    /// The pod that we run in
    #[arg(long, value_name = "NAME", env = "POD_NAME", hide = true)]
    pod_name: Option<Name>,
    /// The address of that pod
    #[arg(long, value_name = "ADDRESS", env = "POD_IP", hide = true)]
    pod_ip: Option<IpAddr>,
}

impl OwnArguments {
    pub(super) fn place(&self) -> Place {
        let Self { namespace, pod_name, pod_ip } = self;
        let said = namespace.clone().filter(|namespace| !namespace.is_empty());
        let namespace = said.unwrap_or_else(|| mounted(Path::new(MOUNTED)));
        Place { namespace, pod: pod_name.clone(), ip: *pod_ip }
    }
}

fn mounted(path: &Path) -> Name {
    let read = fs::read_to_string(path).ok();
    let said = read.as_deref().map(str::trim).filter(|text| !text.is_empty());
    said.unwrap_or(NAMESPACE).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_knows_its_namespace_and_nobody_else_needs_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("namespace");
        assert_eq!(&*mounted(&path), "portolan-system");
        fs::write(&path, "mesh\n").unwrap();
        assert_eq!(&*mounted(&path), "mesh");
    }
}
