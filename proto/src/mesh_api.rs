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

/// A core `v1` ConfigMap that holds mesh configuration, as Istio's `istio` does. No other ConfigMap is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigMap {
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it holds.
    #[serde(default)]
    pub data: MeshData,
}

/// The keys of that ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MeshData {
    /// The mesh configuration, which stands there as the text of a YAML document. A text that is none is
    /// a manifest that cannot be read: whoever follows manifests keeps the last good one.
    #[serde(default, deserialize_with = "document")]
    pub mesh: Value,
    /// For meshes of several networks; not read.
    #[serde(default, rename = "meshNetworks")]
    pub mesh_networks: Value,
}

/// As Istio reads it: YAML 1.1. What it says by aliases is bounded, as nine lines of them can mean a
/// billion values.
fn document<'de, D: serde::Deserializer<'de>>(text: D) -> Result<Value, D::Error> {
    let options = serde_saphyr::options! {
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 200_000, max_replay_stack_depth: 16 },
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let text = String::deserialize(text)?;
    let read = serde_saphyr::from_str_with_options::<Value>(&text, options);
    read.map_err(|error| {
        serde::de::Error::custom(format!("not a YAML document: {}", error.without_snippet()))
    })
}
