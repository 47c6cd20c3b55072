//! Objects from a directory of manifests, watched for changes.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::{Object, ObjectRef};
use tokio::{
    sync::{Notify, mpsc::Sender},
    task::{JoinError, spawn_blocking},
    time::{sleep, timeout},
};
use translate::Change;

use crate::{
    Source, Update,
    alarm::Alarm,
    catalog::Catalog,
    complaint::{Complaint, Severity},
    contents::Contents,
    diff::Held,
    manifest,
    tree::{Scan, Tree},
    wanted::Wanted,
};

/// How often everything is looked at although no change was told: links to files elsewhere, network
/// file systems and a full table of watches are silent.
const POLL: Duration = Duration::from_secs(5);

/// Editors and tools save in several steps. A change is read once it was quiet for this long …
const QUIET: Duration = Duration::from_millis(5);

/// … or has been going on for this long: a busy directory must not be ignored for ever.
const BUSY: Duration = Duration::from_millis(100);

/// Whom to tell what is wrong.
type Observer = Arc<dyn Fn(&[Complaint]) + Send + Sync>;

/// A directory of manifests: `*.yaml`, `*.yml` and `*.json`, in subdirectories too, names that begin
/// with a dot left out. Links are followed, so a mounted ConfigMap or Secret works.
///
/// Whatever cannot be read keeps its last good state, and is complained of.
#[derive(Clone)]
pub struct DirectorySource {
    root: PathBuf,
    wanted: Wanted,
    observer: Observer,
    poll: Duration,
}

/// Why a directory of manifests can no longer be followed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It could not be read at the start.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nobody wants the updates any more.
    #[error("the receiver of updates is gone")]
    NobodyListens,
    /// The runtime ended while files were being read.
    #[error("reading manifests was interrupted: {0}")]
    Interrupted(#[from] JoinError),
}

/// Why a directory of manifests cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("manifest directory {root:?} cannot be read: {source}; create it, or name another")]
pub struct ReadError {
    /// The directory.
    root: PathBuf,
    /// What the system said.
    source: io::Error,
}

impl DirectorySource {
    /// A source that reads the directory `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), wanted: Wanted::default(), observer: Arc::new(|_| {}), poll: POLL }
    }

    /// Reads these too of the kinds that are read by reference only.
    #[must_use]
    pub fn wanting(mut self, wanted: Wanted) -> Self {
        self.wanted = wanted;
        self
    }

    /// Calls `observer` with everything that is wrong, each time that this changes, before the
    /// objects that were read with it are sent. It is not called while nothing has ever been wrong.
    #[must_use]
    pub fn on_complaints(mut self, observer: impl Fn(&[Complaint]) + Send + Sync + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Looks at everything this often even if no change was told, instead of every 5 seconds.
    #[must_use]
    pub fn polled_every(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }
}

impl fmt::Debug for DirectorySource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("DirectorySource").field("root", &self.root).finish_non_exhaustive()
    }
}

/// Reads the directory `root` once: the objects in it that are `wanted`, ordered by name, and what is
/// wrong with it, ordered by file.
pub fn read_directory(
    root: impl AsRef<Path>,
    wanted: &Wanted,
) -> Result<(Vec<Object>, Vec<Complaint>), ReadError> {
    let mut directory = Directory::new(root.as_ref().to_owned(), wanted.clone());
    directory.refresh(SystemTime::now()).map_err(|source| directory.unreadable(source))?;
    let (objects, complaints) = directory.catalog.survey();
    Ok((objects.into_values().collect(), complaints))
}

impl Source for DirectorySource {
    type Error = DirectoryError;

