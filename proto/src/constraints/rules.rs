//! The rules of protoc-gen-validate, read from the options of every field once.
//!
//! Only the kinds of rule that Envoy's API uses are known. Any other is an error when the rules are
//! read, so that a newer API cannot have rules that nobody checks.

use std::collections::BTreeMap;

use prost_reflect::{DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, Value};
use regex::Regex;

/// What keeps the rules from being read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct RulesError(pub(super) String);

/// The rules of one type of message.
pub(super) struct MessageRules {
    fields: Vec<(FieldDescriptor, Rules)>,
    /// Oneofs of which one field has to be set: their names, and the numbers of their fields.
    required: Vec<(String, Vec<u32>)>,
}

/// The rules of one field, or of the items of one.
enum Rules {
    /// Within these bounds, and one of these if there are any.
    Number(Bounds),
    Boolean(bool),
    Text(Box<Text>),
    Bytes {
        least: usize,
        most: usize,
    },
    /// A value that the API names, and none of these.
    Enum {
        defined: bool,
        refused: Vec<i32>,
    },
    Required,
    /// In nanoseconds.
    Duration {
        required: bool,
        bounds: Bounds,
    },
    List {
        least: usize,
        most: usize,
        unique: bool,
        items: Option<Box<Rules>>,
    },
    Map {
        least: usize,
        keys: Option<Box<Rules>>,
        values: Option<Box<Rules>>,
    },
}

#[derive(Default)]
struct Bounds {
    above: Option<f64>,
    least: Option<f64>,
    below: Option<f64>,
    most: Option<f64>,
    ignore_zero: bool,
}

struct Text {
    least: usize,
    most: usize,
    least_bytes: usize,
    most_bytes: usize,
    prefix: String,
    suffix: String,
    pattern: Option<Regex>,
    one_of: Vec<String>,
    ignore_empty: bool,
}

/// Reads the rules of every message of the API.
pub(super) fn read(pool: &DescriptorPool) -> Result<BTreeMap<String, MessageRules>, RulesError> {
    let extension = |name: &str| {
        pool.get_extension_by_name(name).ok_or_else(|| RulesError(format!("{name} is not there")))
    };
    let (rules, required) = (extension("validate.rules")?, extension("validate.required")?);
    let mut all = BTreeMap::new();
    for message in pool.all_messages() {
        let mut fields = Vec::new();
        for field in message.fields() {
            let found = of_field(&field, &rules)
                .map_err(|problem| RulesError(format!("{}: {problem}", field.full_name())))?;
            fields.extend(found.map(|found| (field, found)));
        }
        let oneofs = message.oneofs().filter(|oneof| !oneof.is_synthetic());
        let oneofs = oneofs.filter(|oneof| oneof.options().get_extension(&required).as_bool() == Some(true));
        let required: Vec<_> = oneofs
            .map(|oneof| (oneof.name().to_owned(), oneof.fields().map(|field| field.number()).collect()))
            .collect();
        if !fields.is_empty() || !required.is_empty() {
            all.insert(message.full_name().to_owned(), MessageRules { fields, required });
        }
    }
    Ok(all)
}

impl MessageRules {
    /// Says of each broken rule in which field it is and what is wrong. Fields inside fields are others' rules.
    pub(super) fn check(&self, message: &DynamicMessage, found: &mut dyn FnMut(&str, String)) {
        for (oneof, numbers) in &self.required {
            if !numbers.iter().any(|number| message.has_field_by_number(*number)) {
                found(oneof, "has to be set".to_owned());
            }
        }
        for (field, rules) in &self.fields {
            let set = message.has_field(field);
            if !set && field.supports_presence() {
                // Of the fields of a oneof, others may be set instead.
                let alone = field.containing_oneof().is_none_or(|oneof| oneof.is_synthetic());
                if alone && matches!(rules, Rules::Required | Rules::Duration { required: true, .. }) {
                    found(field.name(), "has to be set".to_owned());
                }
                continue;
            }
            if let Err(problem) = rules.check(&message.get_field(field), field.kind()) {
                found(field.name(), problem);
            }
        }
    }
}

