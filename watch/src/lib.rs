//! The outside world, read only: sources of Kubernetes objects.

use std::{convert::Infallible, future::Future};

use tokio::sync::mpsc::Sender;
use translate::Change;

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
