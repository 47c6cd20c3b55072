//! The roots that verify us, as a ConfigMap in every namespace with waypoints that we run: their pods mount it.

use std::collections::BTreeMap;

use proto::Name;
use serde_json::{Value, json};
use translate::Audience;

use super::{kinds::Made, live::Key};
use crate::waypoint::{MANAGED, MANAGED_LABEL, ROOT_CONFIG_MAP, ROOT_KEY};

/// What the ConfigMaps say, and whom they are for.
#[derive(Default)]
pub(super) struct Roots {
    /// Until it is said, there is nothing to write.
    pem: Option<String>,
    /// The Gateways whose pods mount them, with their uids.
    gateways: BTreeMap<Audience, Option<String>>,
}

/// The ConfigMap of a namespace.
pub(super) fn key(namespace: &Name) -> Key {
    Key { kind: Made::ConfigMap, namespace: namespace.clone(), name: ROOT_CONFIG_MAP.into() }
}

/// Whether it is one of them.
pub(super) fn is(key: &Key) -> bool {
    key.kind == Made::ConfigMap && &*key.name == ROOT_CONFIG_MAP
}

impl Roots {
    pub(super) fn say(&mut self, pem: String) {
        self.pem = Some(pem);
    }

    /// Pods of the Gateway mount it.
    pub(super) fn need(&mut self, gateway: &Audience, uid: Option<&str>) {
        self.gateways.insert(gateway.clone(), uid.map(str::to_owned));
    }

    /// None does any more.
    pub(super) fn release(&mut self, gateway: &Audience) {
        self.gateways.remove(gateway);
    }

    /// The Gateways in the namespace whose pods mount it.
    pub(super) fn gateways_in<'r>(&'r self, namespace: &'r Name) -> impl Iterator<Item = &'r Audience> {
        self.gateways.keys().filter(move |gateway| gateway.namespace == *namespace)
    }

    /// What is to be in the namespace. All of its Gateways own it, so it goes with the last of them, whether
    /// or not we are there then.
    pub(super) fn config_map(&self, namespace: &Name) -> Option<Value> {
        let pem = self.pem.as_ref()?;
        let mut gateways = self.gateways_in(namespace).peekable();
        gateways.peek()?;
        let owner = |gateway: &Audience| {
            let uid = self.gateways.get(gateway)?.as_ref()?;
            let (name, api) = (&*gateway.name, "gateway.networking.k8s.io/v1");
            Some(json!({"apiVersion": api, "kind": "Gateway", "name": name, "uid": uid}))
        };
        let owners: Vec<Value> = gateways.filter_map(owner).collect();
        Some(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": ROOT_CONFIG_MAP,
                "namespace": **namespace,
                "labels": {MANAGED_LABEL: MANAGED},
                "ownerReferences": owners,
            },
            "data": {ROOT_KEY: pem},
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gateway_of_the_namespace_owns_it_and_without_one_there_is_none() {
        let gateway =
            |namespace: &str, name: &str| Audience { namespace: namespace.into(), name: name.into() };
        let mut roots = Roots::default();
        roots.need(&gateway("ns", "a"), Some("1"));
        assert_eq!(roots.config_map(&"ns".into()), None, "nobody has said what is in it");
        roots.say("PEM".to_owned());
        roots.need(&gateway("ns", "b"), Some("2"));
        roots.need(&gateway("other", "c"), Some("3"));
        let map = roots.config_map(&"ns".into()).unwrap();
        assert_eq!(map["data"][ROOT_KEY], "PEM");
        let owners = map["metadata"]["ownerReferences"].as_array().unwrap();
        assert_eq!(owners.iter().map(|owner| owner["uid"].as_str().unwrap()).collect::<Vec<_>>(), ["1", "2"]);
        roots.release(&gateway("ns", "a"));
        roots.release(&gateway("ns", "b"));
        assert_eq!(roots.config_map(&"ns".into()), None);
    }
}
