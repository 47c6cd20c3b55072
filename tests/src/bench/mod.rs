//! The figures: what one change costs, as counts, and as ratios of times within one run.
//!
//! Two measurements, neither of which can fail for being slow. [`growth`] edits generated meshes of
//! several sizes, with simulated proxies on real xDS sessions: nothing that a change costs may grow
//! with the mesh. [`envoy`] edits the file of a policy of the example mesh under a real Envoy.

pub mod envoy;
pub mod growth;
pub mod mesh;
pub mod report;
pub mod spread;

mod plane;
mod proxy;

/// What one change of a policy or route may cost on the wire, in bytes, whatever the size of the mesh.
pub const CHANGE_BYTES: usize = 1_500;
