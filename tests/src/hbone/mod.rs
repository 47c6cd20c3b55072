//! HBONE as ztunnel speaks it: mutual TLS with SPIFFE certificates, HTTP/2, and one CONNECT per connection.
//!
//! [`Connection`] is the client's side, towards a waypoint; [`Server`] stands in for the ztunnel in
//! front of a pod that the mesh has captured. Both give a [`Tunnel`]: bytes, both ways.

mod client;
mod server;
mod tls;
mod tunnel;

pub use client::{Connection, Waypoint};
pub use server::{Accepted, Server};
pub use tunnel::Tunnel;

/// The port on which waypoints and ztunnels listen for tunnels.
pub const PORT: u16 = 15008;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection: nobody listens, or one of the two refused the other's certificate.
    #[error("no connection to {waypoint}: {reason}")]
    Handshake {
        /// Its address.
        waypoint: std::net::SocketAddr,
        /// What the operating system, TLS or HTTP/2 said.
        reason: String,
    },
    /// The connection stands, and CONNECT was answered with something other than 200.
    #[error("CONNECT was refused with status {status}: {body}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The body of the answer, as text.
        body: String,
    },
    /// The connection broke while a tunnel was opened.
    #[error("the connection broke while opening a tunnel: {0}")]
    Broken(#[from] h2::Error),
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::SocketAddr};

    use http::HeaderMap;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{Connection, Error, PORT, Server, Waypoint};
    use crate::{
        Authority, Loopback,
        backend::{BANNER, Backend, Protocol},
        identity::spiffe,
    };

    /// A pod with a ztunnel in front of it, and how to reach it.
    struct Pod {
        block: Loopback,
        authority: Authority,
        backend: Backend,
        ztunnel: Server,
        waypoint: Waypoint,
    }

    async fn pod() -> Pod {
        let block = Loopback::claim().unwrap();
        let authority = Authority::stranger("root of the mesh").unwrap();
        let address = block.address(11);
        let backend = Backend::start("db", Protocol::Banner, (address, 0).into()).await.unwrap();
        let identity = authority.workload("shop", "db").unwrap();
        let ports = BTreeMap::from([(5432, backend.address)]);
        let ztunnel = Server::start(address.into(), &identity, &authority, ports).unwrap();
        let waypoint = Waypoint { address: (address, PORT).into(), identity: spiffe("shop", "db") };
        Pod { block, authority, backend, ztunnel, waypoint }
    }

    #[tokio::test]
    async fn a_tunnel_carries_bytes_both_ways_until_each_side_ends_its_own() {
        let Pod { block, authority, backend, ztunnel, waypoint } = pod().await;
        let curl = authority.workload("default", "curl").unwrap();
        let source = block.address(250).into();
        let connection = Connection::open(&waypoint, source, &authority, Some(&curl)).await.unwrap();
        let wanted = SocketAddr::from((block.address(11), 5432)).to_string();
        let mut headers = HeaderMap::new();
        headers.insert("baggage", "k8s.namespace.name=default".parse().unwrap());
        let (tunnel, _) = connection.tunnel(&wanted, &headers).await.unwrap();

        // More than the windows of either side, so that both have to be opened again on the way.
        let sent = (0..40u32 << 20 >> 2).flat_map(u32::to_le_bytes).collect::<Vec<_>>();
        let (mut reader, mut writer) = tokio::io::split(tunnel);
        let copy = sent.clone();
        let writing = tokio::spawn(async move {
            writer.write_all(&copy).await.unwrap();
            writer.shutdown().await.unwrap();
            writer
        });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).await.unwrap();
        writing.await.unwrap();
        assert!(received.starts_with(BANNER.as_bytes()));
        assert!(received[BANNER.len()..] == sent, "the echo differs from what was sent");
        assert_eq!(backend.seen().bytes, sent.len() as u64);

        let accepted = &ztunnel.accepted()[0];
        assert_eq!(
            (accepted.peer.as_slice(), &accepted.authority),
            (&[spiffe("default", "curl")][..], &wanted)
        );
        assert_eq!(accepted.headers["baggage"], "k8s.namespace.name=default");
    }

    #[tokio::test]
    async fn a_refused_connect_tells_its_status() {
        let Pod { block, authority, waypoint, ztunnel: _ztunnel, .. } = pod().await;
        let curl = authority.workload("default", "curl").unwrap();
        let source = block.address(250).into();
        let connection = Connection::open(&waypoint, source, &authority, Some(&curl)).await.unwrap();
        let nobody = SocketAddr::from((block.address(11), 1)).to_string();
        for (wanted, expected) in [("10.0.0.1:80", 400), (nobody.as_str(), 503)] {
            let error = connection.tunnel(wanted, &HeaderMap::new()).await.unwrap_err();
            assert!(
                matches!(error, Error::Refused { status, .. } if status == expected),
                "{wanted}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn whoever_is_not_of_the_mesh_gets_no_connection_and_neither_does_a_waypoint_of_another_name() {
        let Pod { block, authority, waypoint, ztunnel, .. } = pod().await;
        let source = block.address(250).into();
        let forged =
            Authority::stranger("root of somebody else").unwrap().workload("default", "curl").unwrap();
        for identity in [None, Some(&forged)] {
            let error = Connection::open(&waypoint, source, &authority, identity).await.unwrap_err();
            assert!(matches!(error, Error::Handshake { .. }), "{error}");
        }
        let curl = authority.workload("default", "curl").unwrap();
        let other = Waypoint { identity: spiffe("shop", "cache"), ..waypoint };
        let error = Connection::open(&other, source, &authority, Some(&curl)).await.unwrap_err();
        assert!(error.to_string().contains("sa/cache"), "{error}");
        assert!(ztunnel.accepted().is_empty());
    }
}
