//! The manifest files under a directory: which there are, and the text of those that changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, ErrorKind, Read},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::manifest::Syntax;

/// No manifest that a person or a tool keeps in one file is larger.
pub(crate) const LARGEST: u64 = 16 << 20;

/// File systems stamp times with the tick of a clock that stands still for some milliseconds, so a file
/// that changed this recently may change again without a trace. It is read again until it is older.
const TICK: Duration = Duration::from_millis(100);

/// `helm template … > file` empties the file first and fills it when helm is done. A file that was just
/// emptied is taken at its word only after this long.
const EMPTY: Duration = Duration::from_secs(2);

/// A directory, as far as it was read.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    known: BTreeMap<PathBuf, Known>,
}

/// A file that was read.
#[derive(Clone, Copy, Debug)]
struct Known {
    stamp: Stamp,
    /// Whether it had changed so recently that an equal stamp proves nothing.
    recent: bool,
    /// Of its text. It is only compared with the next text of the same file.
    hash: u64,
    empty: bool,
}

/// What a file's metadata say of its content. The change time cannot be set by tools that keep the
/// modification time, such as `cp --preserve` and `tar`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    identity: Identity,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity(u64, u64);

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Files whose text is new or different.
    pub(crate) texts: Vec<(PathBuf, Syntax, String)>,
    /// Files and directories that are there and cannot be read, and why.
    pub(crate) unreadable: Vec<(PathBuf, String)>,
    /// Every file that is there, or may be there in a directory that cannot be read.
    pub(crate) present: BTreeSet<PathBuf>,
    /// Every directory that was listed.
    pub(crate) directories: BTreeMap<PathBuf, Identity>,
    /// When to scan again even if nothing tells of a change.
    pub(crate) again: Option<Duration>,
}

impl Tree {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, known: BTreeMap::new() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Looks at everything and reads what changed since the last time. `now` tells how recent a change
    /// is. Fails only if the root cannot be listed; nothing is forgotten then.
    pub(crate) fn scan(&mut self, now: SystemTime) -> io::Result<Scan> {
        let mut listing = Listing::default();
        listing.walk(&self.root)?;
        let Listing { files, mut scan, seen: _ } = listing;
        for (path, syntax, metadata) in files {
            self.read(path, syntax, &metadata, now, &mut scan);
        }
        for (path, _) in &scan.unreadable {
            scan.present.extend(self.known.keys().filter(|known| known.starts_with(path)).cloned());
            scan.present.insert(path.clone());
            // It has to be read in full when it can be read again, even if it is then the same.
            self.known.remove(path);
        }
        self.known.retain(|path, _| scan.present.contains(path));
        Ok(scan)
    }

    fn read(&mut self, path: PathBuf, syntax: Syntax, metadata: &Metadata, now: SystemTime, scan: &mut Scan) {
        let stamp = Stamp::of(metadata);
        let age = stamp.age(now);
        let recent = age < TICK;
        let known = self.known.get(&path).copied();
        if recent {
            scan.wait_at_most(TICK);
        }
        if known.is_some_and(|known| known.stamp == stamp && !known.recent) {
            scan.present.insert(path);
            return;
        }
        let text = match read_text(&path) {
            Ok(text) => text,
            // It was removed while we looked.
            Err(ReadFailure::Gone) => return,
            Err(ReadFailure::Unreadable(why)) => return scan.unreadable.push((path, why)),
        };
        scan.present.insert(path.clone());
        let empty = text.trim().is_empty();
        if empty && known.is_some_and(|known| !known.empty) && age < EMPTY {
            return scan.wait_at_most(TICK.max(EMPTY.saturating_sub(age)));
        }
        let hash = rapidhash::v3::rapidhash_v3(text.as_bytes());
        self.known.insert(path.clone(), Known { stamp, recent, hash, empty });
        if known.is_none_or(|known| known.hash != hash) {
            scan.texts.push((path, syntax, text));
        }
    }
}

