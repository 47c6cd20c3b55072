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
}
