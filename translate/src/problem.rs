//! What is wrong with an object, and where: a value that becomes a condition, never an `Err`.

use std::fmt;

/// A place in an object, as in `spec.rules[2].filters[0]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(String);

impl FieldPath {
    /// The top-level field `name`.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The field `name` of what is here.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The item `index` of the list here.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Why, in the closed set of words that Gateway API and Istio put in a condition's `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The value is not allowed there.
    Invalid,
    /// The value is allowed by the API and not implemented by us.
    UnsupportedValue,
    /// A Gateway's parameters do not exist, or cannot be applied.
    InvalidParameters,
    /// A backend does not exist.
    BackendNotFound,
    /// A reference needs a ReferenceGrant.
    RefNotPermitted,
    /// A reference names a kind that cannot be referred to there.
    InvalidKind,
    /// A route's parent has no such listener, port or section.
    NoMatchingParent,
    /// A route's parent does not take routes of that namespace or kind.
    NotAllowedByListeners,
    /// A policy's target does not exist.
    TargetNotFound,
    /// A policy's target is not bound to a waypoint.
    AncestorNotBound,
}

impl Reason {
    /// The word as it stands in a condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::UnsupportedValue => "UnsupportedValue",
            Self::InvalidParameters => "InvalidParameters",
            Self::BackendNotFound => "BackendNotFound",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::InvalidKind => "InvalidKind",
            Self::NoMatchingParent => "NoMatchingParent",
            Self::NotAllowedByListeners => "NotAllowedByListeners",
            Self::TargetNotFound => "TargetNotFound",
            Self::AncestorNotBound => "AncestorNotBound",
        }
    }
}

/// Something the user asked for that cannot be done as asked. The value it was found in fails
/// closed in its own place; this is how the user learns of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// Where.
    pub at: FieldPath,
    /// Which condition reason it calls for.
    pub reason: Reason,
    /// What to do about it: lower case, no full stop.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.at, self.message)
    }
}

/// A value read from an object, always there, and what was wrong on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lowered<T> {
    /// The value; where the object was wrong, one that fails closed.
    pub value: T,
    /// What was wrong.
    pub problems: Vec<Problem>,
}
