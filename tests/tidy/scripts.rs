//! Rules about what is not Rust and runs: shell scripts, and the image, which no test here can build.

use std::{fs, path::PathBuf, process::Command};

use tests::{
    demo,
    packaged::{HADOLINT, Packaged, SHELLCHECK},
};

use crate::repository::{assert_none, files, root, text};

const DOCKERFILE: &str = "deploy/image/Dockerfile";
const KIND: &str = "deploy/kind/demo.sh";

/// What a program has to say of files, if anything.
fn read_by(program: &Packaged, arguments: &[&str], files: &[PathBuf]) -> Vec<String> {
    let path = program.find().expect("the program can be fetched");
    let output = Command::new(path).args(arguments).args(files).current_dir(root()).output();
    let output = output.expect("the program starts");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).lines().map(str::to_owned).collect();
    if output.status.success() { Vec::new() } else { said }
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn shell_scripts_do_what_they_seem_to_and_stop_at_the_first_failure() {
    let first = |path: &PathBuf| text(path).and_then(|text| text.lines().next().map(str::to_owned));
    let is_shell =
        |path: &PathBuf| first(path).is_some_and(|line| line.starts_with("#!") && line.ends_with("sh"));
    let scripts: Vec<_> = files().into_iter().filter(is_shell).collect();
    assert!(scripts.len() >= 3, "only {scripts:?} are shell scripts");
    let careless =
        scripts.iter().filter(|path| !text(path).is_some_and(|it| it.contains("\nset -euo pipefail\n")));
    let mut wrong: Vec<_> =
        careless.map(|path| format!("{}:1: has to `set -euo pipefail`", path.display())).collect();
    wrong.extend(read_by(&SHELLCHECK, &["--format=gcc"], &scripts));
    assert_none(&wrong);
}

#[test]
fn the_image_is_nothing_but_the_binary_run_by_nobody() {
    assert_none(&read_by(&HADOLINT, &["--no-color"], &[DOCKERFILE.into()]));
    let text = read(DOCKERFILE);
    let stage = text.rsplit_once("\nFROM ").map(|(_, stage)| stage.to_owned()).unwrap_or_default();
    let lines: Vec<&str> = stage.lines().collect();
    assert_eq!(lines.first(), Some(&"scratch"));
    assert!(lines.contains(&"USER 65532:65532"), "a kubelet can tell only of a number that it is not root");
    let copied = lines.iter().filter(|line| line.starts_with("COPY ")).count();
    assert_eq!(copied, 2, "the binary and the roots of authorities");
    let roots = lines.iter().find_map(|line| line.strip_prefix("ENV SSL_CERT_FILE="));
    let roots = roots.expect("where the roots are");
    assert!(stage.contains(&format!(" {roots}\n")), "{roots} is not copied");
    assert!(text.contains("xx-verify --static /portolan"), "there is no libc to link with");
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'));
    let version = version.expect("a version of Rust");
    assert!(text.contains(&format!(" rust:{version}-alpine")), "the manifest asks for Rust {version}");
}

#[test]
fn the_demo_in_kind_sends_the_requests_of_the_demo() {
    let text = read(KIND);
    let sent = text
        .lines()
        .map(str::trim)
        .filter(|line| line.split_once(' ').is_some_and(|(word, _)| word == "expect" || word == "spread"));
    assert_eq!(sent.collect::<Vec<_>>(), demo::requests());
}
