//! Snapshots: manifests in; resources, statuses and what moved out. One claim a case, and the oracle
//! over all of them: incremental equals from-scratch.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this target is a test")]

mod attachment;
mod installed;
mod mesh_state;
mod oracle;
mod precedence;
mod referred;
mod render;

use std::path::Path;

use tests::case::{self, Case};
use translate::{Bind, Mesh, Settings};

use crate::mesh_state::State;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"))
}

fn settings() -> Settings {
    Settings { bind: Bind::GatewayAddress, ..Settings::default() }
}

/// Every case, compared with the file beside it. All of them are compared before the test fails.
#[test]
fn every_case_moves_what_its_snapshot_says() {
    let cases = case::all(root()).unwrap();
    assert!(cases.len() > 15, "the cases are not where they are expected");
    let mut failed = Vec::new();
    for case in cases {
        let outcome = std::panic::catch_unwind(|| {
            let mut options = insta::Settings::new();
            options.set_snapshot_path(root().join(&case.folder));
            options.set_prepend_module_to_snapshot(false);
            options.set_omit_expression(true);
            options.bind(|| insta::assert_snapshot!(case.name.as_str(), story(&case)));
        });
        if outcome.is_err() {
            failed.push(format!("{}/{}", case.folder, case.name));
        }
    }
    assert!(failed.is_empty(), "cases that moved: {failed:#?}");
}

/// The claim, then for each step what moved and nothing else.
fn story(case: &Case) -> String {
    let mut mesh = Mesh::new(settings());
    let mut state = State::default();
    state.apply(&mesh.commit(case.defaults.iter().map(|edit| edit.change.clone())));
    let mut told = format!("{}\n", case.claim);
    for step in &case.steps {
        let answers = step.answers.iter().flat_map(|answers| answers.changes(state.published()).unwrap());
        let commit = mesh.commit(step.changes().chain(answers));
        state.apply(&commit);
        let moved = render::commit(&commit, case.name == "infrastructure", case.folder == "mesh");
        told.extend(["\n== ", &step.name, "\n", &moved]);
    }
    told
}
