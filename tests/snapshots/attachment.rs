//! Attachment: which chains a policy governs by its `targetRefs`, and what its status says of that, row
//! by row. AuthorizationPolicy and RequestAuthentication follow the same rules, so every row is asked of
//! both.

use proto::{Object, ObjectRef, TypeUrl, render_any};
use serde_json::{Value, json};
use translate::{Change, Commit, Mesh, status::Condition};

use crate::settings;

const REVIEWS: &str = "app/reviews:80";
const RATINGS: &str = "app/ratings:80";
/// A service of another namespace, behind the waypoint of `app`.
const FAR: &str = "other/reviews:80";
const ENTRY: &str = "app/hosts/ext.example.com:80";
/// A workload at its own address: no service is between.
const DIRECT: &str = "app/pods/reviews-1:8080";
/// Behind a waypoint of the class `portolan-waypoint`.
const MODERN: &str = "modern/reviews:80";

const BOUND: &str = "True Accepted: bound to app/waypoint";
const NOT_READ: &str = "False Invalid: spec.targetRefs[0]";

/// The case of the specification, the policy's namespace and what its `spec` says of targets, the chain
/// that is looked at, whether the policy is in it, and how the status starts.
type Row = (&'static str, &'static str, &'static str, &'static str, bool, Option<&'static str>);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Without targetRefs a policy is ztunnel's, which answers for it too.
    ("AT01", "app", "{}", REVIEWS, false, None),
    ("AT02", "app", "{}", DIRECT, false, None),
    ("AT03", "istio-system", "{}", REVIEWS, false, None),
    ("AT04", "app", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]", REVIEWS, true, Some(BOUND)),
    ("AT05", "app", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]", RATINGS, true, Some(BOUND)),
    ("AT06", "app", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]", DIRECT, true, Some(BOUND)),
    ("AT07", "app", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]", FAR, true, Some(BOUND)),
    ("AT07", "app", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]", ENTRY, true, Some(BOUND)),
    ("AT08", "other", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]", FAR, false, Some("False TargetNotFound: Gateway other/waypoint is not a waypoint of Portolan")),
    ("AT09", "istio-system", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]", REVIEWS, false, Some("False TargetNotFound: Gateway istio-system/waypoint is not a waypoint of Portolan")),
    ("AT10", "app", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: other-gw}]", REVIEWS, false, Some("False TargetNotFound: Gateway app/other-gw is not a waypoint of Portolan")),
    ("AT11", "app", "targetRefs: [{group: '', kind: Gateway, name: waypoint}]", REVIEWS, false, Some(NOT_READ)),
    ("AT12", "app", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint, namespace: app}]", REVIEWS, true, Some(BOUND)),
    ("AT13", "app", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint, namespace: other}]", REVIEWS, false, Some(NOT_READ)),
    ("AT13", "other", "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint, namespace: app}]", FAR, false, Some(NOT_READ)),
    ("AT14", "app", "targetRefs: [{group: '', kind: Service, name: reviews}]", REVIEWS, true, Some(BOUND)),
    ("AT15", "app", "targetRefs: [{group: core, kind: Service, name: reviews}]", REVIEWS, true, Some(BOUND)),
    ("AT16", "app", "targetRefs: [{group: '', kind: Service, name: reviews}]", RATINGS, false, Some(BOUND)),
    ("AT17", "app", "targetRefs: [{group: '', kind: Service, name: reviews}]", DIRECT, false, Some(BOUND)),
    ("AT18", "app", "targetRefs: [{group: '', kind: Service, name: reviews}]", FAR, false, Some(BOUND)),
    ("AT19", "other", "targetRefs: [{group: '', kind: Service, name: reviews}]", FAR, true, Some(BOUND)),
    ("AT20", "istio-system", "targetRefs: [{group: '', kind: Service, name: reviews}]", REVIEWS, false, Some("False TargetNotFound: Service istio-system/reviews was not found")),
    ("AT21", "app", "targetRefs: [{group: '', kind: Service, name: ext}]", ENTRY, false, Some("False TargetNotFound: Service app/ext was not found")),
    ("AT22", "app", "targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: ext}]", ENTRY, true, Some(BOUND)),
    ("AT22", "app", "targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: ext.example.com}]", ENTRY, false, Some("False TargetNotFound: ServiceEntry app/ext.example.com ")),
    ("AT23", "app", "targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: reviews}]", REVIEWS, false, Some("False TargetNotFound: ServiceEntry app/reviews ")),
    ("AT24", "istio-system", "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]", REVIEWS, true, Some("True Accepted: bound to istio-waypoint")),
    ("AT24", "istio-system", "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]", FAR, true, Some("True Accepted: bound to istio-waypoint")),
    ("AT25", "istio-system", "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]", DIRECT, true, Some("True Accepted: bound to istio-waypoint")),
    ("AT26", "app", "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]", REVIEWS, false, Some("False Invalid: a GatewayClass is governed from namespace \"istio-system\" only")),
    ("AT27", "istio-system", "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: my-waypoint-class}]", REVIEWS, false, Some("False Invalid: GatewayClass my-waypoint-class ")),
    // Istio's one class is every waypoint; the class of our own is the waypoints that name it.
    ("AT27", "istio-system", "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: portolan-waypoint}]", MODERN, true, Some("True Accepted: bound to portolan-waypoint")),
    ("AT27", "istio-system", "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: portolan-waypoint}]", REVIEWS, false, Some("True Accepted: bound to portolan-waypoint")),
    ("AT27", "istio-system", "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]", MODERN, true, Some("True Accepted: bound to istio-waypoint")),
    ("AT28", "app", "targetRefs: [{group: '', kind: Service, name: nope}, {group: '', kind: Service, name: reviews}]", REVIEWS, true, Some("True PartiallyInvalid: bound to app/waypoint; Invalid targetRefs: Service app/nope was not found")),
    ("AT28", "app", "targetRefs: [{group: '', kind: Service, name: nope}, {group: '', kind: Service, name: unbound}]", REVIEWS, false, Some("False Invalid: Invalid targetRefs: Service app/nope was not found, Service app/unbound is not bound to a waypoint")),
    ("AT29", "app", "targetRefs: [{group: '', kind: Service, name: nope}]", REVIEWS, false, Some("False TargetNotFound: Service app/nope was not found")),
    ("AT29", "app", "targetRefs: [{group: '', kind: Service, name: unbound}]", REVIEWS, false, Some("False AncestorNotBound: Service app/unbound is not bound to a waypoint")),
    ("AT30", "app", "selector: {matchLabels: {gateway.networking.k8s.io/gateway-name: waypoint}}", REVIEWS, false, None),
    ("AT31", "app", "selector: {matchLabels: {app: reviews}}\ntargetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]", REVIEWS, true, Some("True PartiallyInvalid: bound to app/waypoint; spec.selector: ")),
    ("AT32", "app", "targetRefs: []", REVIEWS, false, None),
    ("AT33", "app", "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}", REVIEWS, true, Some(BOUND)),
    ("AT33", "app", "targetRefs: []\ntargetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}", REVIEWS, true, Some(BOUND)),
    ("AT33", "app", "targetRefs: [{group: '', kind: Service, name: ratings}]\ntargetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}", REVIEWS, false, Some(BOUND)),
    // AT34 asks for Istio's layered mode, which is off by default and which we do not have: with it an
    // ALLOW policy that reads requests denies every CONNECT. That no listener holds a policy is asked of
    // every row.
    // AT35 is about ambient east-west gateways, which we do not serve: no Gateway of theirs is ours.
];

