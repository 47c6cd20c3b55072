//! Rules about the manifests of the crates: who may depend on whom, and why.

use std::{fs, path::PathBuf};

use crate::repository::{assert_none, root};

/// What a crate must not depend on, and what that keeps true. A name covers its family: `tokio` is
/// `tokio-util` as well.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "proto",
        &["translate", "watch", "xds", "deploy", "tests", "tokio"],
        "proto is types that others decided, below all the rest",
    ),
    (
        "translate",
        &[
            "watch",
            "xds",
            "deploy",
            "tests",
            "tokio",
            "futures",
            "async-trait",
            "kube",
            "tonic",
            "h2",
            "hyper",
            "reqwest",
            "notify",
            "tracing",
            "log",
            "rand",
            "fastrand",
            "getrandom",
            "uuid",
            "ring",
            "rustls",
            "chrono",
            "time",
            "jiff",
            "anyhow",
        ],
        "translate is a pure function: no clock, network, task, log or chance",
    ),
    ("watch", &["xds", "deploy", "tests", "tonic"], "watch reads the outside world and knows no client"),
    (
        "xds",
        &["translate", "watch", "deploy", "tests", "kube", "k8s-openapi", "gateway-api"],
        "xds knows resources and clients, no Kubernetes and no mesh",
    ),
];

/// A section of a manifest: its header, and the lines below it with their numbers.
struct Section {
    header: String,
    lines: Vec<(usize, String)>,
}

/// A manifest is read by line: what the rules look at is always on a line of its own, and rustfmt's
/// sister for manifests would have it so as well.
fn sections(path: &str) -> Vec<Section> {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut sections = vec![Section { header: String::new(), lines: Vec::new() }];
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if let Some(header) = trimmed.strip_prefix('[').and_then(|line| line.split(']').next()) {
            sections.push(Section { header: header.to_owned(), lines: Vec::new() });
        } else if let Some(section) = sections.last_mut() {
            section.lines.push((number + 1, trimmed.to_owned()));
        }
    }
    sections
}

/// The name of the dependency that a line declares, if it does.
fn dependency(line: &str) -> Option<&str> {
    let name = line.split(['=', '.']).next()?.trim();
    let is_name =
        !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || "-_".contains(char));
    (is_name && line.contains('=')).then_some(name)
}

/// The crates of the workspace.
fn members() -> Vec<String> {
    let sections = sections("Cargo.toml");
    let lines =
        sections.iter().filter(|section| section.header == "workspace").flat_map(|section| &section.lines);
    let line = lines.map(|(_, line)| line).find(|line| line.starts_with("members")).expect("a members line");
    line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn no_crate_knows_what_it_must_not_know() {
    let mut wrong = Vec::new();
    for (member, forbidden, why) in FORBIDDEN {
        let manifest = format!("{member}/Cargo.toml");
        for section in sections(&manifest) {
            // Tests may use what they like; what is built may not.
            let of_the_crate = section.header == "dependencies" || section.header.starts_with("target.");
            for (number, line) in section.lines.iter().filter(|_| of_the_crate) {
                let Some(name) = dependency(line) else { continue };
                let known = |family: &&&str| name == **family || name.starts_with(&format!("{family}-"));
                if forbidden.iter().find(known).is_some() {
                    wrong.push(format!("{manifest}:{number}: {name} is forbidden here: {why}"));
                }
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let lints = |member: &String| {
        let sections = sections(&format!("{member}/Cargo.toml"));
        let section = sections.into_iter().find(|section| section.header == "lints");
        section.is_some_and(|section| section.lines.iter().any(|(_, line)| line == "workspace = true"))
    };
    let wrong = members().into_iter().filter(|member| !lints(member));
    let wrong = wrong.map(|member| format!("{member}/Cargo.toml:1: add `[lints]` with `workspace = true`"));
    assert_none(&wrong.collect::<Vec<_>>());
}

#[test]
fn every_dependency_is_declared_once_for_all_crates() {
    let mut wrong = Vec::new();
    for member in members() {
        let manifest = format!("{member}/Cargo.toml");
        for section in sections(&manifest).iter().filter(|section| section.header.ends_with("dependencies")) {
            for (number, line) in &section.lines {
                let Some(name) = dependency(line).filter(|_| !line.contains("workspace = true")) else {
                    continue;
                };
                wrong.push(format!("{manifest}:{number}: {name} belongs in the table of the root manifest"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_dependency_has_a_reason() {
    let mut wrong = Vec::new();
    for section in sections("Cargo.toml").iter().filter(|section| section.header == "workspace.dependencies")
    {
        // A comment above a group is the reason of everything up to the next empty line.
        let mut reason = false;
        for (number, line) in &section.lines {
            if line.is_empty() {
                reason = false;
            } else if line.starts_with('#') {
                reason = true;
            } else if !reason && !line.contains(" # ") {
                wrong.push(format!(
                    "Cargo.toml:{number}: say beside it or above its group what it is for: {line}"
                ));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_crate_is_a_folder_of_its_name_at_the_top() {
    let mut wrong = Vec::new();
    for member in members() {
        let manifest = PathBuf::from(&member).join("Cargo.toml");
        let named = sections(&manifest.display().to_string()).iter().any(|section| {
            section.header == "package"
                && section.lines.iter().any(|(_, line)| *line == format!("name = {member:?}"))
        });
        if member.contains('/') || !named {
            wrong.push(format!("{}:1: the crate has to have the name of its folder", manifest.display()));
        }
    }
    assert_none(&wrong);
}
