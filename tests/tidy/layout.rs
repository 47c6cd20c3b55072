//! Rules about which files there are.

use std::{os::unix::fs::PermissionsExt, path::Path};

use crate::repository::{assert_none, files, root, sources, text};

#[test]
fn every_filter_and_policy_has_a_snapshot_of_its_name() {
    let files = files();
    let mut wrong = Vec::new();
    for room in ["filter", "policy"] {
        let sources = Path::new("translate/src").join(room);
        let snapshots = Path::new("tests/snapshots").join(room);
        for path in files.iter().filter(|path| path.parent() == Some(&sources)) {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let wanted = snapshots.join(stem).display().to_string();
            let shown = files.iter().any(|file| file.display().to_string().starts_with(&wanted));
            if stem != "mod" && !shown {
                wrong.push(format!("{}:1: show what it does in {wanted}.yaml", path.display()));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn what_any_room_needs_of_a_cluster_is_gathered_for_the_chart() {
    let gathering = Path::new("deploy/src/permissions.rs");
    let gathered = text(gathering).unwrap_or_default();
    let mut wrong = Vec::new();
    for path in sources().into_iter().filter(|path| path.starts_with("deploy/src") && path != gathering) {
        if !text(&path).is_some_and(|text| text.contains("pub fn permissions(")) {
            continue;
        }
        let room =
            path.iter().nth(2).and_then(|room| room.to_str()).unwrap_or_default().trim_end_matches(".rs");
        if !gathered.contains(&format!("{room}::permissions(")) {
            wrong.push(format!("{}:1: {room}::permissions is asked for by nobody", gathering.display()));
        }
    }
    assert_none(&wrong);
}

#[test]
fn continuous_integration_can_be_run() {
    let path = root().join(".ci/run");
    let metadata = path.metadata().expect(".ci/run is missing; `cargo ci` writes it");
    assert_eq!(metadata.permissions().mode() & 0o111, 0o111, ".ci/run:1: has to be executable");
    assert!(files().iter().any(|file| file == Path::new(".ci/run")), ".ci/run:1: has to be tracked");
}

#[test]
fn the_descriptors_of_envoys_api_are_there() {
    let path = root().join("proto/descriptor/envoy-1.40.fds");
    let size = path.metadata().expect("the descriptors are missing").len();
    assert!(size > 500_000, "{}:1: {size} bytes cannot be the whole API", path.display());
}