const KEY: &str = r#"{"keys":[{"kty":"EC","kid":"one","crv":"P-256","x":"k23Az5zKO44XwPk1TBo-JUpdLIqJ_LxD6YqzkMTIVro","y":"88MX-b8hvVgEYWxKvHLI2rEPXm_3AzdXizMTkMwTSXY"}]}"#;

/// What the policies of the rows are about.
fn mesh() -> Vec<Value> {
    let waypoint = |namespace: &str, class: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "waypoint", "namespace": namespace, "labels": {"istio.io/waypoint-for": "all"}},
            "spec": {"gatewayClassName": class, "listeners": [{
                "name": "mesh", "port": 15008, "protocol": "HBONE",
                "allowedRoutes": {"namespaces": {"from": "All"}},
            }]},
        })
    };
    let namespace = |name: &str, of: &str| {
        let labels = json!({"istio.io/use-waypoint": "waypoint", "istio.io/use-waypoint-namespace": of});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    };
    let service = |namespace: &str, name: &str, address: &str, labels: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"clusterIP": address, "ports": [{"name": "http", "port": 80}]},
        })
    };
    let pod = |name: &str, address: &str, labels: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "app", "labels": labels},
            "spec": {"containers": [{"name": "main", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": address},
        })
    };
    vec![
        waypoint("app", "istio-waypoint"),
        waypoint("modern", "portolan-waypoint"),
        namespace("app", "app"),
        namespace("other", "app"),
        namespace("modern", "modern"),
        service("app", "reviews", "10.0.0.1", json!({})),
        service("app", "ratings", "10.0.0.2", json!({})),
        service("app", "unbound", "10.0.0.3", json!({"istio.io/use-waypoint": "none"})),
        service("other", "reviews", "10.0.0.4", json!({})),
        service("modern", "reviews", "10.0.0.5", json!({})),
        pod("reviews-1", "10.1.0.1", json!({"app": "reviews"})),
        pod("waypoint-1", "10.1.0.9", json!({"gateway.networking.k8s.io/gateway-name": "waypoint"})),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": {"name": "ext", "namespace": "app"},
            "spec": {
                "hosts": ["ext.example.com"],
                "addresses": ["240.240.0.8"],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "STATIC",
                "endpoints": [{"address": "10.9.0.1"}],
            },
        }),
    ]
}

