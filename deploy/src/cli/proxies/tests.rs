//! What is printed of proxies, by what the replicas of a control plane say.

use std::time::SystemTime;

use anyhow::anyhow;
use serde_json::{Value, from_value, json};

use super::{config, replicas::Said, status};
use crate::{
    admin::debug::{SyncDump, since},
    cli::{Ending, format::Shape},
};

fn now() -> SystemTime {
    since("2026-11-21T10:05:00Z").unwrap()
}

fn types(routes: &Value) -> Value {
    let synced =
        |kind: &str| json!({"type": kind, "resources": 3, "unsent": 0, "unanswered": 0, "rejected": []});
    json!([
        synced("clusters"),
        synced("endpoints"),
        synced("listeners"),
        synced("scopes"),
        routes,
        synced("secrets")
    ])
}

fn proxy(name: &str, stream: u64, place: [&str; 3], routes: &Value, behind: Option<&str>) -> Value {
    let [region, zone, node] = place;
    let mut proxy = json!({
        "name": name, "stream": stream, "client": "shop/waypoint", "address": "10.1.0.9:40000", "agent": "envoy 1.40.0",
        "region": region, "zone": zone, "node": node, "connected": "2026-11-21T09:00:00Z",
        "syncedAt": "2026-11-21T10:00:00Z", "types": types(routes),
    });
    if let Some(behind) = behind {
        proxy["behindSince"] = behind.into();
    }
    proxy
}

fn routes(unsent: usize, unanswered: usize, rejected: &Value) -> Value {
    json!({"type": "routes", "resources": 9, "unsent": unsent, "unanswered": unanswered, "rejected": rejected})
}

fn sync() -> Vec<Said<SyncDump>> {
    let words = json!([{
        "name": "shop/web:80", "version": "00000000000000aa", "since": "2026-11-21T10:01:00Z",
        "message": "duplicate virtual host \"svc\"",
    }]);
    let good = proxy("waypoint-1", 1, ["eu", "eu-a", "node-1"], &routes(0, 0, &json!([])), None);
    let bad = proxy("waypoint-2", 4, ["", "eu-b", ""], &routes(0, 0, &words), None);
    let slow = proxy("waypoint-3", 2, ["", "", ""], &routes(1, 2, &json!([])), Some("2026-11-21T10:04:50Z"));
    let one = json!({"waypoints": [
        {"waypoint": "bare/waypoint", "proxies": []},
        {"waypoint": "shop/waypoint", "proxies": [slow, good]},
    ]});
    let two = json!({"waypoints": [
        {"waypoint": "bare/waypoint", "proxies": []},
        {"waypoint": "shop/waypoint", "proxies": [bad]},
    ]});
    let said = |replica: &str, answer| Said { replica: replica.to_owned(), answer };
    vec![
        said("portolan-a", Ok(from_value(one).unwrap())),
        said("portolan-b", Ok(from_value(two).unwrap())),
        said("portolan-c", Err(anyhow!("it is not running but Pending"))),
    ]
}

fn printed(print: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    print(&mut out, &mut err);
    format!("{}{}", String::from_utf8(err).unwrap(), String::from_utf8(out).unwrap())
}

#[test]
fn proxies_are_told_of_so() {
    let merged = status::Merged::of(sync(), None).unwrap();
    assert_eq!(merged.ending(), Ending::Lacking);
    let table = printed(|out, err| merged.print(Shape::Table, now(), out, err).unwrap());
    let only =
        status::Merged::of(sync(), Some(&crate::cli::gateway::parse("bare/waypoint").unwrap())).unwrap();
    assert_eq!(only.ending(), Ending::Unanswered);
    let json = printed(|out, err| only.print(Shape::Json, now(), out, err).unwrap());
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("status", format!("{table}\n{json}"));
    });
}

#[test]
fn nobody_who_answers_and_nothing_that_is_there_are_errors() {
    let silent = sync().split_off(2);
    let error = status::Merged::of(silent, None).unwrap_err().to_string();
    assert!(error.contains("no replica") && error.contains("portolan-c: it is not running"), "{error}");
    let gone = crate::cli::gateway::parse("shop/gone").unwrap();
    assert!(status::Merged::of(sync(), Some(&gone)).is_err());
    assert!(config::Merged::of(Vec::new(), "shop/gone", None).is_err());
}

#[test]
fn resources_are_told_of_so() {
    let resource = |kind: &str, name: &str, version: &str, acknowledged: usize, lacking: &Value| {
        json!({
            "type": kind, "name": name, "version": version, "wanted": 1, "acknowledged": acknowledged, "lacking": lacking,
        })
    };
    let mut secret = resource("secrets", "default", "00000000000000cc", 1, &json!([]));
    secret["certificates"] = json!([{
        "uris": ["spiffe://cluster.local/ns/shop/sa/waypoint"], "subject": "", "issuer": "CN=portolan",
        "serial": "0a:1b", "notBefore": "2026-11-21T09:00:00Z", "notAfter": "2026-11-22T09:00:00Z", "authority": false,
    }]);
    let rejects = json!([{"proxy": "waypoint-2", "why": "rejected", "message": "duplicate virtual host"}]);
    let said = |replica: &str, stream: u64, name: &str, acknowledged: usize, lacking: &Value| {
        let mut resources = vec![
            resource("clusters", "web", "00000000000000aa", 1, &json!([])),
            resource("routes", "shop/web:80", "00000000000000bb", acknowledged, lacking),
            secret.clone(),
        ];
        let mut old = resource("scopes", "10.0.0.9:80", "", 0, &json!([{"proxy": name, "why": "unsent"}]));
        old.as_object_mut().unwrap().remove("version");
        resources.push(old);
        let dump = json!({"waypoints": [{
            "waypoint": "shop/waypoint", "proxies": [{"name": name, "stream": stream}], "resources": resources,
        }]});
        Said { replica: replica.to_owned(), answer: Ok(from_value(dump).unwrap()) }
    };
    let both = || {
        vec![
            said("portolan-a", 1, "waypoint-1", 1, &json!([])),
            said("portolan-b", 1, "waypoint-2", 0, &rejects),
        ]
    };
    let merged = config::Merged::of(both(), "shop/waypoint", None).unwrap();
    assert_eq!(merged.ending(), Ending::Lacking);
    let table = printed(|out, err| merged.print(Shape::Table, out, err).unwrap());
    let one = config::Merged::of(both(), "shop/waypoint", Some("default")).unwrap();
    assert_eq!(one.ending(), Ending::Well);
    let yaml = printed(|out, err| one.print(Shape::Yaml, out, err).unwrap());
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("config", format!("{table}\n{yaml}"));
    });
}
