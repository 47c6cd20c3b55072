//! What every waypoint has and no service changes: the listeners and the clusters that join them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use proto::{
    Resource, TypeUrl, Version,
    envoy::{Cluster, Listener},
};

use super::{connect_originate, connect_terminate, main_internal, server_name, sniffed, tls_router};
use crate::{
    derive::Row,
    mesh::{
        mesh_config::Normalization,
        name::Key,
        waypoint::{HBONE_PORT, Waypoint},
    },
    settings::{Bind, Settings},
};

/// All that these resources depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Infrastructure {
    /// Where callers connect to; every address if there is none.
    pub(crate) address: Option<IpAddr>,
    pub(crate) trust_domain: proto::Name,
}

/// All that the listeners for what is inside a tunnel depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InnerListeners {
    pub(crate) normalization: Normalization,
}

impl Row for InnerListeners {
    const TABLE: &'static str = "inner listeners";
    type Key = Key;
    type Bucket = ();

    fn buckets(_key: &Key, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Row for Infrastructure {
    const TABLE: &'static str = "infrastructure";
    type Key = Key;
    type Bucket = ();

    fn buckets(_key: &Key, _row: &Self) -> Vec<()> {
        Vec::new()
    }
}

impl Infrastructure {
    pub(crate) fn of(waypoint: &Waypoint, settings: &Settings) -> Self {
        let address = match settings.bind {
            Bind::Everywhere => None,
            Bind::GatewayAddress => waypoint.address,
        };
        Self { address, trust_domain: settings.trust_domain.clone() }
    }
}

/// The names of the resources, which are the same for every waypoint.
pub(crate) const NAMES: [(TypeUrl, &str); 9] = [
    (TypeUrl::Cluster, connect_originate::NAME),
    (TypeUrl::Cluster, main_internal::NAME),
    (TypeUrl::Cluster, sniffed::NAME),
    (TypeUrl::Cluster, server_name::NAME),
    (TypeUrl::Cluster, tls_router::NAME),
    (TypeUrl::Listener, connect_originate::NAME),
    (TypeUrl::Listener, server_name::NAME),
    (TypeUrl::Listener, tls_router::NAME),
    (TypeUrl::Listener, connect_terminate::NAME),
];

/// The names of the listeners for what is inside a tunnel.
pub(crate) const INNER_NAMES: [(TypeUrl, &str); 2] =
    [(TypeUrl::Listener, main_internal::NAME), (TypeUrl::Listener, sniffed::NAME)];

/// The resources themselves. `connect_terminate` comes in a later wave: the port opens last.
pub(crate) fn emit(row: &Infrastructure, version: Version) -> Vec<Resource> {
    let bind = SocketAddr::new(row.address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), HBONE_PORT);
    let cluster =
        |cluster: Cluster| Resource::new(TypeUrl::Cluster, cluster.name.as_str(), version, &cluster);
    let listener =
        |listener: Listener| Resource::new(TypeUrl::Listener, listener.name.as_str(), version, &listener);
    let mut terminate = connect_terminate::emit(bind);
    if row.address.is_none()
        && let Some(proto::envoy::core::Address {
            address: Some(proto::envoy::core::address::Address::SocketAddress(socket)),
        }) = &mut terminate.address
    {
        // One socket for both families.
        socket.ipv4_compat = true;
    }
    vec![
        cluster(connect_originate::emit_cluster(&row.trust_domain)),
        cluster(main_internal::emit_cluster(main_internal::NAME)),
        cluster(main_internal::emit_cluster(sniffed::NAME)),
        cluster(main_internal::emit_cluster(server_name::NAME)),
        cluster(tls_router::emit_cluster()),
        listener(connect_originate::emit()),
        listener(server_name::emit()),
        listener(tls_router::emit()),
        Resource { wave: 1, ..listener(terminate) },
    ]
}

/// The listeners for what is inside a tunnel.
pub(crate) fn emit_inner(row: &InnerListeners, version: Version) -> Vec<Resource> {
    let InnerListeners { normalization } = row;
    let listeners = [main_internal::emit(*normalization), sniffed::emit(*normalization)];
    let resource =
        |listener: Listener| Resource::new(TypeUrl::Listener, listener.name.as_str(), version, &listener);
    listeners.map(resource).into()
}
