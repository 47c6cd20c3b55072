//! Gateway API's mesh conformance suite, told again: every scenario under its upstream name, through a real Envoy.
//!
//! A scenario is a file in `mesh/`: what it claims, manifests, and as its last document the requests with
//! what has to come back and what the backend has to have received. `_mesh.yaml` is what all of them start
//! from. One lab plays them all, one after another, by replacing one file on disk: so that each is a test
//! of changes as well, and nothing of a scenario may be left in the next.
//!
//! All 23 upstream scenarios are here; [`SCENARIOS`] is the list, and the test prints what became of each.

mod exchange;
mod scenario;

use std::{fs, time::Instant};

use anyhow::{Context, Result, ensure};
use tests::{Lab, lab, lab::Setup};

use exchange::check;
use scenario::Scenario;

/// The names upstream.
const SCENARIOS: [&str; 23] = [
    "MeshBasic",
    "MeshConsumerRoute",
    "MeshFrontend",
    "MeshFrontendHostname",
    "MeshGRPCRouteRequestHeaderModifier",
    "MeshGRPCRouteRequestMirror",
    "MeshGRPCRouteWeight",
    "MeshHTTPRoute303Redirect",
    "MeshHTTPRoute307Redirect",
    "MeshHTTPRoute308Redirect",
    "MeshHTTPRouteMatching",
    "MeshHTTPRouteNamedRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectHostAndStatus",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRequestHeaderModifier",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "MeshHTTPRouteSimpleSameNamespace",
    "MeshHTTPRouteWeight",
    "MeshPorts",
    "MeshTrafficSplit",
];

/// The file that a scenario's manifests are in while it is played.
const FILE: &str = "scenario.yaml";

#[test]
fn every_scenario_of_the_mesh_suite_is_met() -> Result<()> {
    let folder = lab::repository().join("tests/conformance/mesh");
    let setup = Setup::manifests(&fs::read_to_string(folder.join("_mesh.yaml"))?).file(FILE, "");
    lab::test(&setup, async |lab| {
        let mut told = Vec::new();
        let mut failed = 0;
        for name in SCENARIOS {
            let path = folder.join(name).with_extension("yaml");
            let start = Instant::now();
            let outcome = play(lab, &Scenario::read(&path)?).await;
            let took = start.elapsed().as_millis();
            match outcome {
                Ok(()) => told.push(format!("{name:36} passed in {took} ms")),
                Err(error) => {
                    failed += 1;
                    told.push(format!("{name:36} FAILED: {error:#}"));
                }
            }
        }
        let told = told.join("\n");
        eprintln!("{told}");
        ensure!(failed == 0, "{failed} scenarios are not met:\n{told}");
        Ok(())
    })
}

/// A file that nobody plays would look like one that passes.
#[test]
fn every_file_is_a_scenario() -> Result<()> {
    for entry in fs::read_dir(lab::repository().join("tests/conformance/mesh"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "yaml") && !path.ends_with("_mesh.yaml") {
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            ensure!(SCENARIOS.contains(&name), "{name}: no scenario upstream has this name");
            Scenario::read(&path)?;
        }
    }
    Ok(())
}

async fn play(lab: &Lab, scenario: &Scenario) -> Result<()> {
    lab.write(FILE, &scenario.manifests)?;
    for (index, exchange) in scenario.exchanges(lab)?.iter().enumerate() {
        check(lab, exchange)
            .await
            .with_context(|| format!("request {} ({}) of {:?}", index + 1, exchange.ask, scenario.claim))?;
    }
    Ok(())
}
