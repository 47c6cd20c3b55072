//! What the event loop can be asked. It answers between two events, so an answer is of one commit.

use tokio::sync::oneshot;

/// A question, and where its answer goes. Whoever asked may have gone meanwhile.
#[derive(Debug)]
pub enum Question {
    /// Whether it goes on at all.
    Alive(oneshot::Sender<()>),
}
