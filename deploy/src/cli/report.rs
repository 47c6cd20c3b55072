//! What `translate` prints: the resources of each waypoint and the statuses of the objects.

use std::collections::{BTreeMap, BTreeSet};

use proto::{Delta, Place, RenderError, Resource};
use serde::Serialize;
use serde_json::Value;
use translate::{Audience, Commit};

use super::statuses::{self, ObjectStatus};

/// A commit, to be printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    waypoints: Vec<Waypoint>,
    statuses: Vec<ObjectStatus>,
}

#[derive(Debug, Serialize)]
struct Waypoint {
    gateway: String,
    /// By the short name of their type, then by their own name.
    resources: BTreeMap<&'static str, Vec<Value>>,
}

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReportError {
    #[error("there is no waypoint {wanted}; {existing}")]
    NoSuchGateway { wanted: Audience, existing: String },
    #[error("{resource:?} cannot be printed: {source}")]
    Render { resource: Box<Resource>, source: RenderError },
}

/// Prepares everything that the first commit of a mesh made, or of one waypoint only, for proxies that
/// stand there.
pub(super) fn report(commit: &Commit, only: Option<&Audience>, place: &Place) -> Result<Report, ReportError> {
    let planned = commit.waypoints.iter().filter_map(|(gateway, plan)| plan.as_ref().map(|_| gateway));
    let mut gateways: BTreeSet<&Audience> = planned.chain(commit.resources.keys()).collect();
    if let Some(wanted) = only {
        if !gateways.contains(wanted) {
            let existing = names(&gateways);
            return Err(ReportError::NoSuchGateway { wanted: wanted.clone(), existing });
        }
        gateways = BTreeSet::from([wanted]);
    }
    let none = Delta::default();
    let waypoint =
        |gateway: &Audience| waypoint(gateway, commit.resources.get(gateway).unwrap_or(&none), place);
    let waypoints = gateways.into_iter().map(waypoint).collect::<Result<_, _>>()?;
    let statuses = commit.statuses.iter();
    let statuses = statuses.filter_map(|(object, status)| Some(statuses::view(object, status.as_ref()?)));
    Ok(Report { waypoints, statuses: statuses.collect() })
}

fn waypoint(gateway: &Audience, delta: &Delta, place: &Place) -> Result<Waypoint, ReportError> {
    let mut sorted: Vec<&Resource> = delta.set.iter().map(AsRef::as_ref).collect();
    sorted.sort_by(|a, b| (a.type_url, &a.name).cmp(&(b.type_url, &b.name)));
    let mut resources = BTreeMap::<_, Vec<_>>::new();
    for resource in sorted {
        let printed = proto::render_any(&resource.to_any(place))
            .map_err(|source| ReportError::Render { resource: Box::new(resource.clone()), source })?;
        resources.entry(resource.type_url.short()).or_default().push(printed);
    }
    Ok(Waypoint { gateway: gateway.to_string(), resources })
}

fn names(gateways: &BTreeSet<&Audience>) -> String {
    if gateways.is_empty() {
        return "there is none at all: a waypoint is a Gateway of gatewayClassName istio-waypoint or portolan-waypoint, or of a class whose controllerName is portolan.dev/waypoint-controller".to_owned();
    }
    let names: Vec<String> = gateways.iter().map(ToString::to_string).collect();
    format!("there are: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::{TypeUrl, Version, envoy};
    use serde_json::json;
    use translate::{Installing, WaypointPlan};

    use super::*;

    fn gateway(name: &str) -> Audience {
        Audience { namespace: "default".into(), name: name.into() }
    }

    fn cluster(name: &str) -> Arc<Resource> {
        let cluster = envoy::Cluster { name: name.to_owned(), ..envoy::Cluster::default() };
        Arc::new(Resource::new(TypeUrl::Cluster, name, Version(1), &cluster))
    }

    fn commit() -> Commit {
        let mut commit = Commit::default();
        let delta = Delta { set: vec![cluster("b"), cluster("a")], removed: Vec::new() };
        commit.resources.insert(gateway("full"), delta);
        for name in ["empty", "full"] {
            commit.waypoints.insert(
                gateway(name),
                Some(WaypointPlan {
                    service_account: name.into(),
                    trust_domain_aliases: Vec::new(),
                    anchors: Arc::default(),
                    installing: Installing::Others,
                }),
            );
        }
        commit
    }

    #[test]
    fn resources_are_sorted_and_a_waypoint_without_any_is_there() {
        let report = serde_json::to_value(report(&commit(), None, &Place::default()).unwrap()).unwrap();
        let expected = json!({
            "waypoints": [
                {"gateway": "default/empty", "resources": {}},
                {"gateway": "default/full", "resources": {"Cluster": [{"name": "a"}, {"name": "b"}]}},
            ],
            "statuses": [],
        });
        assert_eq!(report, expected);
    }

    #[test]
    fn one_waypoint_can_be_asked_for() {
        let only = gateway("full");
        let report =
            serde_json::to_value(report(&commit(), Some(&only), &Place::default()).unwrap()).unwrap();
        assert_eq!(report["waypoints"].as_array().unwrap().len(), 1);
        assert_eq!(report["waypoints"][0]["gateway"], "default/full");
    }

    #[test]
    fn a_waypoint_that_is_not_there_names_those_that_are() {
        let error = report(&commit(), Some(&gateway("fool")), &Place::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no waypoint default/fool; there are: default/empty, default/full"
        );
    }
}