impl Rules {
    fn check(&self, value: &Value, kind: Kind) -> Result<(), String> {
        // The rules of `UInt32Value` and its like are about what is in it.
        let inner = value.as_message().filter(|_| !matches!(self, Self::Duration { .. } | Self::Required));
        if let Some(wrapped) = inner.and_then(|wrapper| wrapper.get_field_by_name("value")) {
            return self.check(&wrapped, kind);
        }
        match self {
            Self::Number(bounds) => number(value).map_or(Ok(()), |number| bounds.check(number)),
            Self::Boolean(wanted) => match value.as_bool() {
                Some(given) if given != *wanted => Err(format!("has to be {wanted}")),
                Some(_) | None => Ok(()),
            },
            Self::Text(text) => value.as_str().map_or(Ok(()), |value| text.check(value)),
            Self::Bytes { least, most } => {
                within(value.as_bytes().map_or(0, bytes::Bytes::len), *least, *most, "bytes")
            }
            Self::Enum { defined, refused } => {
                let number = value.as_enum_number().unwrap_or_default();
                let known = kind.as_enum().is_none_or(|known| known.get_value(number).is_some());
                if *defined && !known || refused.contains(&number) {
                    return Err(format!("{number} is no value of it"));
                }
                Ok(())
            }
            Self::Required => Ok(()),
            Self::Duration { required: _, bounds } => {
                let part = |name: &str| {
                    let message = value.as_message()?;
                    message.get_field_by_name(name).and_then(|part| number(&part))
                };
                let (seconds, nanos) = (part("seconds").unwrap_or(0.0), part("nanos").unwrap_or(0.0));
                bounds.check(seconds * 1e9 + nanos)
            }
            Self::List { least, most, unique, items } => {
                let list = value.as_list().unwrap_or_default();
                within(list.len(), *least, *most, "items")?;
                if *unique && list.iter().enumerate().any(|(index, item)| list[..index].contains(item)) {
                    return Err("has an item twice".to_owned());
                }
                let Some(items) = items else { return Ok(()) };
                list.iter().try_for_each(|item| items.check(item, kind.clone()))
            }
            Self::Map { least, keys, values } => {
                let Some(map) = value.as_map() else { return Ok(()) };
                within(map.len(), *least, usize::MAX, "entries")?;
                let entry = kind.as_message().cloned();
                for (key, value) in map {
                    let of = |number: u32| entry.as_ref().and_then(|entry| entry.get_field(number));
                    if let (Some(keys), Some(field)) = (keys, of(1)) {
                        keys.check(&Value::from(key.clone()), field.kind())?;
                    }
                    if let (Some(values), Some(field)) = (values, of(2)) {
                        values.check(value, field.kind())?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl Bounds {
    fn check(&self, number: f64) -> Result<(), String> {
        let Self { above, least, below, most, ignore_zero } = self;
        if *ignore_zero && number == 0.0 {
            return Ok(());
        }
        let broken = |bound: &Option<f64>, breaks: fn(&f64, &f64) -> bool, word: &str| {
            bound
                .filter(|bound| breaks(&number, bound))
                .map(|bound| format!("{number} has to be {word} {bound}"))
        };
        let broken = broken(above, f64::le, "above")
            .or_else(|| broken(least, f64::lt, "at least"))
            .or_else(|| broken(below, f64::ge, "below"))
            .or_else(|| broken(most, f64::gt, "at most"));
        broken.map_or(Ok(()), Err)
    }
}

impl Text {
    fn check(&self, value: &str) -> Result<(), String> {
        if self.ignore_empty && value.is_empty() {
            return Ok(());
        }
        within(value.chars().count(), self.least, self.most, "characters")?;
        within(value.len(), self.least_bytes, self.most_bytes, "bytes")?;
        if !value.starts_with(&self.prefix) {
            return Err(format!("{value:?} has to start with {:?}", self.prefix));
        }
        if !value.ends_with(&self.suffix) {
            return Err(format!("{value:?} has to end with {:?}", self.suffix));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(value)) {
            return Err(format!("{value:?} has to match {:?}", pattern.as_str()));
        }
        if !self.one_of.is_empty() && !self.one_of.iter().any(|one| one == value) {
            return Err(format!("{value:?} has to be one of {:?}", self.one_of));
        }
        Ok(())
    }
}

fn within(count: usize, least: usize, most: usize, what: &str) -> Result<(), String> {
    match count {
        count if count < least => Err(format!("has {count} {what} and needs {least}")),
        count if count > most => Err(format!("has {count} {what} and may have {most}")),
        _ => Ok(()),
    }
}

/// Bounds are small numbers, which a double holds exactly.
#[expect(
    clippy::cast_precision_loss,
    reason = "compared with bounds that are far below what a double holds exactly"
)]
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::I32(number) => Some(f64::from(*number)),
        Value::U32(number) => Some(f64::from(*number)),
        Value::I64(number) => Some(*number as f64),
        Value::U64(number) => Some(*number as f64),
        Value::F32(number) => Some(f64::from(*number)),
        Value::F64(number) => Some(*number),
        Value::Message(_)
        | Value::List(_)
        | Value::Map(_)
        | Value::Bool(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::EnumNumber(_) => None,
    }
}

fn of_field(field: &FieldDescriptor, rules: &ExtensionDescriptor) -> Result<Option<Rules>, String> {
    let options = field.options();
    if !options.has_extension(rules) {
        return Ok(None);
    }
    options.get_extension(rules).as_message().map_or(Ok(None), of_rules)
}

/// Of a `validate.FieldRules`.
fn of_rules(message: &DynamicMessage) -> Result<Option<Rules>, String> {
    let mut found = None;
    for (field, value) in message.fields() {
        let given = Given(value.as_message().ok_or("is no message of rules")?);
        found = match field.name() {
            // Whether the message is there. Its own fields have rules of their own.
            "message" => {
                given.only(&["required", "skip"])?.flag("required").then_some(Rules::Required).or(found)
            }
            "any" => given.only(&["required"])?.flag("required").then_some(Rules::Required),
            "string" => Some(Rules::Text(Box::new(text(&given)?))),
            "bytes" => {
                given.only(&["min_len", "max_len"])?;
                Some(Rules::Bytes {
                    least: given.size("min_len", 0),
                    most: given.size("max_len", usize::MAX),
                })
            }
            "bool" => Some(Rules::Boolean(given.only(&["const"])?.flag("const"))),
            "enum" => {
                given.only(&["defined_only", "not_in"])?;
                let refused = given.list("not_in").into_iter().filter_map(|value| value.as_i32()).collect();
                Some(Rules::Enum { defined: given.flag("defined_only"), refused })
            }
            "repeated" => {
                given.only(&["min_items", "max_items", "unique", "items"])?;
                Some(Rules::List {
                    least: given.size("min_items", 0),
                    most: given.size("max_items", usize::MAX),
                    unique: given.flag("unique"),
                    items: given.inner("items")?,
                })
            }
            "map" => {
                given.only(&["min_pairs", "keys", "values"])?;
                let (keys, values) = (given.inner("keys")?, given.inner("values")?);
                Some(Rules::Map { least: given.size("min_pairs", 0), keys, values })
            }
            "duration" => {
                given.only(&["required", "lt", "lte", "gt", "gte"])?;
                Some(Rules::Duration { required: given.flag("required"), bounds: given.bounds() })
            }
            "float" | "double" | "int32" | "int64" | "uint32" | "uint64" => {
                given.only(&["lt", "lte", "gt", "gte", "ignore_empty"])?;
                Some(Rules::Number(given.bounds()))
            }
            other => return Err(format!("has rules of the unknown kind {other:?}")),
        };
    }
    Ok(found)
}

fn text(given: &Given<'_>) -> Result<Text, String> {
    given.only(&[
        "min_len",
        "max_len",
        "min_bytes",
        "max_bytes",
        "len",
        "pattern",
        "prefix",
        "suffix",
        "in",
        "well_known_regex",
        "strict",
        "ignore_empty",
    ])?;
    // Unset, `strict` is true.
    let strict = given.0.get_field_by_name("strict").is_none_or(|strict| strict.as_bool() != Some(false))
        || !given.0.has_field_by_name("strict");
    let known = given.0.get_field_by_name("well_known_regex").and_then(|known| known.as_enum_number());
    let pattern = match (known.unwrap_or_default(), strict) {
        (0, _) => given.text("pattern"),
        (1, true) => Some(r"^:?[0-9a-zA-Z!#$%&'*+-.^_|~`]+$".to_owned()),
        (2, true) => Some(r"^[^\x00-\x08\x0A-\x1F\x7F]*$".to_owned()),
        (1 | 2, false) => Some(r"^[^\x00\x0A\x0D]*$".to_owned()),
        (other, _) => return Err(format!("has the unknown expression {other}")),
    };
    let pattern =
        pattern.map(|pattern| Regex::new(&pattern)).transpose().map_err(|error| error.to_string())?;
    Ok(Text {
        least: given.size("len", given.size("min_len", 0)),
        most: given.size("len", given.size("max_len", usize::MAX)),
        least_bytes: given.size("min_bytes", 0),
        most_bytes: given.size("max_bytes", usize::MAX),
        prefix: given.text("prefix").unwrap_or_default(),
        suffix: given.text("suffix").unwrap_or_default(),
        pattern,
        one_of: given.list("in").iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        ignore_empty: given.flag("ignore_empty"),
    })
}

/// A message of rules as it is written in the API, read by the names of its fields.
struct Given<'a>(&'a DynamicMessage);

impl Given<'_> {
    fn only(&self, known: &[&str]) -> Result<&Self, String> {
        match self.0.fields().find(|(field, _)| !known.contains(&field.name())) {
            Some((field, _)) => Err(format!("has the unknown rule {:?}", field.full_name())),
            None => Ok(self),
        }
    }

    fn get(&self, name: &str) -> Option<Value> {
        let value = self.0.has_field_by_name(name).then(|| self.0.get_field_by_name(name))?;
        value.map(std::borrow::Cow::into_owned)
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(|value| value.as_bool()).unwrap_or_default()
    }

    fn size(&self, name: &str, otherwise: usize) -> usize {
        let given = self.get(name).and_then(|value| value.as_u64());
        given.map_or(otherwise, |size| usize::try_from(size).unwrap_or(usize::MAX))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|value| value.as_str().map(str::to_owned))
    }

    fn list(&self, name: &str) -> Vec<Value> {
        self.get(name).and_then(|value| value.as_list().map(<[Value]>::to_vec)).unwrap_or_default()
    }

    fn inner(&self, name: &str) -> Result<Option<Box<Rules>>, String> {
        let given = self.get(name);
        let rules = given.as_ref().and_then(Value::as_message).map_or(Ok(None), of_rules)?;
        Ok(rules.map(Box::new))
    }

    fn bounds(&self) -> Bounds {
        let bound = |name: &str| {
            let value = self.get(name)?;
            number(&value).or_else(|| {
                let part =
                    |name: &str| value.as_message()?.get_field_by_name(name).and_then(|part| number(&part));
                Some(part("seconds")? * 1e9 + part("nanos")?)
            })
        };
        Bounds {
            above: bound("gt"),
            least: bound("gte"),
            below: bound("lt"),
            most: bound("lte"),
            ignore_zero: self.flag("ignore_empty"),
        }
    }
}
