//! Routes: which requests go where. One file a kind of route, and what the kinds share.

pub(crate) mod backend;
pub(crate) mod grpc;
pub(crate) mod header;
pub(crate) mod hostname;
pub(crate) mod http;
pub(crate) mod matches;
pub(crate) mod parent;
pub(crate) mod path_modifier;
pub(crate) mod precedence;
pub(crate) mod retry;
pub(crate) mod rule;
pub(crate) mod session;
pub(crate) mod tcp;
pub(crate) mod timeout;
pub(crate) mod tls;
