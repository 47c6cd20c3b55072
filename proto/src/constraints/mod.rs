//! Envoy's own constraints: the `validate.rules` that its API's descriptors carry for every field.
//!
//! Envoy checks them when it takes a resource in and rejects the whole resource for one that is
//! broken, so they are checked here before anything is sent. They are read from the descriptors
//! shipped with this build: nothing is said twice, and nothing can be forgotten.
//!
//! What Envoy checks beyond them (that an expression compiles, that a cluster exists) is not here.

mod rules;

use std::{collections::BTreeMap, fmt, sync::LazyLock};

use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, MessageDescriptor, ReflectMessage, Value};

use self::rules::{MessageRules, RulesError};
use crate::json::{RenderError, pool};

/// A value that Envoy would reject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where it is, in the API's field names: `rules.policies["a"].permissions[0].url_path`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.field, self.problem)
    }
}

static RULES: LazyLock<Result<BTreeMap<String, MessageRules>, RulesError>> =
    LazyLock::new(|| pool().map_err(|error| RulesError(error.to_string())).and_then(rules::read));

/// Everything that Envoy would reject in the encoded message, and in every `Any` inside it.
///
/// # Errors
/// The descriptors of this build are damaged or hold a rule of unknown kind, or the type is not one
/// of Envoy 1.40's API, or the bytes are not such a message.
pub fn violations(type_url: &str, bytes: &[u8]) -> Result<Vec<Violation>, RenderError> {
    let rules = RULES.as_ref().map_err(|error| RenderError::Descriptors(error.to_string()))?;
    let mut check = Check { pool: pool()?, rules, found: Vec::new() };
    let message = check.decode(type_url, bytes)?;
    check.message("", &message)?;
    Ok(check.found)
}

struct Check {
    pool: &'static DescriptorPool,
    rules: &'static BTreeMap<String, MessageRules>,
    found: Vec<Violation>,
}

impl Check {
    fn decode(&self, type_url: &str, bytes: &[u8]) -> Result<DynamicMessage, RenderError> {
        let type_name = type_url.rsplit('/').next().unwrap_or(type_url);
        let descriptor: MessageDescriptor = self
            .pool
            .get_message_by_name(type_name)
            .ok_or_else(|| RenderError::UnknownType(type_name.to_owned()))?;
        DynamicMessage::decode(descriptor, bytes)
            .map_err(|source| RenderError::Decode { type_name: type_name.to_owned(), source })
    }

    fn message(&mut self, at: &str, message: &DynamicMessage) -> Result<(), RenderError> {
        let descriptor = message.descriptor();
        if descriptor.full_name() == "google.protobuf.Any" {
            return self.any(at, message);
        }
        if let Some(rules) = self.rules.get(descriptor.full_name()) {
            rules.check(message, &mut |field, problem| {
                self.found.push(Violation { field: join(at, field), problem });
            });
        }
        for (field, value) in message.fields() {
            let at = join(at, field.name());
            match value {
                Value::Message(inner) => self.message(&at, inner)?,
                Value::List(items) => {
                    for (index, item) in items.iter().enumerate() {
                        if let Value::Message(inner) = item {
                            self.message(&format!("{at}[{index}]"), inner)?;
                        }
                    }
                }
                Value::Map(entries) => {
                    for (key, item) in entries {
                        if let Value::Message(inner) = item {
                            self.message(&format!("{at}[{}]", shown(key)), inner)?;
                        }
                    }
                }
                Value::Bool(_)
                | Value::I32(_)
                | Value::I64(_)
                | Value::U32(_)
                | Value::U64(_)
                | Value::F32(_)
                | Value::F64(_)
                | Value::String(_)
                | Value::Bytes(_)
                | Value::EnumNumber(_) => {}
            }
        }
        Ok(())
    }

    /// Envoy unpacks it when it builds what is described, and checks it then.
    fn any(&mut self, at: &str, any: &DynamicMessage) -> Result<(), RenderError> {
        let (type_url, value) = (any.get_field_by_name("type_url"), any.get_field_by_name("value"));
        let type_url = type_url.as_deref().and_then(Value::as_str).unwrap_or_default();
        let bytes = value.as_deref().and_then(Value::as_bytes).map(|bytes| &**bytes).unwrap_or_default();
        if type_url.is_empty() {
            return Ok(());
        }
        let inner = self.decode(type_url, bytes)?;
        self.message(at, &inner)
    }
}

fn join(at: &str, field: &str) -> String {
    if at.is_empty() { field.to_owned() } else { format!("{at}.{field}") }
}

fn shown(key: &MapKey) -> String {
    match key {
        MapKey::String(text) => format!("{text:?}"),
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
    }
}
