//! What a waypoint's Envoy is started with: its bootstrap, and the files that the bootstrap names.

mod bootstrap;
mod drain;
mod endpoint;
mod files;
mod health;
mod stats;
mod xds_cluster;

pub use bootstrap::{Proxy, bootstrap};
pub use drain::drain;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use files::{FileError, ProxyFiles};
pub use health::{METRICS_PATH, METRICS_PORT, READY_PATH, READY_PORT, listeners};
