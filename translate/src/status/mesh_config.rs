//! What we say about the mesh configuration.

use super::{Condition, Status, Truth, list};
use crate::{derive::Reads, inputs::Inputs};

/// A ConfigMap has no conditions of its own: this is for logs, events and whoever asks us.
pub(super) fn of(reads: &Reads, inputs: &Inputs) -> Option<Status> {
    let said = inputs.mesh_config.get(reads, &())?;
    let (truth, reason, message) = if said.problems.is_empty() {
        (Truth::True, "Accepted", "the mesh configuration is in force".to_owned())
    } else {
        (Truth::False, "PartiallyInvalid", list(&said.problems))
    };
    Some(Status {
        conditions: vec![Condition { kind: "Accepted", truth, reason, message }],
        ..Status::default()
    })
}
