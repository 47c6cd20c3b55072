//! A case: a YAML file whose first line is the claim, with steps.
//!
//! ```yaml
//! # A DENY policy on a service is one resource.
//! kind: Service ...
//! --- # step: deny /admin to everyone
//! kind: AuthorizationPolicy ...
//! --- # remove
//! kind: AuthorizationPolicy ...      (only who it is)
//! ```
//!
//! `_defaults.yaml` beside it is there before the first step and is not shown.

use std::{fs, path::Path};

use proto::{Object, ObjectRef};
use serde_json::Value;
use translate::Change;

pub(crate) struct Case {
    pub(crate) folder: String,
    pub(crate) name: String,
    pub(crate) claim: String,
    pub(crate) defaults: Vec<Change>,
    pub(crate) steps: Vec<Step>,
}

pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) changes: Vec<Change>,
}

/// All cases, in the order of their paths.
pub(crate) fn all(root: &Path) -> Vec<Case> {
    let mut folders: Vec<_> = entries(root).into_iter().filter(|path| path.is_dir()).collect();
    folders.sort();
    let mut cases = Vec::new();
    for folder in folders {
        let name = file_name(&folder);
        let shared = root.join("_defaults.yaml");
        let own = folder.join("_defaults.yaml");
        let defaults = if own.exists() { own } else { shared };
        let files =
            entries(&folder).into_iter().filter(|path| path.extension().is_some_and(|end| end == "yaml"));
        let mut files: Vec<_> = files.filter(|path| !file_name(path).starts_with('_')).collect();
        files.sort();
        for file in files {
            cases.push(read(&name, &file, &defaults));
        }
    }
    cases
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn read(folder: &str, file: &Path, defaults: &Path) -> Case {
    let text = fs::read_to_string(file).unwrap();
    let claim = text.lines().next().and_then(|line| line.strip_prefix("# "));
    let claim = claim.unwrap_or_else(|| panic!("{}: the first line has to be the claim", file.display()));
    let defaults = steps(&fs::read_to_string(defaults).unwrap(), defaults);
    Case {
        folder: folder.to_owned(),
        name: file.file_stem().unwrap().to_string_lossy().into_owned(),
        claim: claim.to_owned(),
        defaults: defaults.into_iter().flat_map(|step| step.changes).collect(),
        steps: steps(&text, file),
    }
}

fn steps(text: &str, file: &Path) -> Vec<Step> {
    let mut steps = vec![Step { name: "first".to_owned(), changes: Vec::new() }];
    let mut document = String::new();
    let mut remove = false;
    for line in text.lines().chain(["---"]) {
        let Some(mark) = line.strip_prefix("---") else {
            document.push_str(line);
            document.push('\n');
            continue;
        };
        if document.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let value: Value = serde_saphyr::from_str(&document)
                .unwrap_or_else(|error| panic!("{}: {error}\n{document}", file.display()));
            let change = if remove {
                Change::Remove(ObjectRef::of_manifest(&value).unwrap())
            } else {
                let decoded = Object::decode(value);
                Change::Set(
                    decoded.unwrap_or_else(|error| panic!("{}: {error}\n{document}", file.display())).object,
                )
            };
            steps.last_mut().unwrap().changes.push(change);
        }
        document.clear();
        let mark = mark.trim().trim_start_matches('#').trim();
        remove = mark == "remove" || mark.starts_with("step, remove: ");
        for prefix in ["step: ", "step, remove: "] {
            if let Some(name) = mark.strip_prefix(prefix) {
                steps.push(Step { name: name.to_owned(), changes: Vec::new() });
            }
        }
    }
    steps.retain(|step| !step.changes.is_empty());
    steps
}
