//! What a command that looks once reads: a directory of manifests, or a cluster as it is now.

use std::{fmt, path::PathBuf};

use clap::Args;

use super::cluster::ClusterArguments;

/// A directory or a cluster. One of them has to be named: an answer about the wrong one looks right.
#[derive(Clone, Debug, Args)]
pub(super) struct SourceArguments {
    /// The directory of manifests
    #[arg(value_name = "DIR", required_unless_present_any = NAMED, conflicts_with_all = NAMED)]
    directory: Option<PathBuf>,
    #[command(flatten)]
    live: LiveArguments,
}

/// A cluster, if one is named.
#[derive(Clone, Debug, Args)]
pub(super) struct LiveArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// The cluster that kubectl speaks to at the moment
    #[arg(long, conflicts_with = "context")]
    current_context: bool,
}

/// What names a cluster.
const NAMED: [&str; 3] = ["kubeconfig", "context", "current_context"];

/// Where the objects are.
#[derive(Clone, Debug)]
pub(super) enum Chosen {
    Directory(PathBuf),
    Cluster(ClusterArguments),
}

impl SourceArguments {
    pub(super) fn of(directory: Option<PathBuf>, live: LiveArguments) -> Self {
        Self { directory, live }
    }

    pub(super) fn chosen(self) -> Chosen {
        match self.directory {
            Some(directory) => Chosen::Directory(directory),
            None => Chosen::Cluster(self.live.cluster),
        }
    }
}

impl LiveArguments {
    /// Whether a cluster is named.
    pub(super) fn is_named(&self) -> bool {
        self.current_context || self.cluster.is_named()
    }
}

/// For messages about what is not there.
impl fmt::Display for SourceArguments {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.directory {
            Some(directory) => write!(out, "{}", directory.display()),
            None => out.write_str("the cluster"),
        }
    }
}
