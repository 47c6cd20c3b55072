//! The certificate of our own endpoint, exchanged under running connections.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring::default_provider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};

use super::{Authority, IdentityError, Leaf};

/// By this name every client may know us, whatever else we are reached by.
const OWN_NAME: &str = "portolan";

/// By what we are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// DNS names. `portolan` is always one.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// The certificate that new connections are shown.
pub struct ServerCertificates {
    names: ServerNames,
    lifetime: Duration,
    current: ArcSwap<Shown>,
}

struct Shown {
    leaf: Leaf,
    key: Arc<CertifiedKey>,
}

impl ServerCertificates {
    /// A first certificate for `names`. It is not kept: clients know the root, so any will do.
    pub fn issue(
        authority: &Authority,
        mut names: ServerNames,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Arc<Self>, IdentityError> {
        if !names.dns.iter().any(|name| name == OWN_NAME) {
            names.dns.push(OWN_NAME.to_owned());
        }
        let shown = Shown::issue(authority, &names, lifetime, now)?;
        Ok(Arc::new(Self { names, lifetime, current: ArcSwap::from_pointee(shown) }))
    }

    /// When [`ServerCertificates::renew`] is to be called.
    pub fn renew_at(&self) -> SystemTime {
        self.current.load().leaf.renew_at()
    }

    /// When the certificate that is shown now expires.
    pub fn expires(&self) -> SystemTime {
        self.current.load().leaf.expires()
    }

    /// Shows a new certificate to new connections. Those that are open stay open.
    pub fn renew(&self, authority: &Authority, now: SystemTime) -> Result<(), IdentityError> {
        let shown = Shown::issue(authority, &self.names, self.lifetime, now)?;
        self.current.store(Arc::new(shown));
        Ok(())
    }

    /// TLS for our endpoint: version 1.3, HTTP/2, no certificate asked of the client, who proves
    /// itself by a token.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for ServerCertificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.load().key))
    }
}

impl fmt::Debug for ServerCertificates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leaf = &self.current.load().leaf;
        let mut out = out.debug_struct("ServerCertificates");
        out.field("names", &self.names).field("leaf", leaf).finish_non_exhaustive()
    }
}

impl Shown {
    fn issue(
        authority: &Authority,
        names: &ServerNames,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Self, IdentityError> {
        let leaf = authority.issue_server(&names.dns, &names.addresses, lifetime, now)?;
        let unusable = |problem| IdentityError::Unusable { subject: names.dns.join(", "), problem };
        let key = leaf.certified_key().map_err(unusable)?;
        Ok(Self { leaf, key })
    }
}
