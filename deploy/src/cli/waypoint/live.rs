//! Waypoints as an API server has them.

use std::{collections::BTreeMap, time::SystemTime};

use anyhow::anyhow;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
};
use serde::{Deserialize, Serialize};
#[cfg(test)]
use serde_json::Value;

use crate::waypoint::CONTROLLER;

/// As whom we set fields, apart from what the control plane sets.
pub(super) const FIELD_MANAGER: &str = "portolan-cli";

const FOR: &str = "istio.io/waypoint-for";
const REVISION: &str = "istio.io/rev";
/// What a waypoint is for that does not say.
const SERVICE: &str = "service";

/// A waypoint.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Waypoint {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) class: String,
    /// Which traffic it takes, by its own label or its class's.
    #[serde(rename = "for")]
    pub(super) traffic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<String>,
    pub(super) generation: i64,
    /// Whether the proxies have it as it is written now: `True`, `False` or `Unknown`.
    pub(super) programmed: String,
    pub(super) addresses: Vec<String>,
    pub(super) conditions: Vec<Condition>,
    /// When it was made.
    #[serde(skip)]
    pub(super) created: Option<SystemTime>,
    /// The same, for programs (RFC 3339).
    #[serde(rename = "created", skip_serializing_if = "Option::is_none")]
    pub(super) created_at: Option<String>,
}

/// What is said of one aspect of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) observed_generation: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_transition_time: Option<String>,
}

/// The Gateways of a namespace, or of all.
pub(super) fn gateways(client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = resource("Gateway", "gateways");
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// The waypoints of a namespace, or of all, by namespace and name; of one class, if one is given.
pub(super) async fn waypoints(
    client: &Client,
    namespace: Option<&str>,
    class: Option<&str>,
) -> anyhow::Result<Vec<Waypoint>> {
    let classes = Classes::read(client).await?;
    let list = gateways(client, namespace).list(&ListParams::default()).await.map_err(refused)?;
    let mut waypoints: Vec<_> = list.items.iter().filter_map(|gateway| classes.waypoint(gateway)).collect();
    waypoints.retain(|waypoint| class.is_none_or(|class| waypoint.class == class));
    waypoints.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(waypoints)
}

/// The GatewayClasses of the cluster: their controllers, and what their Gateways are for.
#[derive(Debug, Default)]
pub(super) struct Classes(BTreeMap<String, (String, Option<String>)>);

impl Classes {
    /// Reads them. Who may not is told of the classes that everybody knows.
    pub(super) async fn read(client: &Client) -> anyhow::Result<Self> {
        let classes =
            Api::<DynamicObject>::all_with(client.clone(), &resource("GatewayClass", "gatewayclasses"));
        let listed = match classes.list(&ListParams::default()).await {
            Ok(listed) => listed.items,
            Err(kube::Error::Api(status)) if status.code == 403 => Vec::new(),
            Err(error) => return Err(refused(error)),
        };
        Ok(Self(listed.iter().map(Self::class).collect()))
    }

    fn class(object: &DynamicObject) -> (String, (String, Option<String>)) {
        let controller = object.data["spec"]["controllerName"].as_str().unwrap_or_default();
        (name(object), (controller.to_owned(), label(object, FOR)))
    }

    /// The Gateway as a waypoint, if it is one: of a class of Istio's or of ours.
    pub(super) fn waypoint(&self, gateway: &DynamicObject) -> Option<Waypoint> {
        let class = gateway.data["spec"]["gatewayClassName"].as_str()?;
        let known = self.0.get(class);
        let ours = match known {
            Some((controller, _)) => controller == CONTROLLER || class == "istio-waypoint",
            None => ["istio-waypoint", "portolan-waypoint"].contains(&class),
        };
        if !ours {
            return None;
        }
        let of_class = || known.and_then(|(_, traffic)| traffic.clone());
        let status = &gateway.data["status"];
        let conditions: Vec<Condition> = Deserialize::deserialize(&status["conditions"]).unwrap_or_default();
        let generation = gateway.metadata.generation.unwrap_or_default();
        let addresses = status["addresses"].as_array().into_iter().flatten();
        let created = gateway.metadata.creation_timestamp.as_ref();
        Some(Waypoint {
            namespace: gateway.metadata.namespace.clone().unwrap_or_default(),
            name: name(gateway),
            class: class.to_owned(),
            traffic: label(gateway, FOR).or_else(of_class).unwrap_or_else(|| SERVICE.to_owned()),
            revision: label(gateway, REVISION),
            generation,
            programmed: programmed(&conditions, generation),
            addresses: addresses.filter_map(|one| one["value"].as_str()).map(str::to_owned).collect(),
            conditions,
            created: created.map(|time| time.0.into()),
            created_at: created.map(|time| time.0.to_string()),
        })
    }
}

impl Waypoint {
    /// Whether the proxies have it as it is written now.
    pub(super) fn is_programmed(&self) -> bool {
        self.programmed == "True"
    }

    /// Why it is not programmed, in the words of its status.
    pub(super) fn why_not(&self) -> String {
        let told: Vec<String> = self
            .conditions
            .iter()
            .filter(|condition| condition.status != "True" || condition.is_older_than(self.generation))
            .map(|condition| {
                let Condition { kind, status, reason, .. } = condition;
                format!("{kind} is {status} ({reason}): {}", condition.words(self.generation))
            })
            .collect();
        if !told.is_empty() {
            return told.join("; ");
        }
        format!("nobody has written a status; is a control plane running that has the class {}?", self.class)
    }
}

impl Condition {
    /// Whether it is about the waypoint as it was written before.
    pub(super) fn is_older_than(&self, generation: i64) -> bool {
        self.observed_generation.is_some_and(|observed| observed < generation)
    }

    /// Its message, and whether it is about an older generation.
    pub(super) fn words(&self, generation: i64) -> String {
        match self.observed_generation {
            Some(observed) if observed < generation => {
                format!("(said of generation {observed}, and this is {generation}) {}", self.message)
            }
            Some(_) | None => self.message.clone(),
        }
    }
}

fn programmed(conditions: &[Condition], generation: i64) -> String {
    let said = conditions.iter().find(|condition| condition.kind == "Programmed");
    let said = said.filter(|condition| !condition.is_older_than(generation));
    said.map_or_else(|| "Unknown".to_owned(), |condition| condition.status.clone())
}

/// What the API server said, without what kube says about having been told so.
pub(super) fn refused(error: kube::Error) -> anyhow::Error {
    let kube::Error::Api(status) = error else { return anyhow!(error) };
    if status.code == 404 && status.details.is_none() {
        return anyhow!(
            "the cluster has no gateways.gateway.networking.k8s.io/v1; install the Gateway API there"
        );
    }
    anyhow!(status.message)
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "gateway.networking.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "gateway.networking.k8s.io/v1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

pub(super) fn name(object: &DynamicObject) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

fn label(object: &DynamicObject, label: &str) -> Option<String> {
    object.metadata.labels.as_ref()?.get(label).cloned()
}

/// A waypoint from what the API server prints of one, for tests of what is said of it.
#[cfg(test)]
pub(super) fn from_json(gateway: Value) -> Waypoint {
    let gateway: DynamicObject = serde_json::from_value(gateway).unwrap();
    Classes::default().waypoint(&gateway).unwrap()
}
