//! The brain: Kubernetes objects in, Envoy resources and statuses out. No clock, no network, no tasks, no failure.

mod change;
mod problem;
mod settings;
pub mod status;

pub use change::{Audience, Change, Commit, Revision, WaypointPlan};
pub use problem::{FieldPath, Lowered, Problem, Reason};
pub use settings::{Bind, Settings};

/// The mesh: every object we know and everything that follows from them.
#[derive(Debug)]
pub struct Mesh;

impl Mesh {
    /// An empty mesh.
    pub fn new(_settings: Settings) -> Self {
        Self
    }

    /// Applies the changes as one step and returns what they changed, and nothing else.
    pub fn commit(&mut self, changes: impl IntoIterator<Item = Change>) -> Commit {
        let _ = changes.into_iter().count();
        Commit::default()
    }
}