fn policy(kind: &str, (_, namespace, targets, ..): &Row) -> Value {
    let mut spec: Value = serde_saphyr::from_str(targets).unwrap();
    if kind == "AuthorizationPolicy" {
        spec["action"] = "DENY".into();
        spec["rules"] = json!([{}]);
    } else {
        spec["jwtRules"] = json!([{"issuer": "asked-for", "jwks": KEY}]);
    }
    json!({
        "apiVersion": "security.istio.io/v1", "kind": kind,
        "metadata": {"name": "asked-for", "namespace": namespace},
        "spec": spec,
    })
}

fn change(manifest: Value) -> Change {
    Change::Set(Object::decode(manifest).unwrap().object)
}

/// The routes and the listeners that the policy is in, and those that there are.
fn holders(commit: &Commit) -> (Vec<String>, Vec<String>) {
    let resources = commit.resources.values().flat_map(|delta| &delta.set);
    let judging =
        resources.filter(|resource| matches!(resource.type_url, TypeUrl::Route | TypeUrl::Listener));
    let (mut holding, mut all) = (Vec::new(), Vec::new());
    for resource in judging {
        let body = render_any(&resource.to_any(&proto::Place::default())).unwrap().to_string();
        if body.contains("asked-for") {
            holding.push(resource.name.to_string());
        }
        all.push(resource.name.to_string());
    }
    (holding, all)
}

fn said(commit: &Commit, policy: &ObjectRef) -> Option<String> {
    let status = commit.statuses.get(policy)?.as_ref()?;
    let accepted = status.conditions.iter().find(|condition| condition.kind == "WaypointAccepted");
    let Condition { truth, reason, message, .. } = accepted.unwrap();
    Some(format!("{} {reason}: {message}", truth.as_str()))
}

#[test]
fn a_policy_is_in_the_chains_that_its_targets_say_and_in_no_others() {
    for kind in ["AuthorizationPolicy", "RequestAuthentication"] {
        for row in ROWS {
            let (case, _, _, chain, attached, status) = row;
            let told = change(policy(kind, row));
            let Change::Set(object) = &told else { panic!("{case}: a policy is set") };
            let reference = object.reference();
            let commit = Mesh::new(settings()).commit(mesh().into_iter().map(change).chain([told]));
            let (holding, all) = holders(&commit);
            assert!(all.iter().any(|name| name == chain), "{case}: {chain} is none of {all:?}");
            let found = holding.iter().any(|name| name == chain);
            assert_eq!(found, *attached, "{case} {kind}: {row:?}, and it is in {holding:?}");
            let routes = |name: &String| name.contains('/');
            assert!(holding.iter().all(routes), "{case} {kind}: a listener holds it: {holding:?}");
            let said = said(&commit, &reference);
            let agree = match (&said, status) {
                (Some(said), Some(status)) => said.starts_with(status),
                (said, status) => said.is_none() && status.is_none(),
            };
            assert!(agree, "{case} {kind}: {said:?} is not {status:?}");
        }
    }
}
