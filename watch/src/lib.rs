//! The outside world, read only: sources of Kubernetes objects.
//!
//! ```text
//!   tree ─► manifest ─► contents ─► catalog ─► diff ─► Update      directory.rs puts these in a row
//!   files    documents   objects     one of     what moved
//!            of a file   of a file   each name
//! ```
//!
//! `keys` fetches what policies refer to by address: the public keys of those who sign tokens.
//!
//! Only `tree` and `alarm` touch the disk. The other source, an API server, is `kube`; it has its own front
//! half and shares `trim`, `diff` and `complaint`.

mod alarm;
mod catalog;
mod complaint;
mod contents;
mod diff;
mod directory;
mod keys;
mod kube;
mod manifest;
mod tree;
mod trim;
mod wanted;

use std::{convert::Infallible, future::Future};

use tokio::sync::mpsc::Sender;
use translate::Change;

pub use self::kube::{
    ClusterError, ClusterSource, Live, Permissions, Unread, permissions, read_asked, read_cluster,
    read_referenced,
};
pub use complaint::{Complaint, Severity, Spot};
pub use diff::Held;
pub use directory::{DirectoryError, DirectorySource, ReadError, read_directory};
pub use keys::{Block, Guard, KeyOptions, Told, Wish, follow_keys};
pub use trim::trim;
pub use wanted::Wanted;

/// How a source speaks. Everything that exists is sent first; then `Ready`, once; then changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// Things that happened together.
    Changes(Vec<Change>),
    /// Everything that existed at the start has been sent. Nothing may be published before it.
    Ready,
}

/// Where objects come from.
pub trait Source: Send {
    /// Why the source cannot go on.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Sends what exists, then `Ready`, then changes, for ever. Ends only by failing or when nobody listens.
    fn run(self, updates: Sender<Update>) -> impl Future<Output = Result<Infallible, Self::Error>> + Send;
}
