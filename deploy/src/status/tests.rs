//! What is written for which live status, and when nothing is.

use proto::Name;
use translate::status::Truth;

use super::*;

const BEFORE: &str = "2026-01-01T00:00:00Z";
const NOW: &str = "2026-02-02T00:00:00Z";

fn object(kind: Kind) -> ObjectRef {
    ObjectRef { kind, namespace: "default".into(), name: "web".into() }
}

fn said(kind: &'static str, truth: Truth, reason: &'static str) -> Condition {
    Condition { kind, truth, reason, message: format!("because of {reason}") }
}

fn status(generation: i64, conditions: Vec<Condition>) -> Status {
    Status { observed_generation: Some(generation), conditions, ..Status::default() }
}

fn applied(kind: Kind, status: &Status) -> Applied {
    Applied::new(&object(kind), Some(status), Classes::Replace).unwrap()
}

/// What is live after `write`, beside what others have there.
fn live(applied: &Applied, now: &str) -> Value {
    applied.write(&json!({}), now).and_then(|write| write.status).unwrap_or(json!({}))
}

fn programmed(truth: Truth, reason: &'static str) -> Condition {
    said("Programmed", truth, reason)
}

#[test]
fn a_status_that_is_there_already_is_not_written() {
    let listener = ListenerStatus {
        name: Name::from("mesh"),
        attached_routes: 2,
        supported_kinds: vec![Kind::HTTPRoute],
        conditions: vec![programmed(Truth::True, "Programmed")],
    };
    let gateway = Status {
        listeners: vec![listener],
        addresses: vec![Address { kind: "IPAddress", value: "10.0.0.1".to_owned() }],
        ..status(3, vec![programmed(Truth::True, "Programmed")])
    };
    let parent = ParentStatus {
        parent_ref: r#"{"kind":"Service","name":"web"}"#.into(),
        conditions: vec![said("Accepted", Truth::True, "Accepted")],
    };
    let route = Status { parents: vec![parent], ..status(3, Vec::new()) };
    let class =
        Status { features: vec!["Mesh"], ..status(1, vec![said("Accepted", Truth::True, "Accepted")]) };
    let policy = status(3, vec![programmed(Truth::True, "Programmed")]);
    for (kind, status) in [
        (Kind::Gateway, gateway),
        (Kind::HTTPRoute, route),
        (Kind::GatewayClass, class),
        (Kind::AuthorizationPolicy, policy),
    ] {
        let applied = applied(kind, &status);
        let live = live(&applied, BEFORE);
        assert_ne!(live, json!({}), "{kind:?} is written once");
        assert_eq!(applied.write(&live, NOW), None, "{kind:?} is written again");
    }
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let applied =
        |truth, reason| applied(Kind::AuthorizationPolicy, &status(3, vec![programmed(truth, reason)]));
    let live = live(&applied(Truth::False, "Pending"), BEFORE);
    let time = |status: &Value| status["conditions"][0]["lastTransitionTime"].clone();
    assert_eq!(time(&live), BEFORE);
    let other_words = applied(Truth::False, "RejectedByProxy").write(&live, NOW).unwrap();
    assert_eq!((time(&other_words.status.unwrap()), other_words.urgency), (BEFORE.into(), Urgency::Now));
    let other_truth = applied(Truth::True, "Programmed").write(&live, NOW).unwrap();
    assert_eq!(time(&other_truth.status.unwrap()), NOW);
}

#[test]
fn a_generation_in_protobufs_form_is_the_same_number() {
    let applied = applied(
        Kind::ServiceEntry,
        &status(3, vec![said("istio.io/WaypointBound", Truth::True, "WaypointAccepted")]),
    );
    let mut live = live(&applied, BEFORE);
    live["conditions"][0]["observedGeneration"] = "3".into();
    live["conditions"][0]["lastProbeTime"] = BEFORE.into();
    assert_eq!(applied.write(&live, NOW), None);
}

