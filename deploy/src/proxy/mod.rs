//! What a waypoint's Envoy is started with: its bootstrap, and the files that the bootstrap names.

mod bootstrap;
mod endpoint;
mod files;
mod stats;
mod xds_cluster;

pub use bootstrap::{Proxy, bootstrap};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use files::{FileError, ProxyFiles};
