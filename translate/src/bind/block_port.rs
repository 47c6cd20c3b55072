//! Ports of services that are dialled anywhere in blocks of addresses, each behind its waypoint.

use super::{addressed::Addressed, waypoint_of::WaypointOf};
use crate::{
    derive::{Derived, Reads, Row},
    mesh::{
        block::Block,
        name::{Key, PortKey},
    },
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BlockPort {
    /// At least one.
    pub(crate) blocks: Vec<Block>,
    /// Of two services that claim a block, the older has it.
    pub(crate) created: i64,
}

impl Row for BlockPort {
    const TABLE: &'static str = "block port";
    type Key = PortKey;
    /// The waypoint.
    type Bucket = Key;

    fn buckets(key: &PortKey, _row: &Self) -> Vec<Key> {
        vec![key.waypoint.clone()]
    }
}

/// `None` for a port of a service that has single addresses only, or that the waypoint does not serve.
pub(crate) fn bind(
    reads: &Reads,
    addressed: Addressed<'_>,
    waypoint_of: &Derived<WaypointOf>,
    key: &PortKey,
) -> Option<BlockPort> {
    if !waypoint_of.get(reads, &key.service)?.is_served_by(&key.waypoint) {
        return None;
    }
    let service = addressed.get(reads, &key.service)?;
    service.port(key.port)?;
    (!service.blocks.is_empty())
        .then(|| BlockPort { blocks: service.blocks.clone(), created: service.created })
}
