//! Who is answered, and what is asked.

use http::Request;
use proto::{Delta, TypeUrl, Version, envoy};

use super::*;

fn ask(cache: &Cache, path: &str, host: Option<&str>) -> Answer {
    let mut request = Request::get(path);
    if let Some(host) = host {
        request = request.header(HOST, host);
    }
    answer(cache, &request.body(()).unwrap().into_parts().0)
}

fn cache() -> Cache {
    let cache = Cache::new();
    let cluster = envoy::Cluster { name: "web".to_owned(), ..envoy::Cluster::default() };
    let resource = proto::Resource::new(TypeUrl::Cluster, "web", Version(7), &cluster);
    cache.publish(
        &xds::Group("shop/waypoint".into()),
        &Delta { set: vec![Arc::new(resource)], removed: Vec::new() },
    );
    cache
}

#[test]
fn a_waypoint_without_proxies_is_told_of_with_what_is_meant_for_them() {
    let cache = cache();
    let sync = ask(&cache, "/debug/syncz", None);
    assert_eq!(sync.body, r#"{"waypoints":[{"waypoint":"shop/waypoint","proxies":[]}]}"#);
    let dump = ask(&cache, "/debug/config_dump?of=shop/waypoint&type=clusters&bodies", None);
    let dump: ConfigDump = serde_json::from_str(&dump.body).unwrap();
    let [fleet] = dump.waypoints.as_slice() else { panic!("{dump:?}") };
    let [resource] = fleet.resources.as_slice() else { panic!("{fleet:?}") };
    assert_eq!((resource.kind.as_str(), resource.wanted), ("clusters", 0));
    assert_eq!(resource.body, Some(serde_json::json!({"name": "web"})));
    let nobody = ask(&cache, "/debug/config_dump?of=shop/nobody", None);
    assert_eq!((nobody.status, nobody.body.as_str()), (StatusCode::OK, r#"{"waypoints":[]}"#));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let cache = cache();
    for path in ["/debug/config_dump", "/debug/config_dump?of=a&type=wells", "/debug/config_dump?of=a&all=1"]
    {
        assert_eq!(ask(&cache, path, None).status, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(ask(&cache, "/", None).status, StatusCode::NOT_FOUND);
}

#[test]
fn a_page_that_has_us_by_a_name_of_its_own_is_not_answered() {
    let cache = cache();
    for host in [None, Some("localhost:15014"), Some("127.0.0.1:15014"), Some("[::1]:15014")] {
        assert_eq!(ask(&cache, "/debug/syncz", host).status, StatusCode::OK, "{host:?}");
    }
    for host in ["evil.example", "evil.example:15014", "localhost.evil.example", "127.0.0.1.evil.example"] {
        assert_eq!(ask(&cache, "/debug/syncz", Some(host)).status, StatusCode::FORBIDDEN, "{host}");
    }
}

#[tokio::test]
async fn it_listens_nowhere_but_on_loopback() {
    let directory = tempfile::tempdir().unwrap();
    let mut tasks = Tasks::new(tokio_util::sync::CancellationToken::new());
    let told = directory.path().join("debug-address");
    let refused = start(&mut tasks, "0.0.0.0:0".parse().unwrap(), &told, Arc::new(cache()))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("not on loopback"), "{refused}");
    assert!(!told.exists());
}
