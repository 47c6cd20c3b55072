//! Every type whose shape someone else decided: Envoy's resources, Kubernetes' objects, the wire's names.
//!
//! Nothing here has behavior beyond reading, naming and printing. The other rooms meet on these
//! types, so this is also the only crate that names `envoy-types`, `gateway-api` and `k8s-openapi`.

pub mod constraints;
pub mod envoy;
pub mod gateway;
pub mod kubernetes;
pub mod mesh_api;

mod body;
mod json;
mod object;
mod resource;
mod type_url;

pub use body::{Body, Place};
pub use json::{RenderError, parse_any, render_any, render_message};
pub use object::{DecodeError, Decoded, Kind, Object, ObjectRef, check};
pub use resource::{Delta, Resource, Version};
pub use type_url::TypeUrl;

/// A name in Kubernetes or on the wire: short, shared, compared often.
pub type Name = std::sync::Arc<str>;
