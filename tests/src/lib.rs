//! The harness: a real Envoy, a real control plane, real mTLS tunnels and small backends, on one machine.
//!
//! ```text
//!   Caller ──mTLS, CONNECT vip:port──► Envoy ──plain or HBONE──► Backend
//!   (hbone::Connection)                  ▲                       (behind hbone::Server if captured)
//!                                        └── Portolan ◄── a scratch copy of the manifests
//! ```
//!
//! A [`Lab`] is all of it, started from a directory of ordinary manifests, on a block of loopback
//! addresses of its own, so that labs run side by side. The demo and the end-to-end tests are two
//! users of the same lab. Everything a lab starts ends with it, even when the process is killed.

pub mod answers;
pub mod authorization;
pub mod backend;
pub mod bench;
pub mod caller;
pub mod case;
pub mod catalog;
pub mod chart;
pub mod cluster;
pub mod demo;
pub mod envoy_binary;
pub mod exchange;
pub mod ext_authz;
pub mod fuzz;
pub mod grpc;
pub mod hbone;
pub mod identity;
pub mod judgement;
pub mod key_server;
pub mod lab;
pub mod loopback;
pub mod packaged;
pub mod process;
pub mod raw_http2;
pub mod tls;
pub mod token;

mod until;

pub use caller::Caller;
pub use identity::{Authority, Identity};
pub use lab::Lab;
pub use loopback::Loopback;
pub use until::until;
