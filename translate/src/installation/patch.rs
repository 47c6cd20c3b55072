//! Strategic merge patches, as `kubectl patch` has them: checked once, so that applying one cannot fail.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{Part, schema};
use crate::problem::{FieldPath, Problem, Reason};

/// What becomes of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// It goes.
    Remove,
    /// It becomes this.
    Set(Value),
    /// Its fields change.
    Merge {
        /// Of the fields that it has, only these stay (`$retainKeys`); `None` for all.
        retain: Option<BTreeSet<String>>,
        /// What becomes of each.
        fields: BTreeMap<String, Patch>,
    },
    /// Its items change, or come after those that are there.
    MergeList {
        /// The field that tells items apart.
        key: &'static str,
        /// None of the items that are there stay (`$patch: replace`).
        replaces: bool,
        /// What becomes of which.
        items: Vec<Item>,
    },
}

/// One item of a list that is merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The value of its key.
    pub id: Value,
    /// What becomes of it.
    pub patch: Patch,
}

impl Patch {
    /// What becomes of `base`; `None` if nothing is left, as if nothing was there.
    pub fn apply(&self, base: Option<Value>) -> Option<Value> {
        match self {
            Self::Remove => None,
            Self::Set(value) => Some(value.clone()),
            Self::Merge { retain, fields } => {
                let mut map = if let Some(Value::Object(map)) = base { map } else { Map::new() };
                if let Some(retain) = retain {
                    map.retain(|name, _| retain.contains(name));
                }
                for (name, patch) in fields {
                    if let Some(value) = patch.apply(map.remove(name)) {
                        map.insert(name.clone(), value);
                    }
                }
                Some(Value::Object(map))
            }
            Self::MergeList { key, replaces, items } => {
                let mut list = match base {
                    Some(Value::Array(list)) if !replaces => list,
                    Some(_) | None => Vec::new(),
                };
                for Item { id, patch } in items {
                    let place = list.iter().position(|item| item.get(key) == Some(id));
                    let old = place.and_then(|place| list.get(place).cloned());
                    match (place, patch.apply(old)) {
                        (Some(place), Some(new)) => list[place] = new,
                        (Some(place), None) => drop(list.remove(place)),
                        (None, Some(new)) => list.push(new),
                        (None, None) => {}
                    }
                }
                Some(Value::Array(list))
            }
        }
    }
}

/// Reads the patch of a part. `at` is where its text stands. What is wrong with it is said, and then it
/// must not be applied.
pub(super) fn lower(part: Part, patch: &Value, at: &FieldPath, problems: &mut Vec<Problem>) -> Patch {
    let mut reading = Reading { part, problems };
    reading.read(patch, "", at)
}

/// The patch that is being read.
struct Reading<'a> {
    part: Part,
    problems: &'a mut Vec<Problem>,
}

impl Reading<'_> {
    fn refuse(&mut self, at: &FieldPath, message: String) {
        self.problems.push(Problem { at: at.clone(), reason: Reason::Invalid, message });
    }

    /// `path` is where the value stands in the object, without indices; `at` is where it stands for a reader.
    fn read(&mut self, value: &Value, path: &str, at: &FieldPath) -> Patch {
        if schema::is_fixed(self.part, path) {
            self.refuse(
                at,
                "cannot be patched: it is what ties the objects of a waypoint together".to_owned(),
            );
        }
        match value {
            Value::Null => Patch::Remove,
            Value::Object(map) => self.map(map, path, at),
            Value::Array(items) => match schema::merge_key(self.part, path) {
                Some(key) => self.list(items, key, path, at),
                None => Patch::Set(self.plain(value, path, at)),
            },
            Value::Bool(_) | Value::Number(_) | Value::String(_) => Patch::Set(value.clone()),
        }
    }

    fn map(&mut self, map: &Map<String, Value>, path: &str, at: &FieldPath) -> Patch {
        match map.get("$patch") {
            None => {}
            Some(Value::String(directive)) if directive == "merge" => {}
            Some(Value::String(directive)) if directive == "delete" => return Patch::Remove,
            Some(Value::String(directive)) if directive == "replace" => {
                let rest = map.iter().filter(|(name, _)| *name != "$patch");
                let rest: Map<_, _> = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
                return Patch::Set(self.plain(&Value::Object(rest), path, at));
            }
            Some(other) => {
                self.refuse(
                    &at.field("$patch"),
                    format!("{other} is not \"merge\", \"replace\" or \"delete\""),
                );
            }
        }
        let retain = map.get("$retainKeys").map(|keys| {
            let names =
                keys.as_array().into_iter().flatten().map(Value::as_str).collect::<Option<BTreeSet<_>>>();
            let names = names.filter(|_| keys.is_array());
            if names.is_none() {
                self.refuse(&at.field("$retainKeys"), "expected a list of field names".to_owned());
            }
            names.into_iter().flatten().map(str::to_owned).collect()
        });
        let mut fields = BTreeMap::new();
        for (name, value) in map {
            let at = at.field(name);
            if name == "$patch" || name == "$retainKeys" {
                continue;
            }
            if name.starts_with('$') {
                self.refuse(
                    &at,
                    "is not read; leave it out, the order of a list follows from the patch".to_owned(),
                );
                continue;
            }
            fields.insert(name.clone(), self.read(value, &join(path, name), &at));
        }
        Patch::Merge { retain, fields }
    }

    fn list(&mut self, items: &[Value], key: &'static str, path: &str, at: &FieldPath) -> Patch {
        let mut replaces = false;
        let mut read = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = at.index(index);
            let Some(map) = item.as_object() else {
                self.refuse(&at, format!("expected a map with the field {key:?}"));
                continue;
            };
            let id = map.get(key).filter(|id| !id.is_null() && !id.is_object() && !id.is_array());
            match (map.get("$patch").and_then(Value::as_str), id) {
                // The item is nothing but the word, whatever else it says: the list becomes the others.
                (Some("replace"), _) => replaces = true,
                (_, None) => {
                    self.refuse(&at, format!("has no {key:?}, by which it would be found among the others"));
                }
                (_, Some(id)) => {
                    read.push(Item { id: id.clone(), patch: self.map(map, path, &at) });
                }
            }
        }
        Patch::MergeList { key, replaces, items: read }
    }

    /// A value that is taken as it is: without the fields that are null, and without directives, which
    /// would have nothing to direct.
    fn plain(&mut self, value: &Value, path: &str, at: &FieldPath) -> Value {
        match value {
            Value::Object(map) => {
                let mut plain = Map::new();
                for (name, value) in map {
                    let at = at.field(name);
                    let path = join(path, name);
                    if schema::is_fixed(self.part, &path) {
                        self.refuse(
                            &at,
                            "cannot be patched: it is what ties the objects of a waypoint together"
                                .to_owned(),
                        );
                    } else if name.starts_with('$') {
                        self.refuse(
                            &at,
                            "a directive has no meaning in a value that replaces another".to_owned(),
                        );
                    } else if !value.is_null() {
                        plain.insert(name.clone(), self.plain(value, &path, &at));
                    }
                }
                Value::Object(plain)
            }
            Value::Array(items) => Value::Array(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.plain(item, path, &at.index(index)))
                    .collect(),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
