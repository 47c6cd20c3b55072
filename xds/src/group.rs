//! Which clients share a snapshot.

use std::{fmt, sync::Arc};

/// The clients that are to hold the same resources, for example `bookinfo/waypoint`.
///
/// It is at once the key of the cache and what an authenticated client is entitled to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(pub Arc<str>);

impl fmt::Display for Group {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
