//! The state directory: what Portolan keeps between runs, and how a file is replaced whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use translate::Audience;

use crate::proxy::Endpoint;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    /// The owner alone: it holds a secret.
    Owner,
    /// Everyone who reaches the directory.
    Everyone,
}

/// The state directory.
#[derive(Clone, Debug)]
pub struct StateDirectory(PathBuf);

impl StateDirectory {
    /// Opens the directory, and makes it if it is not there. Its path is absolute from then on: a
    /// bootstrap names files in it, and Envoy may run elsewhere.
    pub fn open(path: &Path) -> io::Result<Self> {
        create_directory(path)?;
        fs::canonicalize(path).map(Self)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The files of a waypoint's proxies.
    pub fn proxies_of(&self, gateway: &Audience) -> PathBuf {
        self.0.join("proxies").join(&*gateway.namespace).join(&*gateway.name)
    }

    /// Where the serving process says how it is reached.
    pub fn xds_address_file(&self) -> PathBuf {
        self.0.join("xds-address")
    }

    /// Where the serving process says how its probes and metrics are reached, if they are.
    pub fn admin_address_file(&self) -> PathBuf {
        self.0.join("admin-address")
    }

    /// Where the serving process says how what it knows of its proxies is reached.
    pub fn debug_address_file(&self) -> PathBuf {
        self.0.join("debug-address")
    }

    /// How the last serving process on this directory was reached; `None` if there was none.
    pub fn xds_address(&self) -> io::Result<Option<Endpoint>> {
        match fs::read_to_string(self.xds_address_file()) {
            Ok(text) => text.trim().parse().map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Writes where something of ours is reached.
pub(crate) fn write_address(path: &Path, address: SocketAddr) -> anyhow::Result<()> {
    replace_file(path, format!("{address}\n").as_bytes(), Readable::Everyone)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a directory and those above it, for the owner alone.
pub fn create_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file so that a reader sees the old content or the new, never a part, whatever happens.
pub fn replace_file(path: &Path, content: &[u8], readable: Readable) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    // Two processes that write the same file must not write into one temporary file.
    temporary_name.push(format!(".{}", std::process::id()));
    let temporary = directory.join(temporary_name);
    let written = write_new(&temporary, content, readable).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error that matters is the first one; a file left behind is replaced next time.
        fs::remove_file(&temporary).ok();
    }
    written?;
    // Without this a power cut may bring the old name back.
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, content: &[u8], readable: Readable) -> io::Result<()> {
    let mode = match readable {
        Readable::Owner => 0o600,
        Readable::Everyone => 0o644,
    };
    // Left over from a process of the same number that was killed. It may be readable to more people.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_content_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for content in ["first", "second"] {
            replace_file(&path, content.as_bytes(), Readable::Owner).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_address_is_absent_until_someone_serves() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(&directory.path().join("a/b")).unwrap();
        assert_eq!(state.xds_address().unwrap(), None);
        replace_file(&state.xds_address_file(), b"[::1]:15010\n", Readable::Everyone).unwrap();
        assert_eq!(state.xds_address().unwrap().unwrap().to_string(), "[::1]:15010");
    }
}
