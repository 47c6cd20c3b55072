//! From a row to a resource: its name, its version, its bytes.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

use prost::Message;
use proto::{Body, Place, Resource, TypeUrl, Version};
use rapidhash::v3::{RapidSecrets, RapidStreamHasherV3};

use crate::{derive::Row, mesh::name::Key, settings::Settings};

/// A row that becomes one resource.
pub(crate) trait Emit: Row + Hash + Send + Sync + 'static {
    /// The resource's type.
    const TYPE: TypeUrl;
    /// The resource's message.
    type Message: Message;

    /// The waypoint that it is for.
    fn waypoint(key: &Self::Key) -> &Key;

    /// The resource's name.
    fn name(key: &Self::Key, settings: &Settings) -> String;

    /// The resource. It depends on the row, its key and the settings, and on nothing else.
    fn emit(&self, key: &Self::Key, settings: &Settings) -> Self::Message;

    /// Whether it is another one for readers elsewhere. Its version is one for all of them.
    fn is_placed(&self) -> bool {
        false
    }

    /// The resource for a reader who stands there.
    fn emit_at(&self, key: &Self::Key, settings: &Settings, _place: &Place) -> Self::Message {
        self.emit(key, settings)
    }
}

/// Emits a row with its version.
pub(crate) fn resource<R>(row: &Arc<R>, key: &R::Key, settings: &Settings) -> Resource
where
    R: Emit<Key: Send + Sync + 'static>,
{
    let message = row.emit(key, settings);
    let version = version(&**row, key, settings);
    let resource = Resource::new(R::TYPE, R::name(key, settings), version, &message);
    if !row.is_placed() {
        return resource;
    }
    let (row, key, settings) = (Arc::clone(row), key.clone(), settings.clone());
    let at = move |place: &Place| row.emit_at(&key, &settings, place).encode_to_vec().into();
    Resource { body: Body::by_place(message.encode_to_vec(), at), ..resource }
}

/// A hash of everything that a resource follows from, the code that emits it included.
///
/// The settings are part of it: another trust domain makes other bytes from the same row.
pub(crate) fn version(row: &impl Hash, key: &impl Hash, settings: &Settings) -> Version {
    let mut hasher = Stable(RapidStreamHasherV3::new(&SECRETS));
    (key, row, &settings.trust_domain, &settings.cluster_domain).hash(&mut hasher);
    Version(hasher.finish())
}

/// Seeded with a hash of our own sources, from the build script.
static SECRETS: LazyLock<RapidSecrets> =
    LazyLock::new(|| RapidSecrets::seed(env!("PORTOLAN_EMIT_SALT").parse().unwrap_or_default()));

/// The same hash in every process and on every machine: integers go in as little-endian of one width.
struct Stable<'s>(RapidStreamHasherV3<'s>);

impl Hasher for Stable<'_> {
    fn finish(&self) -> u64 {
        self.0.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn write_u16(&mut self, number: u16) {
        self.write(&number.to_le_bytes());
    }

    fn write_u32(&mut self, number: u32) {
        self.write(&number.to_le_bytes());
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_u128(&mut self, number: u128) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_i64(&mut self, number: i64) {
        self.write(&number.to_le_bytes());
    }

    fn write_isize(&mut self, number: isize) {
        self.write_i64(number as i64);
    }
}
