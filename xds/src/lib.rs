//! The wire: delta xDS over TLS. It knows resources and clients, and nothing of a mesh.
//!
//! ```text
//!   publish(group, delta) ─► cache ─ snapshot ─► session ─ responses ─► client
//!                                                 ▲  │
//!                              requests ──────────┘  └─► observations ─► whoever runs us
//! ```
//!
//! - [`Cache`] holds one [`Snapshot`] for each [`Group`] of clients. It is level-triggered: a client
//!   that was busy gets the latest, never a backlog, and nothing is ever debounced.
//! - [`Session`] is one client's conversation: subscriptions, what it holds, what is owed and in which
//!   order. It is a state machine without I/O; `tests/conformance/xds` is its specification.
//! - [`Streams`] shows who is connected and what each of them has, to whoever asks.
//! - [`serve`] is the only door: TLS, authentication, limits, and a stream that pulls from a session.

mod authn;
mod cache;
mod group;
mod limits;
mod observe;
mod quarantine;
mod redact;
mod server;
mod session;
mod snapshot;
mod streams;

pub use authn::{Authenticate, Client, Denied, Peer, Revocation};
pub use cache::{Cache, Follower};
pub use group::Group;
pub use limits::Limits;
pub use observe::{Observation, Observer, StreamId};
pub use quarantine::Quarantine;
pub use server::{ServeError, serve};
pub use session::{Lacking, Session, Standing, Violation, Why};
pub use snapshot::Snapshot;
pub use streams::{Node, Notes, Open, Rejection, Streams};
