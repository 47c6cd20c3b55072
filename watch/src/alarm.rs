//! Rings when something changes in the directories of a tree. It may ring for nothing and may miss a
//! change, so whoever hears it looks at everything, and looks now and then without it.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

use crate::tree::Identity;

/// Watches directories.
pub(crate) struct Alarm {
    bell: Arc<Notify>,
    /// None if the system has no more watches to give.
    watcher: Option<RecommendedWatcher>,
    /// The directories that we asked to be told of, even if that was refused: asking again at every
    /// scan would not help.
    watched: BTreeMap<PathBuf, Identity>,
}

impl Alarm {
    /// An alarm that rings `bell`. If the system refuses to watch, it never rings.
    pub(crate) fn new(bell: Arc<Notify>) -> Self {
        let ring = Arc::clone(&bell);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if !event.is_ok_and(|event| is_reading(event.kind)) {
                ring.notify_one();
            }
        });
        let watcher = watcher.inspect_err(|error| warn_polling(None, error)).ok();
        Self { bell, watcher, watched: BTreeMap::new() }
    }

    /// Watches `directories` and no others. Each is watched for itself: a recursive watch would not
    /// follow a link that appears later, nor notice that a directory was replaced by another.
    pub(crate) fn watch(&mut self, directories: BTreeMap<PathBuf, Identity>) {
        let Some(watcher) = &mut self.watcher else { return };
        for (path, identity) in &self.watched {
            if directories.get(path) != Some(identity) {
                // It fails for a directory that is gone, which is what we want.
                let _ = watcher.unwatch(path);
            }
        }
        for (path, identity) in &directories {
            if self.watched.get(path) == Some(identity) {
                continue;
            }
            if let Err(error) = watcher.watch(path, RecursiveMode::NonRecursive) {
                warn_polling(Some(path), &error);
            }
            // Something may have changed between the scan that found it and the watch.
            self.bell.notify_one();
        }
        self.watched = directories;
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Alarm").field("watched", &self.watched).finish_non_exhaustive()
    }
}

/// Whether somebody only looked. Our own scans do, and would otherwise cause the next.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn warn_polling(path: Option<&Path>, error: &notify::Error) {
    let path = path.map(Path::display).map(tracing::field::display);
    tracing::warn!(path, %error, "changes of manifests cannot be watched and are polled for instead");
}
