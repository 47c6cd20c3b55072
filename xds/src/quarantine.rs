//! What the clients of a group have rejected, so that no stream is sent it again.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use proto::{Delta, Name, TypeUrl, Version};

/// Beyond this many rejected resources a group remembers no further ones; the streams that rejected
/// them still do. A mesh with more has a cause that quarantine does not cure.
const CAPACITY: usize = 4_096;

/// The versions that some client of the group has rejected, each of them alone in its response.
///
/// It outlives streams, so that a proxy which reconnects is not offered what it rejected. An entry
/// ends when its resource gets another version or is removed.
#[derive(Debug, Default)]
pub struct Quarantine {
    rejected: RwLock<BTreeMap<(TypeUrl, Name), Version>>,
}

impl Quarantine {
    /// Whether that version of the resource was rejected.
    pub fn contains(&self, type_url: TypeUrl, name: &Name, version: Version) -> bool {
        let rejected = self.rejected.read();
        // Nearly always empty, and then the key need not be built.
        !rejected.is_empty() && rejected.get(&(type_url, Name::clone(name))) == Some(&version)
    }

    pub(crate) fn insert(&self, type_url: TypeUrl, name: &Name, version: Version) {
        let mut rejected = self.rejected.write();
        let key = (type_url, Name::clone(name));
        if rejected.len() < CAPACITY || rejected.contains_key(&key) {
            rejected.insert(key, version);
        }
    }

    /// Forgets what `delta` replaces or removes.
    pub(crate) fn release(&self, delta: &Delta) {
        if self.rejected.read().is_empty() {
            return;
        }
        let mut rejected = self.rejected.write();
        for resource in &delta.set {
            let key = (resource.type_url, Name::clone(&resource.name));
            if rejected.get(&key).is_some_and(|version| *version != resource.version) {
                rejected.remove(&key);
            }
        }
        for key in &delta.removed {
            rejected.remove(key);
        }
    }
}
