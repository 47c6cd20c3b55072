//! What a resource says: the same to everyone, or to each reader what is right where it stands.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::Name;

/// Where a client stands, as it says itself: xDS's own `Node.locality`. What is empty is not known.
///
/// It is a claim that nobody checks, so it may change how a client spreads its own requests over
/// the endpoints that it is given anyway, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Such as `eu-west-1`.
    pub region: Name,
    /// Such as `eu-west-1a`.
    pub zone: Name,
    /// The node that it runs on.
    pub sub_zone: Name,
}

/// The value of a resource's `Any`, encoded.
#[derive(Clone, Default)]
pub struct Body {
    plain: Bytes,
    placed: Option<Arc<Placed>>,
}

type Placed = dyn Fn(&Place) -> Bytes + Send + Sync;

impl Body {
    /// A body that depends on where its reader stands. `plain` is for those who do not say.
    ///
    /// `at` is asked each time that the resource is sent, so it must follow from what the
    /// resource's version follows from, and from the place.
    pub fn by_place(plain: impl Into<Bytes>, at: impl Fn(&Place) -> Bytes + Send + Sync + 'static) -> Self {
        Self { plain: plain.into(), placed: Some(Arc::new(at)) }
    }

    /// What a reader gets of whom nothing is known.
    pub const fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// What a reader there gets.
    pub fn at(&self, place: &Place) -> Bytes {
        match &self.placed {
            Some(placed) if *place != Place::default() => placed(place),
            Some(_) | None => self.plain.clone(),
        }
    }

    /// Whether it depends on where its reader stands.
    pub const fn is_placed(&self) -> bool {
        self.placed.is_some()
    }
}

impl<B: Into<Bytes>> From<B> for Body {
    /// The same for everyone.
    fn from(plain: B) -> Self {
        Self { plain: plain.into(), placed: None }
    }
}

impl PartialEq for Body {
    /// By what can be compared. Of resources, the version says whether they are the same.
    fn eq(&self, other: &Self) -> bool {
        self.plain == other.plain && self.is_placed() == other.is_placed()
    }
}

impl fmt::Debug for Body {
    /// Never what it says: a secret's body is a private key.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes{}", self.plain.len(), if self.is_placed() { ", by place" } else { "" })
    }
}
