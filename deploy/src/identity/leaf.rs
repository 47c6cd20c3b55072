//! A certificate with its key, and when it has to be renewed.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// A certificate is valid from this long before it is made: clocks differ.
pub(super) const BACKDATE: Duration = Duration::from_mins(1);

/// A certificate that the authority signed, and its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    chain: String,
    key: String,
    uris: Vec<String>,
    issued: SystemTime,
    expires: SystemTime,
}

impl Leaf {
    /// Reads a leaf from PEM: the certificate, then its key. The error says what is wrong.
    pub(super) fn parse(pem: &str) -> Result<Self, String> {
        let key_at = pem.find("-----BEGIN PRIVATE KEY-----").ok_or("holds no private key")?;
        let (chain, key) = pem.split_at(key_at);
        let der = CertificateDer::from_pem_slice(chain.as_bytes())
            .map_err(|error| format!("holds no certificate: {error}"))?;
        let (_, certificate) = X509Certificate::from_der(&der)
            .map_err(|error| format!("holds a certificate that cannot be read: {error}"))?;
        let validity = certificate.validity();
        let leaf = Self {
            chain: chain.to_owned(),
            key: key.to_owned(),
            uris: uris_of(&certificate)?,
            issued: time(validity.not_before.timestamp()) + BACKDATE,
            expires: time(validity.not_after.timestamp()),
        };
        leaf.certified_key()?;
        Ok(leaf)
    }

    /// The certificate, as PEM.
    pub fn chain_pem(&self) -> &str {
        &self.chain
    }

    /// The private key, as PEM. Whoever has it is who the certificate says.
    pub fn key_pem(&self) -> &str {
        &self.key
    }

    /// The URIs that the certificate gives its bearer: one SPIFFE ID, or none for a server's.
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// From when on it is not valid any more.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// When to replace it: when a third of its lifetime remains.
    pub fn renew_at(&self) -> SystemTime {
        let lifetime = self.expires.duration_since(self.issued).unwrap_or_default();
        self.issued + lifetime * 2 / 3
    }

    /// The leaf as PEM, as [`Leaf::parse`] reads it.
    pub(super) fn to_pem(&self) -> String {
        format!("{}{}", self.chain, self.key)
    }

    pub(super) fn chain_der(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<_, _>>();
        chain.map_err(|error| format!("holds no certificate: {error}"))
    }

    /// The leaf as rustls presents it. Fails if the key does not belong to the certificate.
    pub(super) fn certified_key(&self) -> Result<Arc<CertifiedKey>, String> {
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| format!("holds no private key: {error}"))?;
        CertifiedKey::from_der(self.chain_der()?, key, &default_provider())
            .map(Arc::new)
            .map_err(|error| format!("holds a key that does not belong to its certificate: {error}"))
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain: _, key: _, uris, issued, expires } = self;
        let mut out = out.debug_struct("Leaf");
        out.field("uris", uris).field("issued", issued).field("expires", expires).finish_non_exhaustive()
    }
}

/// The URIs among the names of a certificate.
pub(crate) fn uris_of(certificate: &X509Certificate<'_>) -> Result<Vec<String>, String> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| format!("holds a certificate whose names cannot be read: {error}"))?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uri = |name: &GeneralName<'_>| {
        if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }
    };
    Ok(names.iter().filter_map(uri).collect())
}

/// The time of a certificate's date, in seconds since 1970.
pub(crate) fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
