//! From "everything there is now" to what moved: precise changes, once for all kinds and sources.

use std::collections::BTreeMap;

use proto::{Object, ObjectRef};
use translate::Change;

/// The objects that a source has told of.
#[derive(Debug, Default)]
pub struct Held {
    objects: BTreeMap<ObjectRef, Object>,
}

impl Held {
    /// Takes `now` as all there is and returns what that changes: each new or different object and
    /// each one that is gone, in the order of their names. Equal objects are no change, so objects
    /// should be [trimmed](crate::trim()) first.
    pub fn replace(&mut self, now: BTreeMap<ObjectRef, Object>) -> Vec<Change> {
        let gone = self.objects.keys().filter(|reference| !now.contains_key(reference));
        let mut changes: Vec<_> = gone.cloned().map(Change::Remove).collect();
        let moved = now.iter().filter(|(reference, object)| self.objects.get(reference) != Some(object));
        changes.extend(moved.map(|(_, object)| Change::Set(object.clone())));
        self.objects = now;
        changes
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn namespaces(labelled: &[(&str, &str)]) -> BTreeMap<ObjectRef, Object> {
        let objects = labelled.iter().map(|(name, label)| {
            let metadata = json!({"name": name, "labels": {"l": label}});
            let value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
            let object = Object::decode(value).unwrap().object;
            (object.reference(), object)
        });
        objects.collect()
    }

    fn told(changes: &[Change]) -> Vec<String> {
        let tell = |change: &Change| match change {
            Change::Set(object) => format!("set {}", object.reference()),
            Change::Remove(reference) => format!("remove {reference}"),
            Change::Keys(source, _) => format!("keys of {source}"),
            Change::Hindered(gateway, _) => format!("hindrances of {gateway}"),
        };
        changes.iter().map(tell).collect()
    }

    #[test]
    fn only_what_moved_is_a_change() {
        let mut held = Held::default();
        let first = held.replace(namespaces(&[("same", "1"), ("edited", "1"), ("gone", "1")]));
        assert_eq!(told(&first), ["set Namespace edited", "set Namespace gone", "set Namespace same"]);
        let second = held.replace(namespaces(&[("same", "1"), ("edited", "2"), ("new", "1")]));
        assert_eq!(told(&second), ["remove Namespace gone", "set Namespace edited", "set Namespace new"]);
        assert_eq!(held.replace(namespaces(&[("same", "1"), ("edited", "2"), ("new", "1")])), []);
    }
}
