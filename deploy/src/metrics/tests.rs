//! What is counted, read back from the page.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::{Kind, Name, Object, ObjectRef, TypeUrl};
use serde_json::json;
use translate::{
    Change,
    status::{Condition, Status, Truth},
};
use xds::{Group, Observation, StreamId};

use super::*;

fn stream(number: u64) -> Arc<StreamId> {
    Arc::new(StreamId { group: Group("a/waypoint".into()), client: "proxy".into(), number })
}

/// The value of a series; `None` if there is none.
fn value(metrics: &Metrics, series: &str) -> Option<String> {
    let page = metrics.page().unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(str::to_owned)
}

#[test]
fn what_proxies_do_is_counted_by_type() {
    let metrics = Metrics::new(None);
    let nacks = "portolan_nacks_total{type=\"Route\"}";
    assert_eq!(value(&metrics, nacks).as_deref(), Some("0"), "what never happened is seen not to have");
    let sent = Observation::Sent {
        stream: stream(1),
        type_url: TypeUrl::Route,
        resources: 3,
        removed: 1,
        bytes: 900,
    };
    let rejected = Observation::Rejected {
        stream: stream(1),
        type_url: TypeUrl::Route,
        resources: Vec::new(),
        quarantined: true,
        message: String::new(),
    };
    for observation in [sent, rejected] {
        metrics.proxies.observe(&observation);
    }
    assert_eq!(value(&metrics, nacks).as_deref(), Some("1"));
    assert_eq!(value(&metrics, "portolan_resources_set_total{type=\"Route\"}").as_deref(), Some("3"));
    assert_eq!(value(&metrics, "portolan_response_bytes_total{type=\"Route\"}").as_deref(), Some("900"));
    assert_eq!(value(&metrics, "portolan_nacks_total{type=\"Cluster\"}").as_deref(), Some("0"));
}

#[test]
fn a_waypoint_is_shown_while_it_should_run_or_has_proxies() {
    let metrics = Metrics::new(None);
    let connected = || value(&metrics, "portolan_connected_proxies{waypoint=\"a/waypoint\"}");
    let group = Group("a/waypoint".into());
    assert_eq!(connected(), None);
    metrics.proxies.want(&group);
    assert_eq!(connected().as_deref(), Some("0"), "that there is no proxy is worth an alarm");
    metrics.proxies.observe(&Observation::Connected { stream: stream(1), address: None });
    metrics.proxies.observe(&Observation::Connected { stream: stream(2), address: None });
    metrics.proxies.forget(&group);
    metrics.proxies.observe(&Observation::Gone { stream: stream(1), reason: String::new() });
    assert_eq!(connected().as_deref(), Some("1"));
    metrics.proxies.observe(&Observation::Gone { stream: stream(2), reason: String::new() });
    assert_eq!(connected(), None, "it would be there for ever");
}

#[test]
fn a_resource_that_all_proxies_of_a_waypoint_lack_counts_once() {
    let metrics = Metrics::new(None);
    let quarantined = || value(&metrics, "portolan_quarantined_resources{type=\"Route\"}").unwrap();
    let lacks = |number, names: &[&str]| Observation::UpToDate {
        stream: stream(number),
        revision: 1,
        quarantined: names.iter().map(|name| (TypeUrl::Route, Name::from(*name))).collect(),
    };
    metrics.proxies.observe(&lacks(1, &["web:80"]));
    metrics.proxies.observe(&lacks(2, &["web:80", "web:81"]));
    assert_eq!(quarantined(), "2");
    metrics.proxies.observe(&lacks(1, &[]));
    metrics.proxies.observe(&Observation::Gone { stream: stream(2), reason: String::new() });
    assert_eq!(quarantined(), "0");
}

#[test]
fn objects_and_what_is_wrong_with_them_come_and_go() {
    let metrics = Metrics::new(None);
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "a"}});
    let object = Object::decode(service).unwrap().object;
    let reference = object.reference();
    metrics.mesh.change(&[Change::Set(object.clone()), Change::Set(object)]);
    assert_eq!(value(&metrics, "portolan_objects{kind=\"Service\"}").as_deref(), Some("1"));
    let of = |reason| Status {
        conditions: vec![Condition { kind: "Accepted", truth: Truth::False, reason, message: String::new() }],
        ..Status::default()
    };
    let problems = |reason| {
        let series =
            format!("portolan_problems{{kind=\"Service\",condition=\"Accepted\",reason=\"{reason}\"}}");
        value(&metrics, &series)
    };
    metrics.mesh.status(&reference, Some(&of("Bad")));
    metrics.mesh.status(&reference, Some(&of("Bad")));
    assert_eq!(problems("Bad").as_deref(), Some("1"));
    metrics.mesh.status(&reference, Some(&of("Worse")));
    assert_eq!((problems("Bad").as_deref(), problems("Worse").as_deref()), (Some("0"), Some("1")));
    metrics.mesh.status(&reference, None);
    metrics.mesh.change(&[Change::Remove(reference)]);
    assert_eq!(problems("Worse").as_deref(), Some("0"));
    assert_eq!(value(&metrics, "portolan_objects{kind=\"Service\"}").as_deref(), Some("0"));
}

#[test]
fn whether_we_lead_is_shown_where_somebody_does() {
    let metrics = Metrics::new(None);
    assert_eq!(value(&metrics, "portolan_leader"), None);
    let (lead, leads) = tokio::sync::watch::channel(false);
    metrics.process.follow(leads);
    assert_eq!(value(&metrics, "portolan_leader").as_deref(), Some("0"));
    lead.send(true).unwrap();
    assert_eq!(value(&metrics, "portolan_leader").as_deref(), Some("1"));
}

#[test]
fn ends_of_certificates_are_seconds_since_1970() {
    let metrics = Metrics::new(None);
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    metrics.process.expire(at(1_000), at(2_000));
    assert_eq!(value(&metrics, "portolan_certificate_expiry_seconds").as_deref(), Some("1000.0"));
    assert_eq!(value(&metrics, "portolan_ca_expiry_seconds").as_deref(), Some("2000.0"));
}

/// The first column of the table of metrics, as users write them.
fn documented() -> BTreeSet<String> {
    let page = include_str!("../../chart/README.md");
    let names = page.lines().filter_map(|line| line.strip_prefix("| `portolan_")?.split(['`', '{']).next());
    names.map(|name| format!("portolan_{name}")).collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let requests = Requests::default();
    let metrics = Metrics::new(Some(&requests));
    // What is only shown once there is something to show.
    requests.count("list", "pods".to_owned(), "200".to_owned());
    metrics.proxies.want(&Group("a/waypoint".into()));
    let condition =
        Condition { kind: "Accepted", truth: Truth::False, reason: "Bad", message: String::new() };
    let object = ObjectRef { kind: Kind::Service, namespace: "a".into(), name: "web".into() };
    metrics.mesh.status(&object, Some(&Status { conditions: vec![condition], ..Status::default() }));
    let (_lead, leads) = tokio::sync::watch::channel(true);
    metrics.process.follow(leads);
    let page = metrics.page().unwrap();
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let shown: BTreeSet<String> = types
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect();
    assert_eq!(shown, documented());
}
