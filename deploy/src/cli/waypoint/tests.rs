//! What is printed of waypoints, by what an API server says of them.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{list, live, status};
use crate::cli::format::Shape;

fn gateway(name: &str, class: &str, more: &Value) -> live::Waypoint {
    let mut gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {
            "name": name, "namespace": "shop", "generation": 2, "creationTimestamp": "2026-11-21T10:00:00Z",
        },
        "spec": {"gatewayClassName": class},
    });
    for (field, value) in more.as_object().unwrap() {
        match field.as_str() {
            "labels" => gateway["metadata"]["labels"] = value.clone(),
            field => gateway[field] = value.clone(),
        }
    }
    live::from_json(gateway)
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, generation: i64) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "observedGeneration": generation, "lastTransitionTime": "2026-11-21T10:00:05Z",
    })
}

fn waypoints() -> Vec<live::Waypoint> {
    let taken = "all proxies of the waypoint have it";
    vec![
        gateway("fresh", "istio-waypoint", &json!({})),
        gateway(
            "good",
            "istio-waypoint",
            &json!({
                "labels": {"istio.io/waypoint-for": "all", "istio.io/rev": "canary"},
                "status": {
                    "addresses": [{"type": "IPAddress", "value": "10.96.0.7"}, {"type": "IPAddress", "value": "fd00::7"}],
                    "conditions": [
                        condition("Accepted", "True", "Accepted", "it is a waypoint of ours", 2),
                        condition("Programmed", "True", "Programmed", "2 of 2 waypoint proxies have it", 2),
                    ],
                },
            }),
        ),
        gateway(
            "older",
            "portolan-waypoint",
            &json!({"status": {"conditions": [condition("Programmed", "True", "Programmed", taken, 1)]}}),
        ),
        gateway(
            "refused",
            "portolan-waypoint",
            &json!({"status": {"conditions": [
                condition("Accepted", "False", "InvalidParameters", "there is no ConfigMap shop/p", 2),
                condition("Programmed", "False", "Invalid", "it is not accepted", 2),
            ]}}),
        ),
    ]
}

fn printed(print: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    print(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn waypoints_are_listed_so() {
    let made: SystemTime = waypoints()[0].created.unwrap();
    let now = made + Duration::from_mins(5);
    let told: Vec<String> = [Shape::Table, Shape::Yaml, Shape::Json]
        .map(|shape| printed(|out| list::print(&waypoints()[1..2], shape, now, out).unwrap()))
        .into();
    let all = printed(|out| list::print(&waypoints(), Shape::Table, now, out).unwrap());
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("list", format!("{all}\n{}", told.join("\n")));
    });
}

#[test]
fn what_is_said_of_them_is_told_so() {
    let told = printed(|out| status::print(&waypoints(), Shape::Table, out).unwrap());
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("status", told);
    });
}

#[test]
fn only_what_is_said_of_it_as_it_is_written_now_programs_it() {
    let programmed: Vec<_> = waypoints().iter().map(live::Waypoint::is_programmed).collect();
    assert_eq!(programmed, [false, true, false, false]);
    let why: Vec<_> = waypoints().iter().map(live::Waypoint::why_not).collect();
    assert!(why[0].contains("nobody has written a status"), "{}", why[0]);
    assert!(why[2].contains("said of generation 1, and this is 2"), "{}", why[2]);
    assert!(why[3].starts_with("Accepted is False (InvalidParameters): there is no ConfigMap"), "{}", why[3]);
}
