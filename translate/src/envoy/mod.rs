//! The skeleton of a waypoint, which the features hang on: three kinds of listener that never
//! change, and for each port of a service a scope, a route configuration, a cluster and its endpoints.
//!
//! A file holds a row (all that the resource depends on) and the one function that emits it.

pub(crate) mod access_log;
pub(crate) mod assignment;
pub(crate) mod blocks;
pub(crate) mod cluster;
pub(crate) mod connect_originate;
pub(crate) mod connect_terminate;
pub(crate) mod dispatch;
pub(crate) mod extension;
pub(crate) mod filter_state;
mod found;
pub(crate) mod infrastructure;
pub(crate) mod main_internal;
pub(crate) mod merged;
pub(crate) mod refusal;
pub(crate) mod request_route;
pub(crate) mod route_config;
pub(crate) mod scope;
pub(crate) mod server_name;
pub(crate) mod sniffed;
pub(crate) mod tls;
pub(crate) mod tls_router;
pub(crate) mod trusted;