#[test]
fn what_is_only_not_confirmed_can_wait_and_a_rejection_cannot() {
    let of = |generation, truth, reason| {
        applied(Kind::AuthorizationPolicy, &status(generation, vec![programmed(truth, reason)]))
    };
    let live = live(&of(3, Truth::True, "Programmed"), BEFORE);
    let urgency = |applied: Applied| applied.write(&live, NOW).map(|write| write.urgency);
    assert_eq!(urgency(of(3, Truth::False, "Pending")), Some(Urgency::IfItLasts));
    assert_eq!(urgency(of(4, Truth::False, "Pending")), Some(Urgency::Now));
    assert_eq!(urgency(of(3, Truth::False, "RejectedByProxy")), Some(Urgency::Now));
    assert_eq!(urgency(of(3, Truth::True, "Programmed")), None);
}

#[test]
fn what_nobody_knows_yet_is_not_written_over_what_was_known() {
    let of = |truth| applied(Kind::AuthorizationPolicy, &status(3, vec![programmed(truth, "Because")]));
    assert_eq!(of(Truth::Unknown).write(&live(&of(Truth::True), BEFORE), NOW), None);
    assert!(of(Truth::Unknown).write(&json!({}), NOW).is_some());
}

#[test]
fn what_is_no_longer_said_goes_and_what_others_say_is_not_ours() {
    let both =
        vec![programmed(Truth::True, "Programmed"), said("FullyEnforced", Truth::False, "UnsupportedValue")];
    let mut live = live(&applied(Kind::AuthorizationPolicy, &status(3, both)), BEFORE);
    let theirs = json!({"type": "ZtunnelAccepted", "status": "True", "reason": "Accepted", "message": ""});
    live["conditions"].as_array_mut().unwrap().push(theirs.clone());

    let one = applied(Kind::AuthorizationPolicy, &status(3, vec![programmed(Truth::True, "Programmed")]));
    let written = one.write(&live, NOW).unwrap();
    assert!(written.exclusive, "Istio's conditions are one value");
    let status = written.status.unwrap();
    let types: Vec<_> = status["conditions"].as_array().unwrap().iter().map(|it| &it["type"]).collect();
    assert_eq!(types, ["ZtunnelAccepted", "Programmed"]);
    assert_eq!(status["conditions"][0], theirs, "word for word");

    let nothing = Applied::new(&object(Kind::AuthorizationPolicy), None, Classes::Replace).unwrap();
    assert_eq!(nothing.write(&live, NOW).unwrap().status, Some(json!({"conditions": [theirs]})));
    live["conditions"].as_array_mut().unwrap().retain(|it| it["type"] == "ZtunnelAccepted");
    assert_eq!(nothing.write(&live, NOW), None);
}

#[test]
fn the_parents_of_other_controllers_are_written_as_they_were_read() {
    let parent = |name: &str, truth| ParentStatus {
        parent_ref: json!({"kind": "Service", "name": name}).to_string().into(),
        conditions: vec![said("Accepted", truth, "Because")],
    };
    let route = |parents| applied(Kind::HTTPRoute, &Status { parents, ..status(3, Vec::new()) });
    let both = route(vec![parent("a", Truth::True), parent("b", Truth::True)]);
    let mut live = live(&both, BEFORE);
    let theirs = json!({
        "parentRef": {"kind": "Gateway", "name": "ingress"}, "controllerName": "istio.io/gateway-controller",
        "conditions": [{"type": "Accepted", "status": "True", "whatever": 1}],
    });
    live["parents"].as_array_mut().unwrap().insert(1, theirs.clone());
    assert_eq!(both.write(&live, NOW), None, "the order of entries says nothing");

    let written = route(vec![parent("b", Truth::False)]).write(&live, NOW).unwrap();
    assert!(written.exclusive);
    let parents = written.status.unwrap()["parents"].clone();
    assert_eq!(parents.as_array().unwrap().len(), 2);
    assert_eq!(parents[0], theirs);
    assert_eq!(parents[1]["controllerName"], CONTROLLER);
    assert_eq!(parents[1]["conditions"][0]["observedGeneration"], 3);

    let nothing = Applied::new(&object(Kind::HTTPRoute), None, Classes::Replace).unwrap();
    assert_eq!(nothing.write(&live, NOW).unwrap().status, Some(json!({"parents": [theirs]})));
    assert_eq!(nothing.write(&json!({"parents": [theirs]}), NOW), None);
}

