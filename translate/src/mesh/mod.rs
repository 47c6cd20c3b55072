//! The nouns: what each Kubernetes object comes to in the mesh. One file a noun, `lower` on top.

pub(crate) mod block;
pub(crate) mod ca_certificates;
pub(crate) mod class;
pub(crate) mod endpoint;
pub(crate) mod expression;
pub(crate) mod grant;
pub(crate) mod identity;
pub(crate) mod labels;
pub(crate) mod mesh_config;
pub(crate) mod name;
pub(crate) mod namespace;
pub(crate) mod nearness;
pub(crate) mod pattern;
pub(crate) mod protocol;
pub(crate) mod selector;
pub(crate) mod service;
pub(crate) mod service_entry;
pub(crate) mod waypoint;
pub(crate) mod workload;
pub(crate) mod workload_entry;
