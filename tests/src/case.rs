//! A case of the snapshots: a YAML file whose first line is the claim, with steps.
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
//! A step may also say what proxies have of what was published before it: [`crate::answers`].
//!
//! `_defaults.yaml` beside it is there before the first step and is not shown. The snapshots show what a
//! case becomes; the corpus of the end-to-end tests shows that Envoy takes it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use proto::{Object, ObjectRef};
use serde_json::Value;
use translate::{Audience, Change, Fetched, Hindrances, KeySet, KeySource, Origin};

use crate::answers::Answers;

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The folder that its file is in.
    pub folder: String,
    /// The name of its file, without the end.
    pub name: String,
    /// What it claims.
    pub claim: String,
    /// What is there before the first step.
    pub defaults: Vec<Edit>,
    /// What happens then.
    pub steps: Vec<Step>,
}

/// Edits that are made at once.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it is about.
    pub name: String,
    /// The edits.
    pub edits: Vec<Edit>,
    /// What proxies have by then of what was there before.
    pub answers: Vec<Answers>,
}

/// One object that is set or removed.
#[derive(Clone, Debug)]
pub struct Edit {
    /// As the mesh is told.
    pub change: Change,
    /// As it is written.
    pub manifest: Value,
}

impl Step {
    /// Its edits as the mesh is told.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        self.edits.iter().map(|edit| edit.change.clone())
    }
}

/// All cases below `root`, in the order of their paths.
pub fn all(root: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for folder in entries(root)?.into_iter().filter(|path| path.is_dir()) {
        let own = folder.join("_defaults.yaml");
        let defaults = if own.exists() { own } else { root.join("_defaults.yaml") };
        let is_case = |path: &PathBuf| {
            path.extension().is_some_and(|end| end == "yaml") && !file_name(path).starts_with('_')
        };
        for file in entries(&folder)?.into_iter().filter(is_case) {
            let case = read(&file_name(&folder), &file, &defaults);
            cases.push(case.with_context(|| format!("reading {}", file.display()))?);
        }
    }
    Ok(cases)
}

/// A document that is no manifest says what came of fetching keys: `keysAt` an address or `keysOf` an
/// issuer, with `jwks`, or a `failure`, or both.
fn key_source(document: &Value) -> Option<KeySource> {
    let text = |name: &str| document[name].as_str().map(str::to_owned);
    text("keysAt").map(KeySource::Uri).or_else(|| text("keysOf").map(KeySource::Issuer))
}

fn fetched(document: &Value) -> Result<Fetched> {
    let read = |text: &str| KeySet::read(text, Origin::Published).map(|(keys, _)| keys);
    let keys = document["jwks"].as_str().map(read).transpose().map_err(|error| anyhow!(error))?;
    Ok(Fetched { keys, failure: document["failure"].as_str().map(str::to_owned) })
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(folder: &str, file: &Path, defaults: &Path) -> Result<Case> {
    let text = fs::read_to_string(file)?;
    let claim = text.lines().next().and_then(|line| line.strip_prefix("# "));
    let claim = claim.context("the first line has to be the claim")?;
    let defaults = steps(&fs::read_to_string(defaults)?).context("its defaults")?;
    Ok(Case {
        folder: folder.to_owned(),
        name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        claim: claim.to_owned(),
        defaults: defaults.into_iter().flat_map(|step| step.edits).collect(),
        steps: steps(&text)?,
    })
}

fn steps(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut step = Step { name: "first".to_owned(), edits: Vec::new(), answers: Vec::new() };
    let mut document = String::new();
    let mut remove = false;
    for line in text.lines().chain(["---"]) {
        let Some(mark) = line.strip_prefix("---") else {
            document.push_str(line);
            document.push('\n');
            continue;
        };
        if document.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let manifest: Value = serde_saphyr::from_str(&document).map_err(|error| anyhow!("{error}"))?;
            match Answers::read(&manifest) {
                Some(answers) => step.answers.push(answers.with_context(|| document.clone())?),
                None => step.edits.push(edit(manifest, remove).with_context(|| document.clone())?),
            }
        }
        document.clear();
        let mark = mark.trim().trim_start_matches('#').trim();
        remove = mark == "remove" || mark.starts_with("step, remove: ");
        let name = mark.strip_prefix("step: ").or_else(|| mark.strip_prefix("step, remove: "));
        if let Some(name) = name {
            let next = Step { name: name.to_owned(), edits: Vec::new(), answers: Vec::new() };
            steps.push(std::mem::replace(&mut step, next));
        }
    }
    steps.push(step);
    steps.retain(|step| !step.edits.is_empty() || !step.answers.is_empty());
    Ok(steps)
}

/// What keeps the objects of a waypoint from being what they should: `kind: Hindrances`, the Gateway's
/// namespace and name, and a list of texts.
fn hindered(manifest: &Value, remove: bool) -> Result<Change> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let name =
        |field: &str| text(&manifest["metadata"][field]).with_context(|| format!("no metadata.{field}"));
    let gateway = Audience { namespace: name("namespace")?.into(), name: name("name")?.into() };
    let texts = manifest["hindrances"].as_array().into_iter().flatten().filter(|_| !remove).filter_map(text);
    Ok(Change::Hindered(gateway, Hindrances(texts.collect())))
}

fn edit(manifest: Value, remove: bool) -> Result<Edit> {
    let change = if let Some(source) = key_source(&manifest) {
        Change::Keys(source, if remove { None } else { Some(fetched(&manifest)?) })
    } else if manifest["kind"] == "Hindrances" {
        hindered(&manifest, remove)?
    } else if remove {
        Change::Remove(ObjectRef::of_manifest(&manifest).context("names no object that is read")?)
    } else {
        Change::Set(Object::decode(manifest.clone())?.object)
    };
    Ok(Edit { change, manifest })
}
