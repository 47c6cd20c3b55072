//! Where the objects of a mesh come from: a directory of manifests, or the API server of a cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    time::Duration,
};

use parking_lot::Mutex;
use proto::{Name, ObjectRef};
use tokio::{
    sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender},
    time::sleep,
};
use tracing::{error, info, warn};
use translate::Settings;
use watch::{ClusterSource, Complaint, DirectorySource, Live, Severity, Source, Update, Wanted};

use crate::{
    admin::{Health, Pages},
    metrics::Requests,
};

/// How often a server that does not answer at the start is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// Where the objects come from.
#[derive(Debug)]
pub enum Objects {
    /// A directory of manifests.
    Directory(PathBuf),
    /// A cluster.
    Cluster(Cluster),
}

/// A way to the API server of a cluster.
#[derive(Clone)]
pub struct Cluster {
    /// Who we are there.
    pub client: kube::Client,
    /// Where it is, for whoever reads the log.
    pub url: String,
    /// What `client` and its clones have asked.
    pub requests: Requests,
}

/// What is read by reference from the start: the mesh configuration, and the defaults of classes.
pub fn wanted(settings: &Settings) -> Wanted {
    let (namespace, labels) = settings.class_defaults();
    Wanted::by_reference([settings.mesh_config()]).with_labels(namespace, labels)
}

/// Who is told of the statuses that a cluster shows.
#[derive(Debug)]
pub(crate) struct Lives {
    /// Whose entries are looked for: a field manager.
    pub(crate) manager: Name,
    /// What an object's status is, and nothing once the object is gone.
    pub(crate) to: UnboundedSender<(ObjectRef, Option<Live>)>,
}

impl Objects {
    /// Whether they are in a cluster.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// What is asked of an API server, if one is.
    pub(crate) fn requests(&self) -> Option<&Requests> {
        match self {
            Self::Directory(_) => None,
            Self::Cluster(cluster) => Some(&cluster.requests),
        }
    }

    /// The settings with what the mesh configuration says that holds for the life of a process. If it cannot
    /// be read now, nothing is served before it can, and then its status says what it takes. A cluster that
    /// does not answer is waited for.
    pub(crate) async fn adopt(
        &self,
        settings: Settings,
        wanted: &Wanted,
        health: &Health,
    ) -> anyhow::Result<Settings> {
        let objects = match self {
            Self::Directory(directory) => watch::read_directory(directory, wanted)?.0,
            Self::Cluster(cluster) => cluster.read(wanted, health).await,
        };
        let settings = settings.adopting(&objects);
        info!(trust_domain = %settings.trust_domain, mesh_config = %settings.mesh_config(), "the mesh");
        Ok(settings)
    }

    /// Tells `updates` of the objects, `lives` of their statuses if there are any, and `pages` of what is missing
    /// or wrong, for ever. Ends only by failing.
    ///
    /// `asked` says which other objects are to be followed by name; a directory has no others.
    pub(crate) async fn follow(
        self,
        wanted: Wanted,
        asked: UnboundedReceiver<BTreeMap<ObjectRef, bool>>,
        updates: Sender<Update>,
        lives: Option<Lives>,
        pages: Pages,
    ) -> anyhow::Result<()> {
        match self {
            Self::Directory(directory) => {
                let source = DirectorySource::new(directory).wanting(wanted);
                source.on_complaints(tell_complaints(pages)).run(updates).await?
            }
            Self::Cluster(Cluster { client, .. }) => {
                let mut source = ClusterSource::new(client).wanting(wanted).following(asked);
                if let Some(Lives { manager, to }) = lives {
                    source = source.on_status(&manager, move |object, live| {
                        // Whoever listened is gone only when everything is about to end.
                        to.send((object, live)).ok();
                    });
                }
                let health = pages.health.clone();
                let source = source.on_missing(move |missing| health.lacks(missing));
                source.on_complaints(tell_complaints(pages)).run(updates).await?
            }
        };
        Ok(())
    }
}

impl Cluster {
    async fn read(&self, wanted: &Wanted, health: &Health) -> Vec<proto::Object> {
        let mut told = None;
        loop {
            match watch::read_referenced(self.client.clone(), wanted).await {
                Ok(objects) => {
                    health.complain(Vec::new());
                    return objects;
                }
                Err(error) => {
                    let error = error.to_string();
                    if told.as_ref() != Some(&error) {
                        health.complain(vec![error.clone()]);
                        error!(cluster = self.url, "nothing is served before this is mended: {error}");
                        told = Some(error);
                    }
                    sleep(AGAIN).await;
                }
            }
        }
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => write!(out, "{}", directory.display()),
            Self::Cluster(cluster) => out.write_str(&cluster.url),
        }
    }
}

/// Without the client, which has our credentials.
impl fmt::Debug for Cluster {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Cluster").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Tells what is wrong with what is read, each thing once, and what is no longer wrong.
fn tell_complaints(pages: Pages) -> impl Fn(&[Complaint]) + Send + Sync + 'static {
    let told = Mutex::new(BTreeSet::new());
    move |complaints| {
        pages.metrics.outside.complain(complaints);
        pages.health.complain(complaints.iter().map(ToString::to_string).collect());
        let current: BTreeSet<Complaint> = complaints.iter().cloned().collect();
        let mut told = told.lock();
        for complaint in current.difference(&told) {
            match complaint.severity {
                Severity::Error => error!("{complaint}"),
                Severity::Warning => warn!("{complaint}"),
            }
        }
        for complaint in told.difference(&current) {
            info!(was = %complaint, "put right");
        }
        *told = current;
    }
}
