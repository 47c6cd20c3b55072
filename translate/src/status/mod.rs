//! Conditions: what we say about an object, as values. Writing them somewhere is `deploy`'s task.

use std::sync::Arc;

use proto::Name;

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can tell yet.
    Unknown,
}

impl Truth {
    /// The word as it stands in a condition's `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One condition of a Kubernetes object, without its times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition {
    /// As in `Accepted`.
    pub kind: &'static str,
    /// Whether it holds.
    pub truth: Truth,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// For a person to read.
    pub message: String,
}

/// What we say about one parent of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParentStatus {
    /// The `parentRef` as the route has it, as JSON text with sorted keys.
    pub parent_ref: Arc<str>,
    /// What holds for it.
    pub conditions: Vec<Condition>,
}

/// What we say about one listener of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: Name,
    /// Routes attached through it.
    pub attached_routes: u32,
    /// What holds for it.
    pub conditions: Vec<Condition>,
}

/// All that we say about one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status {
    /// The generation of the object that this speaks of.
    pub observed_generation: Option<i64>,
    /// Conditions of the object itself.
    pub conditions: Vec<Condition>,
    /// For a route: its parents.
    pub parents: Vec<ParentStatus>,
    /// For a Gateway: its listeners.
    pub listeners: Vec<ListenerStatus>,
}
