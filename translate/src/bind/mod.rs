//! The joins: who is attached to whom. One derived table a file; a join reads tables and knows no Envoy.

pub(crate) mod addressed;
pub(crate) mod applied_route;
pub(crate) mod asked_of;
pub(crate) mod block_port;
pub(crate) mod by_name;
pub(crate) mod endpoints_of;
pub(crate) mod installation_of;
pub(crate) mod policies_of;
pub(crate) mod resolved_parent;
pub(crate) mod resolved_route;
pub(crate) mod routes_of;
pub(crate) mod upstream_of;
pub(crate) mod wanted_config_maps;
pub(crate) mod wanted_keys;
pub(crate) mod waypoint_of;