    async fn run(self, updates: Sender<Update>) -> Result<Infallible, DirectoryError> {
        let Self { root, wanted, observer, poll } = self;
        let bell = Arc::new(Notify::new());
        let mut follower = Follower::new(Directory::new(root, wanted), Alarm::new(Arc::clone(&bell)));
        let mut complaints = Vec::new();
        let mut ready = false;
        loop {
            let (back, step) = spawn_blocking(move || follower.step(SystemTime::now())).await?;
            follower = back;
            let Step { changes, complaints: now_wrong, again } = step?;
            if now_wrong != complaints {
                observer(&now_wrong);
                complaints = now_wrong;
            }
            if !changes.is_empty() {
                send(&updates, Update::Changes(changes)).await?;
            }
            // At a start there is no last good state: what a file with a mistake in it wants is not
            // known, and it may be a policy that denies. Proxies keep what they have meanwhile.
            if !ready && complaints.iter().any(|complaint| complaint.severity == Severity::Error) {
                tracing::error!(
                    "nothing is served until every manifest can be read; mend or remove those named"
                );
            } else if !ready {
                send(&updates, Update::Ready).await?;
                ready = true;
            }
            tokio::select! {
                () = bell.notified() => settle(&bell).await,
                () = sleep(again.map_or(poll, |again| again.min(poll))) => {}
                () = updates.closed() => return Err(DirectoryError::NobodyListens),
            }
        }
    }
}

async fn send(updates: &Sender<Update>, update: Update) -> Result<(), DirectoryError> {
    updates.send(update).await.map_err(|_| DirectoryError::NobodyListens)
}

async fn settle(bell: &Notify) {
    // Both ways out are fine: it went quiet, or it has been busy for long enough.
    let _ = timeout(BUSY, async { while timeout(QUIET, bell.notified()).await.is_ok() {} }).await;
}

/// A directory and what it says.
#[derive(Debug)]
struct Directory {
    tree: Tree,
    wanted: Wanted,
    catalog: Catalog,
}

impl Directory {
    fn new(root: PathBuf, wanted: Wanted) -> Self {
        Self { tree: Tree::new(root), wanted, catalog: Catalog::default() }
    }

    /// Brings the catalog up to date with the files. Fails only if the root cannot be listed; what was
    /// read before stays then.
    fn refresh(&mut self, now: SystemTime) -> io::Result<Scan> {
        let mut scan = self.tree.scan(now)?;
        self.catalog.retain(&scan.present);
        for (file, syntax, text) in scan.texts.drain(..) {
            self.catalog.put(&file, Contents::read(&file, manifest::read(&text, syntax), &self.wanted));
        }
        for (path, why) in scan.unreadable.drain(..) {
            self.catalog.keep(&path, why);
        }
        Ok(scan)
    }

    fn unreadable(&self, source: io::Error) -> ReadError {
        ReadError { root: self.tree.root().to_owned(), source }
    }
}

/// Follows a directory over time. All of it blocks, none of it is async.
#[derive(Debug)]
struct Follower {
    directory: Directory,
    alarm: Alarm,
    held: Held,
    /// Whether the directory has been read once.
    started: bool,
}

/// What one look at the directory brought.
struct Step {
    changes: Vec<Change>,
    complaints: Vec<Complaint>,
    /// When to look again at the latest, if there is a reason to.
    again: Option<Duration>,
}

impl Follower {
    fn new(directory: Directory, alarm: Alarm) -> Self {
        Self { directory, alarm, held: Held::default(), started: false }
    }

    /// Takes and returns itself so that it can move to a thread that may block.
    fn step(mut self, now: SystemTime) -> (Self, Result<Step, ReadError>) {
        let step = self.look(now);
        (self, step)
    }

    fn look(&mut self, now: SystemTime) -> Result<Step, ReadError> {
        let (directories, again, lost) = match self.directory.refresh(now) {
            Ok(scan) => (scan.directories, scan.again, None),
            Err(error) if self.started => (BTreeMap::new(), None, Some(self.lost(&error))),
            Err(error) => return Err(self.directory.unreadable(error)),
        };
        self.started = true;
        self.alarm.watch(directories);
        let (objects, mut complaints): (BTreeMap<ObjectRef, Object>, _) = self.directory.catalog.survey();
        complaints.extend(lost);
        complaints.sort();
        let changes = self.held.replace(objects);
        Ok(Step { changes, complaints, again })
    }

    fn lost(&self, error: &io::Error) -> Complaint {
        let message =
            format!("the directory can no longer be read, what it held last stays in force: {error}");
        Complaint::about_file(self.directory.tree.root().to_owned(), message)
    }
}