impl Scan {
    fn wait_at_most(&mut self, time: Duration) {
        self.again = Some(self.again.map_or(time, |again| again.min(time)));
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            identity: Identity::of(metadata),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// How long ago the file changed. A change in the future, after the clock was set back, counts as
    /// that far in the past: it must not stay recent until the clock catches up.
    fn age(&self, now: SystemTime) -> Duration {
        let (seconds, nanoseconds) = self.changed;
        let changed = SystemTime::UNIX_EPOCH
            + Duration::new(seconds.try_into().unwrap_or(0), nanoseconds.try_into().unwrap_or(0));
        now.duration_since(changed).unwrap_or_else(|error| error.duration())
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// A walk through a directory, in the order of paths.
#[derive(Default)]
struct Listing {
    files: Vec<(PathBuf, Syntax, Metadata)>,
    scan: Scan,
    /// A file or directory that is reached by two paths is read by the first of them only. This also
    /// ends the walk where a link leads back up.
    seen: BTreeSet<Identity>,
}

impl Listing {
    fn walk(&mut self, directory: &Path) -> io::Result<()> {
        // Before listing: whoever watches must not take a later directory for the one that was listed.
        let identity = Identity::of(&fs::metadata(directory)?);
        let names = visible_names(directory)?;
        self.seen.insert(identity);
        self.scan.directories.insert(directory.to_owned(), identity);
        for name in names {
            self.visit(directory.join(name));
        }
        Ok(())
    }

    fn visit(&mut self, path: PathBuf) {
        let syntax = syntax_of(&path);
        let metadata = match (fs::metadata(&path), syntax) {
            (Ok(metadata), _) => metadata,
            (Err(_), None) => return,
            (Err(error), Some(_)) => return self.note_failure(path, &error),
        };
        if metadata.is_dir() {
            if self.seen.contains(&Identity::of(&metadata)) {
                return;
            }
            if let Err(error) = self.walk(&path) {
                self.note_failure(path, &error);
            }
            return;
        }
        let Some(syntax) = syntax else { return };
        if !metadata.is_file() {
            // Opening a pipe would wait for a writer, for ever.
            let why = "it is not a regular file; remove it or give it another ending".to_owned();
            self.scan.unreadable.push((path, why));
        } else if metadata.len() > LARGEST {
            self.scan.unreadable.push((path, too_large(metadata.len())));
        } else if self.seen.insert(Identity::of(&metadata)) {
            self.files.push((path, syntax, metadata));
        }
    }

    fn note_failure(&mut self, path: PathBuf, error: &io::Error) {
        // What was removed while we looked is gone. A link that leads nowhere is a mistake.
        let gone = error.kind() == ErrorKind::NotFound;
        if gone && fs::symlink_metadata(&path).is_err() {
            return;
        }
        let advice = if gone { "the link leads nowhere" } else { "it cannot be read" };
        self.scan.unreadable.push((path, format!("{advice}: {error}")));
    }
}

/// The names in a directory, sorted. Hidden ones are left out: editors keep their drafts there, and
/// mounted ConfigMaps and Secrets keep `..data` and its targets there, which the visible names link to.
fn visible_names(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !name.as_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn syntax_of(path: &Path) -> Option<Syntax> {
    match path.extension()?.to_str()? {
        "yaml" | "yml" => Some(Syntax::Yaml),
        "json" => Some(Syntax::Json),
        _ => None,
    }
}

enum ReadFailure {
    Gone,
    Unreadable(String),
}

fn read_text(path: &Path) -> Result<String, ReadFailure> {
    let mut bytes = Vec::new();
    // The limit holds here too: a file may grow while it is read.
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(ReadFailure::Gone),
        Err(error) => return Err(ReadFailure::Unreadable(format!("it cannot be read: {error}"))),
        Ok(length) if length as u64 > LARGEST => {
            return Err(ReadFailure::Unreadable(too_large(length as u64)));
        }
        Ok(_) => {}
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        ReadFailure::Unreadable(format!("byte {offset} is not UTF-8; save the file as UTF-8"))
    })
}

fn too_large(length: u64) -> String {
    let (length, largest) = (length.div_ceil(1 << 20), LARGEST >> 20);
    format!("it is {length} MiB large; split it into files of at most {largest} MiB")
}
