//! What is tracked: the files that the rules are about.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    tests::lab::repository()
}

/// The tracked files that are there, relative to the root, sorted.
pub(crate) fn files() -> Vec<PathBuf> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let output = output.expect("the rules are about tracked files, so git has to be installed");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git ls-files failed; the rules need a checkout: {error}");
    let text = String::from_utf8(output.stdout).expect("a tracked file has a name that is not UTF-8");
    let paths = text.split('\0').filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut files = paths.filter(|path| root().join(path).is_file()).collect::<Vec<_>>();
    files.sort();
    files
}

/// The tracked Rust sources.
pub(crate) fn sources() -> Vec<PathBuf> {
    files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The text of a tracked file; `None` if it is not text.
pub(crate) fn text(path: &Path) -> Option<String> {
    String::from_utf8(fs::read(root().join(path)).expect("a tracked file can be read")).ok()
}

/// Every line of the files that `wrong` finds fault with, as `file:line: fault`.
pub(crate) fn faults(files: &[PathBuf], mut wrong: impl FnMut(&Path, &str) -> Option<String>) -> Vec<String> {
    let mut faults = Vec::new();
    for path in files {
        let text = text(path).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            if let Some(fault) = wrong(path, line) {
                faults.push(format!("{}:{}: {fault}", path.display(), number + 1));
            }
        }
    }
    faults
}

/// Fails with the whole list, so that one run shows everything there is to mend.
pub(crate) fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{} to mend:\n{}", faults.len(), faults.join("\n"));
}
