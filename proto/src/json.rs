//! Messages as Envoy's own JSON and back, by the descriptors of Envoy 1.40's whole API.
//!
//! Building the descriptor pool costs tens of milliseconds and ten megabytes, so it happens on first
//! use: only what prints configuration pays for it.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use crate::envoy;

static POOL: LazyLock<Result<DescriptorPool, prost_reflect::DescriptorError>> =
    LazyLock::new(|| DescriptorPool::decode(include_bytes!("../descriptor/envoy-1.40.fds").as_slice()));

/// Why a message could not be printed or read.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The descriptors shipped with this build are damaged.
    #[error("the descriptors of Envoy's API do not decode: {0}")]
    Descriptors(String),
    /// The type is not part of Envoy 1.40's API.
    #[error("type {0:?} is not in Envoy 1.40's API")]
    UnknownType(String),
    /// The bytes are not such a message.
    #[error("{type_name}: {source}")]
    Decode {
        /// The message's full name.
        type_name: String,
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// The JSON is not such a message, or holds an `Any` of unknown type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// Prints a message packed in an `Any`, every `Any` inside it unpacked, defaults dropped, map keys sorted.
pub fn render_any(any: &envoy::Any) -> Result<Value, RenderError> {
    render_message(&any.type_url, &any.value)
}

/// Prints the encoded message `bytes` whose type is `type_url` (with or without the domain).
pub fn render_message(type_url: &str, bytes: &[u8]) -> Result<Value, RenderError> {
    let type_name = type_url.rsplit('/').next().unwrap_or(type_url);
    let descriptor = pool()?
        .get_message_by_name(type_name)
        .ok_or_else(|| RenderError::UnknownType(type_name.to_owned()))?;
    let message = DynamicMessage::decode(descriptor, bytes)
        .map_err(|source| RenderError::Decode { type_name: type_name.to_owned(), source })?;
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// Reads Envoy JSON of the type `type_name` into an `Any`. An unknown field is an error.
pub fn parse_any(type_name: &str, json: &Value) -> Result<envoy::Any, RenderError> {
    let descriptor = pool()?
        .get_message_by_name(type_name)
        .ok_or_else(|| RenderError::UnknownType(type_name.to_owned()))?;
    let message = DynamicMessage::deserialize(descriptor, json)?;
    Ok(envoy::Any { type_url: format!("type.googleapis.com/{type_name}"), value: message.encode_to_vec() })
}

pub(crate) fn pool() -> Result<&'static DescriptorPool, RenderError> {
    POOL.as_ref().map_err(|error| RenderError::Descriptors(error.to_string()))
}
