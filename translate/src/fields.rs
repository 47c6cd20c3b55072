//! Reads an untyped specification field by field: a wrong field is one problem with its path, and
//! the fields around it are read all the same.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::problem::{FieldPath, Problem, Reason};

/// A JSON object of the specification, at its place.
pub(crate) struct Fields<'v> {
    fields: Option<&'v Map<String, Value>>,
    pub(crate) at: FieldPath,
}

/// What was wrong so far.
#[derive(Default)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    pub(crate) fn invalid(&mut self, at: &FieldPath, message: impl Into<String>) {
        self.push(at, Reason::Invalid, message.into());
    }

    pub(crate) fn unsupported(&mut self, at: &FieldPath, message: impl Into<String>) {
        self.push(at, Reason::UnsupportedValue, message.into());
    }

    fn push(&mut self, at: &FieldPath, reason: Reason, message: String) {
        self.0.push(Problem { at: at.clone(), reason, message });
    }
}

impl<'v> Fields<'v> {
    /// The object `value`. Nothing at all is an empty object; anything else is a problem.
    pub(crate) fn read(value: Option<&'v Value>, at: FieldPath, problems: &mut Problems) -> Self {
        let fields = match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(fields)) => Some(fields),
            Some(other) => {
                problems.invalid(&at, format!("expected an object, not {}", kind(other)));
                None
            }
        };
        Self { fields, at }
    }

    /// The field `name`, if it is there and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&'v Value> {
        self.fields?.get(name).filter(|value| !value.is_null())
    }

    /// Every field that is there.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'v str> + use<'v> {
        let fields = self.fields.into_iter().flatten();
        fields.filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str())
    }

    /// A problem for each field that is none of `known`: a misspelt field must not widen a rule.
    pub(crate) fn only(&self, known: &[&str], problems: &mut Problems) {
        for name in self.names().filter(|name| !known.contains(name)) {
            problems
                .unsupported(&self.at.field(name), format!("no such field; known are {}", known.join(", ")));
        }
    }

    /// The string in the field `name`.
    pub(crate) fn string(&self, name: &str, problems: &mut Problems) -> Option<&'v str> {
        let value = self.get(name)?;
        if value.as_str().is_none() {
            problems.invalid(&self.at.field(name), format!("expected a string, not {}", kind(value)));
        }
        value.as_str()
    }

    /// The boolean in the field `name`.
    pub(crate) fn boolean(&self, name: &str, problems: &mut Problems) -> Option<bool> {
        let value = self.get(name)?;
        if value.as_bool().is_none() {
            problems.invalid(&self.at.field(name), format!("expected true or false, not {}", kind(value)));
        }
        value.as_bool()
    }

    /// The items of the list in the field `name`, each with its place; `None` if there is no such field.
    pub(crate) fn list(&self, name: &str, problems: &mut Problems) -> Option<Vec<(&'v Value, FieldPath)>> {
        let at = self.at.field(name);
        let value = self.get(name)?;
        let Some(items) = value.as_array() else {
            problems.invalid(&at, format!("expected a list, not {}", kind(value)));
            return Some(Vec::new());
        };
        Some(items.iter().enumerate().map(|(index, item)| (item, at.index(index))).collect())
    }
}

impl Fields<'_> {
    /// The whole number in the field `name`, if it is in that range.
    pub(crate) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u32>,
        problems: &mut Problems,
    ) -> Option<u32> {
        let value = self.get(name)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (first, last) = (range.start(), range.end());
            problems.invalid(
                &self.at.field(name),
                format!("expected a whole number in {first}..{last}, not {value}"),
            );
        }
        number
    }

    /// The same, where it may be in quotes: to JSON of protobuf both are the same, and Istio's own examples of
    /// mesh configuration write ports in quotes.
    pub(crate) fn number_or_text(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u32>,
        problems: &mut Problems,
    ) -> Option<u32> {
        let text = self.get(name).and_then(Value::as_str);
        let digits = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
        number.or_else(|| self.number(name, range, problems))
    }

    /// The map of strings in the field `name`; a value that is no string is a problem and left out.
    pub(crate) fn strings(&self, name: &str, problems: &mut Problems) -> BTreeMap<String, String> {
        let map = Self::read(self.get(name), self.at.field(name), problems);
        let entries =
            map.names().filter_map(|key| Some((key.to_owned(), map.string(key, problems)?.to_owned())));
        entries.collect()
    }
}

/// What a JSON value is, in the words of an error message.
pub(crate) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
