//! What is answered, as both ends of it have it. Fields are added, and none is renamed or taken away.

use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Every proxy, and what it lacks.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct SyncDump {
    pub(crate) waypoints: Vec<FleetSync>,
}

/// The proxies of one waypoint.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct FleetSync {
    /// Its Gateway, as in `shop/waypoint`.
    pub(crate) waypoint: String,
    pub(crate) proxies: Vec<ProxySync>,
}

/// One proxy.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProxySync {
    #[serde(flatten)]
    pub(crate) proxy: ProxyRef,
    /// Who it is by its credentials.
    pub(crate) client: String,
    /// Where it connects from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// Which program it is, as in `envoy 1.40.0`; as it says itself.
    pub(crate) agent: String,
    /// Where it stands: region, zone and node, as far as it says.
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) node: String,
    /// When it connected (RFC 3339).
    pub(crate) connected: String,
    /// Since when it lacks something of what is meant for it, but for what it rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) behind_since: Option<String>,
    /// When it last lacked nothing, but for what it rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) synced_at: Option<String>,
    /// Of each type that there is something of.
    pub(crate) types: Vec<TypeSync>,
}

/// Which proxy.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProxyRef {
    /// Its own name for itself: its pod's.
    pub(crate) name: String,
    /// Its stream, by which two that call themselves the same are told apart.
    pub(crate) stream: u64,
}

/// What a proxy has of one type.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TypeSync {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// How many are meant for it.
    pub(crate) resources: usize,
    /// How many changes of them it was not sent yet.
    pub(crate) unsent: usize,
    /// How many it was sent and has not answered.
    pub(crate) unanswered: usize,
    /// What it does not have because it, or another of its waypoint, has rejected it.
    pub(crate) rejected: Vec<Rejected>,
}

/// A resource that was rejected.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rejected {
    pub(crate) name: String,
    pub(crate) version: String,
    /// What was said of it.
    pub(crate) message: String,
    /// When, if this proxy said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<String>,
}

/// What was asked for, of each waypoint that it is about.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct ConfigDump {
    pub(crate) waypoints: Vec<FleetConfig>,
}

/// The resources of a waypoint, and what of them its proxies have.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct FleetConfig {
    pub(crate) waypoint: String,
    /// Whom it is about.
    pub(crate) proxies: Vec<ProxyRef>,
    pub(crate) resources: Vec<ResourceDump>,
}

/// A resource.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceDump {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    /// As it is published; without one it is no more, and somebody still has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// How many of the proxies ask for it.
    pub(crate) wanted: usize,
    /// How many have acknowledged it.
    pub(crate) acknowledged: usize,
    /// Who has not, and why.
    pub(crate) lacking: Vec<Lack>,
    /// Of a secret: the certificates in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) certificates: Vec<Certificate>,
    /// What it says, in Envoy's own JSON, if that was asked for; without any key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<Value>,
}

/// A proxy that does not have a resource.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Lack {
    pub(crate) proxy: String,
    /// `unsent`, `unanswered` or `rejected`.
    pub(crate) why: String,
    /// What was said, if it was rejected.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
}

/// What everybody may know of a certificate.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Certificate {
    /// The URIs that it gives its bearer: a SPIFFE identity.
    pub(crate) uris: Vec<String>,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// In hexadecimal.
    pub(crate) serial: String,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    /// Whether it may vouch for others.
    pub(crate) authority: bool,
}

/// A time as it is answered: to the millisecond, in UTC (RFC 3339).
pub(crate) fn moment(time: SystemTime) -> String {
    let millis = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let at = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// The time that an answer says; `None` if it is none.
pub(crate) fn since(text: &str) -> Option<SystemTime> {
    text.parse::<Timestamp>().ok().map(SystemTime::from)
}
