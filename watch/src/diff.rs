//! From "everything there is now" to what moved: precise changes, once for all kinds and sources.

use std::collections::{BTreeMap, BTreeSet};

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

/// As [`Held`], for a source that keeps no objects itself: a mark of each, so that a cluster of many pods is
/// in memory once. Equal marks of different objects would hide a change, with a chance of 1 in 2^64.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    marks: BTreeMap<ObjectRef, u64>,
    /// Where an object is written to be marked; kept, as it is written for every event.
    text: Vec<u8>,
}

impl Marks {
    /// Takes `object` as it is now. `None` if it is as it was.
    pub(crate) fn set(&mut self, object: Object) -> Option<Change> {
        let mark = self.mark(&object);
        let old = self.marks.insert(object.reference(), mark);
        (old != Some(mark)).then_some(Change::Set(object))
    }

    /// Forgets the object. `None` if it was not there.
    pub(crate) fn remove(&mut self, object: &ObjectRef) -> Option<Change> {
        self.marks.remove(object).map(|_| Change::Remove(object.clone()))
    }

    /// Forgets every object that is not `there`.
    pub(crate) fn retain(&mut self, there: &BTreeSet<ObjectRef>) -> Vec<Change> {
        let gone = self.marks.extract_if(.., |object, _| !there.contains(object));
        gone.map(|(object, _)| Change::Remove(object)).collect()
    }

    /// Whether the object is there.
    pub(crate) fn contains(&self, object: &ObjectRef) -> bool {
        self.marks.contains_key(object)
    }

    /// Whether nothing is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Maps are sorted in what is written, so the order of labels is no difference.
    fn mark(&mut self, object: &Object) -> u64 {
        self.text.clear();
        // Whatever was read from JSON can be written as JSON; if it could not, it would count as changed.
        let written = serde_json::to_writer(&mut self.text, object);
        debug_assert!(written.is_ok(), "{written:?}");
        rapidhash::v3::rapidhash_v3(&self.text)
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
            Change::Missing(object, _) => format!("why {object} is missing"),
            Change::Seen(seen) => format!("{seen:?}"),
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

    #[test]
    fn marks_tell_the_same_changes() {
        let mut marks = Marks::default();
        let mut take = |objects: BTreeMap<ObjectRef, Object>| {
            let there = objects.keys().cloned().collect();
            let mut changes: Vec<_> = objects.into_values().filter_map(|object| marks.set(object)).collect();
            changes.extend(marks.retain(&there));
            told(&changes)
        };
        take(namespaces(&[("same", "1"), ("edited", "1"), ("gone", "1")]));
        let second = take(namespaces(&[("same", "1"), ("edited", "2"), ("new", "1")]));
        assert_eq!(second, ["set Namespace edited", "set Namespace new", "remove Namespace gone"]);
        assert_eq!(take(namespaces(&[("same", "1"), ("edited", "2"), ("new", "1")])), [""; 0]);
    }
}
