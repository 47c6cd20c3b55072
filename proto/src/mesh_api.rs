//! Istio's kinds, decoded only as far as their metadata.
//!
//! The specification stays JSON here and is read field by field in `translate`, where a mistake
//! becomes a problem with a path. A strict type would refuse the whole object for one bad field,
//! and a policy that is refused whole is a policy that is not enforced.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `security.istio.io/v1` AuthorizationPolicy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AuthorizationPolicy {
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The specification as it was written.
    #[serde(default)]
    pub spec: Value,
}

/// `security.istio.io/v1` RequestAuthentication.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestAuthentication {
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The specification as it was written.
    #[serde(default)]
    pub spec: Value,
}

/// `networking.istio.io/v1` ServiceEntry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceEntry {
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The specification as it was written.
    #[serde(default)]
    pub spec: Value,
    /// The addresses that were allocated for its hosts are here.
    #[serde(default)]
    pub status: Value,
}

/// `networking.istio.io/v1` WorkloadEntry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkloadEntry {
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The specification as it was written.
    #[serde(default)]
    pub spec: Value,
    /// What its health checks say is here.
    #[serde(default)]
    pub status: Value,
}

/// A core `v1` ConfigMap: mesh configuration, as Istio's `istio` holds it, or what users want changed of
/// the objects that run their waypoints. No other ConfigMap is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigMap {
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it holds.
    #[serde(default)]
    pub data: ConfigData,
}

/// The keys of a ConfigMap that are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigData {
    /// The mesh configuration, which stands there as the text of a YAML document. A text that is none is
    /// a manifest that cannot be read: whoever follows manifests keeps the last good one.
    #[serde(default, deserialize_with = "document")]
    pub mesh: Value,
    /// For meshes of several networks; not read.
    #[serde(default)]
    pub mesh_networks: Value,
    /// A strategic merge patch of a waypoint's Deployment, as the text of a YAML document; so are those
    /// below, each for the kind of its name. One that is none is the mistake of whoever refers to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Of its Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Of its ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Of its HorizontalPodAutoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizontal_pod_autoscaler: Option<String>,
    /// Of its PodDisruptionBudget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_disruption_budget: Option<String>,
}

impl ConfigData {
    /// The names of the keys that patch the objects of a waypoint.
    pub const PATCHES: [&str; 5] =
        ["deployment", "service", "serviceAccount", "horizontalPodAutoscaler", "podDisruptionBudget"];
}

/// As Istio reads it: YAML 1.1. What it says by aliases is bounded, as nine lines of them can mean a
/// billion values.
fn document<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Value, D::Error> {
    let text = String::deserialize(text)?;
    parse_document(&text).map_err(serde::de::Error::custom)
}

/// Reads the text of a YAML document that stands in a ConfigMap. The error says what is wrong with it.
pub fn parse_document(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 200_000, max_replay_stack_depth: 16 },
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let read = serde_saphyr::from_str_with_options::<Value>(text, options);
    read.map_err(|error| format!("not a YAML document: {}", error.without_snippet()))
}
