//! The RouteConfiguration that tells which block a dialled address is in: a tunnel that nothing else is
//! known of looks here, and learns by the name of the route which scope it is for.
//!
//! It is one resource for each waypoint that has blocks at all. They are few: an address that a service
//! has by itself is a scope by itself.

use std::cmp::Reverse;

use proto::{
    TypeUrl,
    envoy::{BoolValue, RouteConfiguration, UInt32Value, matcher, route, xds_core},
};

use super::{dispatch, filter_state::LOCAL_ADDRESS, request_route, scope};
use crate::{
    bind::block_port::BlockPort,
    derive::{Derived, Reads, Row},
    emit::Emit,
    mesh::{
        block::Block,
        name::{Dialled, Key, ServiceKey},
    },
    settings::Settings,
};

/// The blocks of a waypoint with their ports, the longest prefixes first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Blocks(Vec<(Block, u16, ServiceKey)>);

impl Row for Blocks {
    const TABLE: &'static str = "blocks";
    type Key = Key;
    type Bucket = ();

    fn buckets(_key: &Key, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Blocks {
    /// `None` for a waypoint without any.
    pub(crate) fn of(reads: &Reads, block_ports: &Derived<BlockPort>, waypoint: &Key) -> Option<Self> {
        let ports = block_ports.bucket(reads, waypoint);
        let mut blocks: Vec<_> = ports
            .flat_map(|(key, row)| row.blocks.iter().map(move |block| (*block, key, row.created)))
            .collect();
        blocks.sort_by_key(|(block, key, created)| (Reverse(block.prefix), *block, key.port, *created, *key));
        blocks.dedup_by_key(|(block, key, _)| (*block, key.port));
        let blocks: Vec<_> =
            blocks.into_iter().map(|(block, key, _)| (block, key.port, key.service.clone())).collect();
        (!blocks.is_empty()).then_some(Self(blocks))
    }
}

impl Emit for Blocks {
    const TYPE: TypeUrl = TypeUrl::Route;
    type Message = RouteConfiguration;

    fn waypoint(key: &Key) -> &Key {
        key
    }

    fn name(_key: &Key, _settings: &Settings) -> String {
        dispatch::BLOCKS.to_owned()
    }

    fn emit(&self, _key: &Key, _settings: &Settings) -> RouteConfiguration {
        let routes = self.0.iter().map(|(block, port, service)| in_block(*block, *port, service));
        RouteConfiguration {
            name: dispatch::BLOCKS.to_owned(),
            validate_clusters: Some(BoolValue { value: false }),
            virtual_hosts: vec![route::VirtualHost {
                name: dispatch::BLOCKS.to_owned(),
                domains: vec!["*".to_owned()],
                routes: routes.collect(),
                ..route::VirtualHost::default()
            }],
            ..RouteConfiguration::default()
        }
    }
}

/// It leads nowhere: the tunnel goes on by the scope that has the route's name.
fn in_block(block: Block, port: u16, service: &ServiceKey) -> route::Route {
    let range = xds_core::CidrRange {
        address_prefix: block.address.to_string(),
        prefix_len: Some(UInt32Value { value: u32::from(block.prefix) }),
    };
    let dialled = matcher::FilterStateMatcher {
        key: LOCAL_ADDRESS.to_owned(),
        matcher: Some(matcher::filter_state_matcher::Matcher::AddressMatch(matcher::AddressMatcher {
            ranges: vec![range],
            ..matcher::AddressMatcher::default()
        })),
    };
    let mut found = request_route::tunnel_match(&scope::key(&Dialled::Within(service.clone(), port)));
    if let Some(found) = &mut found.r#match {
        found.headers.push(dispatch::to_port(port));
        found.filter_state.push(dialled);
    }
    route::Route { action: Some(request_route::respond(404)), ..found }
}
