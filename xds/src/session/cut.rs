//! One response's worth of what is owed.

use std::sync::Arc;

use proto::{Name, Resource, envoy::discovery::Resource as WireResource};

use super::position::Position;

/// About how many bytes a response may have. What is in memory for a client that does not read is
/// one response; what is larger in itself is sent alone.
const RESPONSE_BYTES: usize = 256 * 1024;

/// What a resource costs besides its name and body: type URL, version, lengths.
const RESOURCE_OVERHEAD: usize = 96;

/// One thing to send.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Set(Arc<Resource>),
    Remove(Name),
}

/// Items that go into one response.
#[derive(Debug, Default)]
pub(super) struct Cut {
    pub(super) sets: Vec<Arc<Resource>>,
    pub(super) removes: Vec<Name>,
    bytes: usize,
    full: bool,
}

impl Cut {
    /// Adds the item, or gives it back if it belongs in the next response.
    pub(super) fn add(&mut self, item: Item, alone: impl Fn(&Resource) -> bool) -> Result<(), Item> {
        let bytes = match &item {
            Item::Set(resource) => resource.name.len() + resource.body.plain().len() + RESOURCE_OVERHEAD,
            Item::Remove(name) => name.len() + 2,
        };
        let empty = self.sets.is_empty() && self.removes.is_empty();
        let fits = self.bytes + bytes <= RESPONSE_BYTES && !self.full;
        match item {
            Item::Set(resource) => {
                let alone = alone(&resource);
                let same_wave = self.sets.first().is_none_or(|first| first.wave == resource.wave);
                if !empty && (!fits || alone || !same_wave) {
                    return Err(Item::Set(resource));
                }
                self.full = alone;
                self.sets.push(resource);
            }
            Item::Remove(name) if empty || fits => self.removes.push(name),
            Item::Remove(name) => return Err(Item::Remove(name)),
        }
        self.bytes += bytes;
        Ok(())
    }
}

pub(super) fn on_the_wire(resource: &Resource, position: &Position) -> WireResource {
    WireResource {
        name: resource.name.to_string(),
        version: position.version(resource),
        resource: Some(resource.to_any(position.place())),
        ..Default::default()
    }
}
