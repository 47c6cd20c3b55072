//! A kube-apiserver and an etcd: those at hand, or those that Debian's packages give.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use tokio::sync::OnceCell;

use crate::{lab, packaged::cache};

/// The programs, by the names that `setup-envtest` gives them too.
const PROGRAMS: [&str; 2] = ["kube-apiserver", "etcd"];

/// What builds them, relative to the repository.
const SCRIPT: &str = "tests/src/cluster/build-kube-assets.sh";

/// What to do when there are none; ends every error about it.
const ADVICE: &str = "name a folder with kube-apiserver and etcd by $KUBEBUILDER_ASSETS, as \
                      `setup-envtest use -p path` prints one, or run on Debian 12";

/// Finds the folder with both programs: `$KUBEBUILDER_ASSETS`, the user's cache, a build into it, which
/// takes about 5 minutes and 2 GB of scratch space once. Says on stderr which one it took, once per process.
pub async fn find() -> Result<PathBuf> {
    static FOUND: OnceCell<PathBuf> = OnceCell::const_new();
    let found = FOUND.get_or_try_init(async || tokio::task::spawn_blocking(search).await?);
    found.await.cloned()
}

fn search() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) {
        for program in PROGRAMS {
            let path = folder.join(program);
            ensure!(
                path.is_file(),
                "$KUBEBUILDER_ASSETS names a folder without {program}: {}",
                path.display()
            );
        }
        eprintln!("using kube-apiserver and etcd from $KUBEBUILDER_ASSETS: {}", folder.display());
        return Ok(folder);
    }
    let cache = cache()?;
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    let folder = cache.join(format!("kube-apiserver-1.20.2-{}", env::consts::ARCH));
    // Tests run side by side: the first one builds, the others wait here and find it done.
    let lock = File::create(cache.join("kube-apiserver.lock"))?;
    lock.lock().context("locking the cache")?;
    if PROGRAMS.iter().all(|program| folder.join(program).is_file()) {
        eprintln!("using kube-apiserver 1.20.2 and etcd from the cache: {}", folder.display());
        return Ok(folder);
    }
    build(&folder).with_context(|| format!("no kube-apiserver; {ADVICE}"))?;
    Ok(folder)
}

fn build(folder: &Path) -> Result<()> {
    eprintln!("building kube-apiserver 1.20.2 from Debian's source package, once: about 5 minutes");
    let status = Command::new("bash").arg(lab::repository().join(SCRIPT)).arg(folder).status();
    let status = status.context("bash does not start")?;
    ensure!(status.success(), "{SCRIPT} ended with {status}");
    eprintln!("kube-apiserver 1.20.2 and etcd are in {}", folder.display());
    Ok(())
}
