//! An authority as a Secret keeps it: ours, cert-manager's and Istio's.
//!
//! ```text
//!                  what signs      its key       what leads to a root   roots
//!   kubernetes.io  tls.crt         tls.key       the rest of tls.crt    ca.crt, else a self-signed one
//!   Istio          ca-cert.pem     ca-key.pem    cert-chain.pem         root-cert.pem, else a self-signed one
//! ```
//!
//! Ours has the first shape, so that cert-manager can own it, `kubectl create secret tls` can write it, and what
//! watches the expiry of certificates knows it.

use std::{collections::BTreeMap, time::SystemTime};

use proto::Name;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{
    Authority, IdentityError,
    ca::{self, Parts},
    private_key,
    spiffe::plain,
};

/// The entries of a Secret.
pub type Entries = BTreeMap<String, Vec<u8>>;

/// Which entry is what.
struct Shape {
    certificate: &'static str,
    key: &'static str,
    chain: Option<&'static str>,
    roots: &'static str,
}

const OURS: Shape = Shape { certificate: "tls.crt", key: "tls.key", chain: None, roots: "ca.crt" };
const ISTIO: Shape = Shape {
    certificate: "ca-cert.pem",
    key: "ca-key.pem",
    chain: Some("cert-chain.pem"),
    roots: "root-cert.pem",
};

impl Authority {
    /// The authority of `trust_domain` that a Secret holds. The error says which entry is wrong, and why.
    pub fn from_entries(entries: &Entries, trust_domain: &Name, now: SystemTime) -> Result<Self, String> {
        let trust_domain = plain("trust domain", trust_domain).map_err(|error| error.to_string())?;
        let entry = |name: &str| entries.get(name).filter(|content| !content.is_empty());
        let has = |shape: &&Shape| entry(shape.certificate).is_some() || entry(shape.key).is_some();
        let shape = [&ISTIO, &OURS].into_iter().find(has).ok_or(
            "holds no authority; it needs tls.crt and tls.key, or ca-cert.pem and ca-key.pem as Istio's cacerts",
        )?;
        let required = |name: &str| entry(name).ok_or_else(|| format!("lacks {name}"));
        let key =
            private_key::read(required(shape.key)?).map_err(|problem| format!("{} {problem}", shape.key))?;
        let mut chain = certificates(shape.certificate, required(shape.certificate)?)?;
        if let Some((name, content)) = shape.chain.and_then(|name| Some((name, entry(name)?))) {
            chain.extend(certificates(name, content)?);
        }
        let roots = match entry(shape.roots) {
            Some(content) => certificates(shape.roots, content)?,
            None => chain.iter().filter(|certificate| is_self_signed(certificate)).cloned().collect(),
        };
        if roots.is_empty() {
            return Err(format!(
                "holds no root: {} is missing, and {} is not one",
                shape.roots, shape.certificate
            ));
        }
        let mut chain = chain.into_iter();
        let signing = chain.next().ok_or_else(|| format!("{} holds no certificate", shape.certificate))?;
        let between = chain.filter(|certificate| *certificate != signing && !roots.contains(certificate));
        let parts = Parts { between: between.collect(), signing, roots, key };
        Self::assemble(parts, trust_domain, now).map_err(|problem| format!("{} {problem}", shape.certificate))
    }

    /// A new root of `trust_domain`, as the entries of a Secret.
    pub fn generate(trust_domain: &Name, now: SystemTime) -> Result<Entries, IdentityError> {
        let trust_domain = plain("trust domain", trust_domain)?;
        let key = ca::new_key()?;
        let root = ca::self_signed(&trust_domain, &key, now)?.into_bytes();
        let entries = [
            (OURS.certificate, root.clone()),
            (OURS.key, key.serialize_pem().into_bytes()),
            (OURS.roots, root),
        ];
        Ok(entries.into_iter().map(|(name, content)| (name.to_owned(), content)).collect())
    }
}

/// The certificates of an entry, in their order.
fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| format!("{name} holds no certificate: {error}"))?;
    if certificates.is_empty() { Err(format!("{name} holds no certificate")) } else { Ok(certificates) }
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, it)| it.subject() == it.issuer())
}

#[cfg(test)]
mod tests;
