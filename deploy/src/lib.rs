//! What runs: the command line, the loop that connects the rooms, and the identities of the proxies.

pub mod admin;
pub mod authn;
pub mod ca_secret;
pub mod certificates;
pub mod cli;
pub mod deployer;
pub mod event_loop;
pub mod events;
pub mod identity;
pub mod keys;
pub mod lease;
pub mod metrics;
pub mod objects;
pub mod permissions;
pub mod place;
pub mod progress;
pub mod proxy;
pub mod replicas;
pub mod serve;
pub mod state;
pub mod status;
pub mod waypoint;

mod acknowledgements;
mod backoff;
pub mod identities;
mod journal;
mod tasks;
mod telemetry;
pub mod writers;
