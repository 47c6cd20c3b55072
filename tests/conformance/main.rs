//! What we promise on the wire, held against the session, the cache and the real server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this target is a test")]

mod advisories;
mod authz;
mod mesh;
mod model;
mod server;
mod transcript;
