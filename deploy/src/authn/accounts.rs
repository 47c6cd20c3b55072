//! Which gateways a service account runs: the right of its bearer, and nothing that a proxy says of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::RwLock;
use proto::{Kind, Name, Object};
use translate::{Audience, Change, WaypointPlan};

use super::review::Bearer;
use crate::waypoint::GATEWAY_NAME;

/// What the last commits say of it. Clones are the same table: the event loop writes, the door reads.
#[derive(Clone, Debug, Default)]
pub struct Accounts(Arc<RwLock<Known>>);

#[derive(Debug, Default)]
struct Known {
    account_of: BTreeMap<Audience, Name>,
    /// By namespace and account.
    gateways_of: BTreeMap<(Name, Name), BTreeSet<Audience>>,
    /// The gateway that a pod's label names, by namespace and name of the pod.
    gateway_of_pod: BTreeMap<(Name, Name), Name>,
}

impl Accounts {
    /// The waypoint runs as the account that its plan names; without a plan it is gone.
    pub fn set(&self, gateway: &Audience, plan: Option<&WaypointPlan>) {
        let Known { account_of, gateways_of, .. } = &mut *self.0.write();
        if let Some(before) = account_of.remove(gateway) {
            let key = (gateway.namespace.clone(), before);
            if let Some(gateways) = gateways_of.get_mut(&key) {
                gateways.remove(gateway);
                if gateways.is_empty() {
                    gateways_of.remove(&key);
                }
            }
        }
        if let Some(WaypointPlan { service_account, .. }) = plan {
            account_of.insert(gateway.clone(), service_account.clone());
            let key = (gateway.namespace.clone(), service_account.clone());
            gateways_of.entry(key).or_default().insert(gateway.clone());
        }
    }

    /// Takes in which gateway the pods among these objects are labelled for.
    pub(crate) fn see(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Set(Object::Pod(pod)) => {
                    let metadata = &pod.metadata;
                    let key = |part: &Option<String>| Name::from(part.as_deref().unwrap_or_default());
                    let key = (key(&metadata.namespace), key(&metadata.name));
                    let label = metadata.labels.as_ref().and_then(|labels| labels.get(GATEWAY_NAME));
                    match label {
                        Some(gateway) => {
                            self.0.write().gateway_of_pod.insert(key, gateway.as_str().into());
                        }
                        None => self.forget_pod(&key),
                    }
                }
                Change::Remove(object) if object.kind == Kind::Pod => {
                    self.forget_pod(&(object.namespace.clone(), object.name.clone()));
                }
                Change::Set(_)
                | Change::Remove(_)
                | Change::Keys(..)
                | Change::Hindered(..)
                | Change::Missing(..)
                | Change::Seen(_) => {}
            }
        }
    }

    fn forget_pod(&self, key: &(Name, Name)) {
        // Most pods are none of a waypoint, and whoever only looks disturbs nobody.
        if self.0.read().gateway_of_pod.contains_key(key) {
            self.0.write().gateway_of_pod.remove(key);
        }
    }

    /// The gateways whose proxy the bearer may be. Of a pod that we know, none but the one that its label
    /// names. The error says why there is none, and what to do.
    pub(super) fn gateways(&self, bearer: &Bearer) -> Result<BTreeSet<Audience>, String> {
        let Bearer { namespace, account, pod } = bearer;
        let known = self.0.read();
        let all = known.gateways_of.get(&(namespace.clone(), account.clone())).cloned().unwrap_or_default();
        if all.is_empty() {
            return Err(format!(
                "no waypoint runs as the service account {namespace}/{account}; proxies are those of a Gateway of ours, by default as the account of its name, else as gateway.istio.io/service-account says"
            ));
        }
        let labelled =
            pod.clone().and_then(|pod| known.gateway_of_pod.get(&(namespace.clone(), pod)).cloned());
        let Some(label) = labelled else { return Ok(all) };
        let of_label: BTreeSet<_> = all.into_iter().filter(|gateway| gateway.name == label).collect();
        if of_label.is_empty() {
            return Err(format!(
                "the pod is labelled {GATEWAY_NAME}: {label}, and that Gateway does not run as its service account {namespace}/{account}; correct the label or the account"
            ));
        }
        Ok(of_label)
    }
}

#[cfg(test)]
mod tests {
    use proto::ObjectRef;
    use serde_json::json;
    use translate::{Installing, WaypointPlan};

    use super::*;

    fn gateway(name: &str) -> Audience {
        Audience { namespace: "ns".into(), name: name.into() }
    }

    fn plan(account: &str) -> WaypointPlan {
        WaypointPlan {
            service_account: account.into(),
            trust_domain_aliases: Vec::new(),
            anchors: Arc::default(),
            installing: Installing::Held,
        }
    }

    fn bearer(namespace: &str, account: &str, pod: Option<&str>) -> Bearer {
        Bearer { namespace: namespace.into(), account: account.into(), pod: pod.map(Name::from) }
    }

    fn names(accounts: &Accounts, bearer: &Bearer) -> Vec<String> {
        let gateways = accounts.gateways(bearer).unwrap_or_default();
        gateways.into_iter().map(|gateway| gateway.to_string()).collect()
    }

    #[test]
    fn an_account_has_the_gateways_that_run_as_it_and_no_others() {
        let accounts = Accounts::default();
        accounts.set(&gateway("a"), Some(&plan("shared")));
        accounts.set(&gateway("b"), Some(&plan("shared")));
        accounts.set(&gateway("c"), Some(&plan("c")));
        assert_eq!(names(&accounts, &bearer("ns", "shared", None)), ["ns/a", "ns/b"]);
        assert_eq!(names(&accounts, &bearer("ns", "c", None)), ["ns/c"]);
        assert_eq!(names(&accounts, &bearer("other", "shared", None)), [""; 0]);
        accounts.set(&gateway("b"), Some(&plan("c")));
        accounts.set(&gateway("c"), None);
        assert_eq!(names(&accounts, &bearer("ns", "shared", None)), ["ns/a"]);
        assert_eq!(names(&accounts, &bearer("ns", "c", None)), ["ns/b"]);
        accounts.set(&gateway("a"), None);
        assert_eq!(names(&accounts, &bearer("ns", "shared", None)), [""; 0]);
    }

    #[test]
    fn a_pod_that_is_known_has_the_gateway_of_its_label() {
        let accounts = Accounts::default();
        accounts.set(&gateway("a"), Some(&plan("shared")));
        accounts.set(&gateway("b"), Some(&plan("shared")));
        let pod = |label: &str| {
            let metadata = json!({"name": "p", "namespace": "ns", "labels": {GATEWAY_NAME: label}});
            let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata});
            Change::Set(Object::decode(manifest).unwrap().object)
        };
        let bearer = bearer("ns", "shared", Some("p"));
        assert_eq!(names(&accounts, &bearer), ["ns/a", "ns/b"], "it is not known yet");
        accounts.see(&[pod("b")]);
        assert_eq!(names(&accounts, &bearer), ["ns/b"]);
        accounts.see(&[pod("stranger")]);
        assert!(accounts.gateways(&bearer).unwrap_err().contains("correct the label"));
        let gone = ObjectRef { kind: Kind::Pod, namespace: "ns".into(), name: "p".into() };
        accounts.see(&[Change::Remove(gone)]);
        assert_eq!(names(&accounts, &bearer), ["ns/a", "ns/b"]);
    }
}
