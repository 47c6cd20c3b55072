//! The Kubernetes objects that run waypoints, as YAML, for the cases that are about them.

use std::fmt::Write;

use deploy::waypoint::{self, AUDIENCE, IMAGE, Template};
use proto::{
    check,
    kubernetes::{Deployment, HorizontalPodAutoscaler, PodDisruptionBudget, Service, ServiceAccount},
};
use serde_json::Value;
use tests::case::{self, Case};
use translate::{Commit, Installing, Mesh, Settings};

use crate::root;

fn template() -> Template {
    Template {
        image: IMAGE.to_owned(),
        xds: "portolan.portolan-system.svc:15010".parse().unwrap(),
        audience: AUDIENCE.to_owned(),
    }
}

/// The objects that a commit asks for, of every waypoint for which they changed.
fn objects(commit: &Commit) -> Vec<(String, Vec<Value>)> {
    let planned = commit.waypoints.iter();
    let planned = planned.filter_map(|(gateway, plan)| Some((gateway, plan.as_ref()?)));
    let made = planned.map(|(gateway, plan)| match &plan.installing {
        Installing::Ours(installation) => {
            (format!("{gateway}"), waypoint::objects(gateway, plan, installation, &template()).unwrap())
        }
        Installing::Held => (format!("{gateway}: what is there stays"), Vec::new()),
        Installing::Others => (format!("{gateway}: somebody else runs it"), Vec::new()),
    });
    made.collect()
}

fn story(case: &Case) -> String {
    let mut mesh = Mesh::new(Settings::default());
    let mut told = format!("{}\n", case.claim);
    let mut before: Vec<Value> = Vec::new();
    for step in &case.steps {
        let commit = mesh.commit(step.changes());
        let _ = writeln!(told, "\n== {}", step.name);
        for (gateway, objects) in objects(&commit) {
            let _ = writeln!(told, "waypoint {gateway}");
            for object in &objects {
                let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
                if before.contains(object) {
                    let _ = writeln!(told, "--- # {kind} {name}: as before");
                } else {
                    let _ = write!(told, "---\n{}", shown(object, case));
                }
            }
            before = objects;
        }
    }
    told
}

/// What Envoy is started with is long, and shown in one case.
fn shown(object: &Value, case: &Case) -> String {
    let mut object = object.clone();
    if let Some(data) = object.get_mut("data").filter(|_| case.name != "defaults") {
        *data = data.as_object().unwrap().keys().map(|name| (name.clone(), Value::from("..."))).collect();
    }
    serde_saphyr::to_string(&object).unwrap()
}

#[test]
fn every_waypoint_is_run_by_the_objects_of_its_snapshot() {
    let cases = case::all(root()).unwrap();
    let cases: Vec<_> = cases.into_iter().filter(|case| case.folder == "installation").collect();
    assert!(cases.len() > 3, "the cases are not where they are expected");
    for case in cases {
        let mut options = insta::Settings::new();
        options.set_snapshot_path(root().join(&case.folder));
        options.set_prepend_module_to_snapshot(false);
        options.set_omit_expression(true);
        options.bind(|| insta::assert_snapshot!(format!("{}.objects", case.name), story(&case)));
    }
}

/// A field that Kubernetes does not know would be lost on the way, or refused.
#[test]
fn every_field_of_every_object_is_one_that_kubernetes_has() {
    for case in case::all(root()).unwrap() {
        let mut mesh = Mesh::new(Settings::default());
        mesh.commit(case.defaults.iter().map(|edit| edit.change.clone()));
        for step in &case.steps {
            for object in objects(&mesh.commit(step.changes())).into_iter().flat_map(|(_, objects)| objects) {
                let unknown = match object["kind"].as_str().unwrap() {
                    "ConfigMap" => Ok(Vec::new()),
                    "ServiceAccount" => check::<ServiceAccount>(object.clone()),
                    "Deployment" => check::<Deployment>(object.clone()),
                    "Service" => check::<Service>(object.clone()),
                    "HorizontalPodAutoscaler" => check::<HorizontalPodAutoscaler>(object.clone()),
                    "PodDisruptionBudget" => check::<PodDisruptionBudget>(object.clone()),
                    other => panic!("{other}"),
                };
                assert_eq!(unknown, Ok(Vec::new()), "{object:#}");
            }
        }
    }
}
