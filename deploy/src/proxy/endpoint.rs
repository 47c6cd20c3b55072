//! Where a proxy finds us: a host name or an address, and a port.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
    str::FromStr,
};

/// A host and a port, as in `127.0.0.1:15010`, `[::1]:15010` or `portolan.mesh-system.svc:15010`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// An address without brackets, or a host name.
    pub host: String,
    /// The TCP port.
    pub port: NonZeroU16,
}

/// A text that is not `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not HOST:PORT; write an address or a host name and a port from 1 to 65535, as in 127.0.0.1:15010"
)]
pub struct InvalidEndpoint(String);

impl Endpoint {
    /// The address, if the host is one and not a name.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The same for someone on this machine: a server that listens on every address is reached on the
    /// loopback one.
    #[must_use]
    pub fn from_here(self) -> Self {
        let host = match self.address() {
            Some(IpAddr::V4(address)) if address.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            Some(IpAddr::V6(address)) if address.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
            Some(_) | None => self.host,
        };
        Self { host, port: self.port }
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(address) if address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) => address,
            None if !host.is_empty() && host.bytes().all(is_host_byte) => host,
            Some(_) | None => return Err(invalid()),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(out, "[{host}]:{port}") } else { write!(out, "{host}:{port}") }
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_print_as_they_were_written() {
        for text in ["127.0.0.1:15010", "[::1]:15010", "portolan.mesh-system.svc:1"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_server_on_every_address_is_reached_on_the_loopback_one() {
        let from_here = |text: &str| text.parse::<Endpoint>().unwrap().from_here().to_string();
        assert_eq!(from_here("0.0.0.0:7"), "127.0.0.1:7");
        assert_eq!(from_here("[::]:7"), "[::1]:7");
        assert_eq!(from_here("10.0.0.1:7"), "10.0.0.1:7");
    }

    #[test]
    fn what_cannot_be_dialled_is_refused() {
        for text in ["", "127.0.0.1", ":15010", "::1:15010", "[web]:1", "host:0", "host:65536", "ho st:1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
