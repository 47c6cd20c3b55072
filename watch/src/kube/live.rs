//! What a server shows of an object's status: for whoever writes statuses, taken before it is trimmed away.

use std::{fmt, sync::Arc};

use proto::{Kind, ObjectRef};
use serde_json::Value;

/// The status of an object as the API server has it, and what is needed for writing it anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// The object's uid: another one of its name is another one.
    pub uid: Box<str>,
    /// Its `resourceVersion`.
    pub version: Box<str>,
    /// The version of the kind's API that it was read in, as in `v1`.
    pub api: Box<str>,
    /// Whether the field manager that was asked about has applied something that is still there.
    pub applied: bool,
    /// Its `status`; null where there is none.
    pub status: Value,
}

impl Live {
    /// Reads what a server gave; `manager` is the field manager that is asked about.
    pub fn of(object: &Value, manager: &str) -> Self {
        let metadata = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().into();
        let mut managers = metadata["managedFields"].as_array().into_iter().flatten();
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        Self {
            uid: text(&metadata["uid"]),
            version: text(&metadata["resourceVersion"]),
            api: api_version.rsplit('/').next().unwrap_or_default().into(),
            applied: managers.any(|entry| entry["manager"] == manager && entry["operation"] == "Apply"),
            status: object["status"].clone(),
        }
    }
}

/// Whom to tell of statuses, and the field manager that they ask about.
#[derive(Clone)]
pub(super) struct Onlooker {
    pub(super) manager: Arc<str>,
    pub(super) look: Arc<dyn Fn(ObjectRef, Option<Live>) + Send + Sync>,
}

impl Onlooker {
    pub(super) fn tell(&self, object: &ObjectRef, live: Option<Live>) {
        (self.look)(object.clone(), live);
    }
}

impl fmt::Debug for Onlooker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Onlooker").field("manager", &self.manager).finish_non_exhaustive()
    }
}

/// Whether somebody may say something in the status of the kind's objects that we read.
pub(super) const fn has_status(kind: Kind) -> bool {
    match kind {
        Kind::Service
        | Kind::GatewayClass
        | Kind::Gateway
        | Kind::HTTPRoute
        | Kind::GRPCRoute
        | Kind::TCPRoute
        | Kind::TLSRoute
        | Kind::ServiceEntry
        | Kind::WorkloadEntry
        | Kind::AuthorizationPolicy
        | Kind::RequestAuthentication => true,
        Kind::Namespace | Kind::EndpointSlice | Kind::Pod | Kind::ConfigMap | Kind::ReferenceGrant => false,
    }
}
