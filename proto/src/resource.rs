//! An xDS resource as it travels between the rooms: named, versioned, already encoded.

use std::{fmt, sync::Arc};

use prost::Message;

use crate::{Body, Name, Place, TypeUrl, envoy};

/// What a client holds of a resource, as far as we and it can tell.
///
/// It is a hash of the row that the resource was emitted from, never of its bytes: protobuf maps
/// have no order, so equal messages encode differently. Equal rows have equal versions in every
/// replica and after every restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

impl Version {
    /// The version that [`Version`] prints as `text`; `None` if it never printed that.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

/// One resource, encoded once and shared by every stream that sends it.
#[derive(Clone, PartialEq)]
pub struct Resource {
    /// What it is.
    pub type_url: TypeUrl,
    /// Its name, unique within the type.
    pub name: Name,
    /// Which content it has.
    pub version: Version,
    /// Within its type, resources of a lower wave are sent first. 0 for nearly everything.
    pub wave: u8,
    /// The encoded message: the value of the `Any`, without its type URL.
    pub body: Body,
}

impl Resource {
    /// Encodes `message` as a resource of the first wave.
    pub fn new(type_url: TypeUrl, name: impl Into<Name>, version: Version, message: &impl Message) -> Self {
        Self { type_url, name: name.into(), version, wave: 0, body: message.encode_to_vec().into() }
    }

    /// The resource as an `Any`, for a reader who stands there.
    pub fn to_any(&self, place: &Place) -> envoy::Any {
        envoy::Any { type_url: self.type_url.as_str().to_owned(), value: self.body.at(place).to_vec() }
    }
}

impl fmt::Debug for Resource {
    /// Never the body: a secret's body is a private key.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}@{} ({:?})", self.type_url, self.name, self.version, self.body)
    }
}

/// What moved in one commit, for one audience.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Resources that are new or changed.
    pub set: Vec<Arc<Resource>>,
    /// Resources that are gone.
    pub removed: Vec<(TypeUrl, Name)>,
}

impl Delta {
    /// Whether nothing moved.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }
}
