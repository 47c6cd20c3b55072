//! SPIFFE identities of workloads.

use proto::Name;

/// The service account that a workload runs as.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    pub(crate) namespace: Name,
    pub(crate) service_account: Name,
}

impl Identity {
    /// As it stands in the URI SAN of the workload's certificate.
    pub(crate) fn uri(&self, trust_domain: &str) -> String {
        format!("spiffe://{trust_domain}/ns/{}/sa/{}", self.namespace, self.service_account)
    }
}
