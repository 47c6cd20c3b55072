//! Files that hold a secret: read only if nobody else could, written so that nobody else can.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use super::IdentityError;
use crate::state::{Readable, create_directory, replace_file};

/// Nothing that we keep here is larger.
const LARGEST: u64 = 1 << 20;

/// Runs `make` while no other process runs its own on the same state directory. Two that start at the
/// same time must not each make a root and go on with their own.
pub(super) fn in_turn<T>(
    state: &Path,
    make: impl FnOnce() -> Result<T, IdentityError>,
) -> Result<T, IdentityError> {
    make_directory(state)?;
    let path = state.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let lock = lock.map_err(failed("open", &path))?;
    lock.lock().map_err(failed("lock", &path))?;
    // The lock ends when the file is closed, and so with the process too.
    make()
}

/// The content of a file that holds a secret; `None` if it is not there.
pub(super) fn read_secret(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    let Some(file) = open(path)? else { return Ok(None) };
    // Of the open file: a path may lead elsewhere a moment later.
    let mode = file.metadata().map_err(failed("read", path))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode });
    }
    read(file, path).map(Some)
}

/// The content of a file that anyone may read; `None` if it is not there.
pub(super) fn read_public(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    open(path)?.map(|file| read(file, path)).transpose()
}

/// Writes a file that holds a secret, whole, together with the directories above it.
pub(super) fn write_secret(path: &Path, content: &[u8]) -> Result<(), IdentityError> {
    write(path, content, Readable::Owner)
}

/// Writes a file that anyone may read, whole, together with the directories above it.
pub(super) fn write_public(path: &Path, content: &[u8]) -> Result<(), IdentityError> {
    write(path, content, Readable::Everyone)
}

/// Removes a file. That it is not there is fine.
pub(super) fn remove(path: &Path) -> Result<(), IdentityError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn open(path: &Path) -> Result<Option<File>, IdentityError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("open", path)(error)),
    }
}

fn read(file: File, path: &Path) -> Result<Vec<u8>, IdentityError> {
    let mut content = Vec::new();
    file.take(LARGEST).read_to_end(&mut content).map_err(failed("read", path))?;
    Ok(content)
}

fn write(path: &Path, content: &[u8], readable: Readable) -> Result<(), IdentityError> {
    if let Some(directory) = path.parent() {
        make_directory(directory)?;
    }
    replace_file(path, content, readable).map_err(failed("write", path))
}

fn make_directory(path: &Path) -> Result<(), IdentityError> {
    create_directory(path).map_err(failed("create", path))
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> IdentityError {
    move |source| IdentityError::Io { action, path: path.to_owned(), source }
}
