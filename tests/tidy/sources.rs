//! Rules about the text of a file.

use std::path::Path;

use crate::repository::{assert_none, faults, files, sources, text};

/// More lines than this, and there are two nouns in the file.
const LONGEST: usize = 450;

/// Files that may be longer, each with the reason. Empty is how it should stay.
const LONGER: &[(&str, &str)] = &[];

/// What generated files open with, after the `//!` that every file has.
const GENERATED: &str = "@generated";

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "manager", "handler", "handlers", "context", "misc"];

#[test]
fn every_source_opens_by_saying_what_it_is() {
    let wrong = sources().into_iter().filter(|path| {
        let text = text(path).unwrap_or_default();
        !text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 20)
    });
    let wrong = wrong.map(|path| format!("{}:1: has to be `//!` and a sentence", path.display()));
    assert_none(&wrong.collect::<Vec<_>>());
}

#[test]
fn no_source_is_long() {
    let wrong = sources().into_iter().filter_map(|path| {
        let text = text(&path).unwrap_or_default();
        let lines = text.lines().count();
        let excused = LONGER.iter().any(|(longer, _)| Path::new(longer) == path)
            || text.lines().take(3).any(|line| line.contains(GENERATED));
        let place = path.display();
        (lines > LONGEST && !excused).then(|| format!("{place}:{LONGEST}: {lines} lines; split it by noun"))
    });
    assert_none(&wrong.collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_undone_or_skipped() {
    // Put together here, so that this file does not break its own rule.
    let undone = [concat!("#[", "ignore"), concat!("to", "do!("), concat!("unimple", "mented!(")];
    assert_none(&faults(&sources(), |_, line| {
        let found = undone.iter().find(|needle| line.contains(*needle))?;
        Some(format!("{found}: finish it or leave it out; a skipped test looks like a passed one"))
    }));
}

#[test]
fn nothing_names_a_registry_host_or_a_path_of_one_machine() {
    let hosts = [
        concat!("static.", "crates.io"),
        concat!("index.", "crates.io"),
        concat!("pypi", ".org"),
        concat!("python", "hosted"),
        concat!("proxy.", "golang"),
        concat!("registry.", "npmjs"),
        concat!("ruby", "gems.org"),
        concat!("artifac", "tory"),
    ];
    let paths = [
        concat!("/wo", "rk/"),
        concat!("/fa", "rm/"),
        concat!("/ro", "ot/"),
        concat!("/tmp/", "target"),
        concat!("/tmp/", "w/"),
    ];
    assert_none(&faults(&files(), |_, line| {
        if let Some(host) = hosts.iter().find(|host| line.contains(*host)) {
            return Some(format!("{host}: the ordinary client of the registry knows where it is"));
        }
        let path = paths.iter().find(|path| line.contains(*path))?;
        Some(format!("{path}: a path that other machines do not have"))
    }));
}

#[test]
fn every_name_says_what_is_inside() {
    let mut wrong = Vec::new();
    for path in sources() {
        let names = path.iter().filter_map(|part| part.to_str()).map(|part| part.trim_end_matches(".rs"));
        for name in names.filter(|name| EMPTY_NAMES.contains(name)) {
            wrong.push(format!("{}:1: {name:?} says nothing; name the noun", path.display()));
        }
    }
    wrong.extend(faults(&sources(), |_, line| {
        let (before, name) = line.trim().trim_end_matches([';', '{', ' ']).rsplit_once("mod ")?;
        let declares = before.is_empty() || before.starts_with("pub");
        (declares && EMPTY_NAMES.contains(&name))
            .then(|| format!("module {name:?} says nothing; name the noun"))
    }));
    assert_none(&wrong);
}
