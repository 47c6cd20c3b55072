//! What the commits so far add up to: the resources and statuses that are out there.

use std::collections::{BTreeMap, BTreeSet};

use proto::{Name, ObjectRef, TypeUrl, Version, constraints::violations};
use translate::{Audience, Commit, WaypointPlan, status::Status};

pub(crate) type ResourceKey = (Audience, TypeUrl, Name);

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) resources: BTreeMap<ResourceKey, (Version, Vec<u8>)>,
    pub(crate) statuses: BTreeMap<ObjectRef, Status>,
    pub(crate) waypoints: BTreeMap<Audience, WaypointPlan>,
    pub(crate) config_maps: BTreeSet<ObjectRef>,
}

impl State {
    /// Takes a commit in, and asserts that it reported the differences and only them.
    pub(crate) fn apply(&mut self, commit: &Commit) {
        let mut named = BTreeSet::new();
        for (audience, delta) in &commit.resources {
            assert!(!delta.is_empty(), "{audience}: an empty delta was reported");
            for resource in &delta.set {
                let key = (audience.clone(), resource.type_url, resource.name.clone());
                assert!(named.insert(key.clone()), "{key:?} was reported twice");
                let broken = violations(resource.type_url.as_str(), resource.body.plain()).unwrap();
                assert_eq!(broken, [], "{key:?}: Envoy would reject it");
                let old =
                    self.resources.insert(key.clone(), (resource.version, resource.body.plain().to_vec()));
                assert_ne!(
                    old.map(|old| old.0),
                    Some(resource.version),
                    "{key:?} did not change and was reported"
                );
            }
            for (type_url, name) in &delta.removed {
                let key = (audience.clone(), *type_url, name.clone());
                assert!(named.insert(key.clone()), "{key:?} was reported twice");
                assert!(
                    self.resources.remove(&key).is_some(),
                    "{key:?} was removed without having been there"
                );
            }
        }
        for (gateway, plan) in &commit.waypoints {
            match plan {
                Some(plan) => drop(self.waypoints.insert(gateway.clone(), plan.clone())),
                None => drop(self.waypoints.remove(gateway)),
            }
        }
        for (object, wanted) in &commit.config_maps {
            let moved = match wanted {
                true => self.config_maps.insert(object.clone()),
                false => self.config_maps.remove(object),
            };
            assert!(moved, "{object}: it was so before and was reported");
        }
        for (object, said) in &commit.statuses {
            let old = match said {
                Some(said) => self.statuses.insert(object.clone(), said.clone()),
                None => self.statuses.remove(object),
            };
            assert_ne!(old, *said, "{object}: the status did not change and was reported");
        }
    }

    /// Every resource that is out there, with its version.
    pub(crate) fn published(&self) -> impl Iterator<Item = (&Audience, TypeUrl, &Name, Version)> {
        let resources = self.resources.iter();
        resources.map(|((waypoint, type_url, name), (version, _))| (waypoint, *type_url, name, *version))
    }

    /// Versions alone: bodies of equal messages may differ, for protobuf maps have no order.
    pub(crate) fn versions(&self) -> BTreeMap<&ResourceKey, Version> {
        self.resources.iter().map(|(key, (version, _))| (key, *version)).collect()
    }
}