#[test]
fn an_address_that_was_told_stays_until_there_is_another() {
    let gateway = |addresses: &[&str]| {
        let address = |value: &&str| Address { kind: "IPAddress", value: (*value).to_owned() };
        let addresses = addresses.iter().map(address).collect();
        applied(
            Kind::Gateway,
            &Status { addresses, ..status(3, vec![programmed(Truth::True, "Programmed")]) },
        )
    };
    let live = live(&gateway(&["10.0.0.1"]), BEFORE);
    assert_eq!(gateway(&[]).write(&live, NOW), None);
    let pending = Status { ..status(3, vec![programmed(Truth::False, "Pending")]) };
    let written = applied(Kind::Gateway, &pending).write(&live, NOW).unwrap();
    assert_eq!(written.status.unwrap()["addresses"], live["addresses"]);
    let moved = gateway(&["10.0.0.2"]).write(&live, NOW).unwrap();
    assert_eq!(moved.status.unwrap()["addresses"][0]["value"], "10.0.0.2");
}

#[test]
fn a_gateway_that_is_not_ours_any_more_keeps_nothing_of_ours() {
    let ours = applied(Kind::Gateway, &status(3, vec![programmed(Truth::True, "Programmed")]));
    let mut live = live(&ours, BEFORE);
    let nothing = Applied::new(&object(Kind::Gateway), None, Classes::Replace).unwrap();
    let withdrawn = nothing.write(&live, NOW).unwrap();
    assert_eq!((withdrawn.status, withdrawn.exclusive), (None, true));
    live["conditions"][0]["type"] = "Theirs".into();
    assert_eq!(nothing.write(&live, NOW), None);
    live["addresses"] = json!([{"type": "IPAddress", "value": "10.0.0.1"}]);
    assert_eq!(nothing.write(&live, NOW).unwrap().status, None, "nobody is sent to where nobody is");
}

#[test]
fn beside_istiod_what_it_says_of_waypoints_is_left_to_it() {
    let bound = said("istio.io/WaypointBound", Truth::True, "WaypointAccepted");
    let accepted = said("WaypointAccepted", Truth::True, "Accepted");
    let types = |kind, classes, conditions: Vec<Condition>| -> Vec<Value> {
        let applied = Applied::new(&object(kind), Some(&status(1, conditions)), classes).unwrap();
        let written = applied.status["conditions"].as_array().unwrap().iter();
        written.map(|condition| condition["type"].clone()).collect()
    };
    let service = |classes| types(Kind::Service, classes, vec![bound.clone()]);
    assert_eq!(service(Classes::Replace), ["istio.io/WaypointBound"]);
    assert_eq!(service(Classes::Beside), [""; 0]);
    let policy = |classes| types(Kind::AuthorizationPolicy, classes, vec![accepted.clone()]);
    assert_eq!(policy(Classes::Replace), ["WaypointAccepted"]);
    assert_eq!(policy(Classes::Beside), ["portolan.dev/Accepted"]);
}

#[test]
fn a_message_is_no_longer_than_the_api_takes() {
    let long = Condition { message: "ä".repeat(LONGEST + 1), ..programmed(Truth::False, "RejectedByProxy") };
    let applied = applied(Kind::AuthorizationPolicy, &status(1, vec![long]));
    let message = applied.status["conditions"][0]["message"].as_str().unwrap();
    assert_eq!(message.chars().count(), LONGEST);
    assert!(message.ends_with('…'));
}
