//! Certificates of any SPIFFE identity, signed by the mesh's root or by a stranger's.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// How long a minted certificate is valid: longer than any test, far shorter than anyone could misuse.
const LIFETIME: Duration = Duration::from_hours(24);

/// A certificate authority whose key we hold.
#[derive(Debug)]
pub struct Authority {
    root: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, ready for either side of a handshake. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, then what leads to the root; without the root, as ztunnel sends it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: Arc<PrivateKeyDer<'static>>,
}

impl Authority {
    /// The mesh's authority, from the state directory of a `portolan serve`.
    pub fn of_state(state: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = state.join("ca").join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        Self::of_pem(&read("root.pem")?, &read("root-key.pem")?)
    }

    /// The authority with that root certificate and key.
    pub fn of_pem(root: &str, key: &str) -> Result<Self> {
        let issuer = Issuer::from_ca_cert_pem(root, KeyPair::from_pem(key)?)?;
        Ok(Self { root: CertificateDer::from_pem_slice(root.as_bytes())?, pem: root.to_owned(), issuer })
    }

    /// An authority of its own, that nobody trusts unless told to.
    pub fn stranger(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // BoringSSL takes an issuer and a subject of the same name for the same certificate.
        params.distinguished_name.push(DnType::CommonName, name);
        let root = params.self_signed(&key)?;
        Ok(Self { root: root.der().clone(), pem: root.pem(), issuer: Issuer::new(params, key) })
    }

    /// A certificate for the service account `account` of `namespace`, in the trust domain `cluster.local`.
    pub fn workload(&self, namespace: &str, account: &str) -> Result<Identity> {
        self.mint(&[&spiffe(namespace, account)])
    }

    /// A certificate with exactly these URIs as its names: one for a workload, none or several for a cheat.
    pub fn mint(&self, uris: &[&str]) -> Result<Identity> {
        let uris = uris.iter().map(|uri| Ok(SanType::URI((*uri).try_into()?)));
        self.mint_named(uris.collect::<Result<_>>()?)
    }

    /// A certificate of a server that is dialled at that address.
    pub fn server(&self, address: IpAddr) -> Result<Identity> {
        self.mint_named(vec![SanType::IpAddress(address)])
    }

    /// A certificate with exactly these names, of whatever types.
    pub fn mint_named(&self, names: Vec<SanType>) -> Result<Identity> {
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.not_before = (now - Duration::from_mins(1)).into();
        params.not_after = (now + LIFETIME).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name.push(DnType::CommonName, "minted by the test harness");
        params.subject_alt_names = names;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            chain: vec![certificate.der().clone()],
            key: Arc::new(PrivatePkcs8KeyDer::from(key.serialize_der()).into()),
        })
    }

    /// The root certificate.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The same, as PEM.
    pub fn root_pem(&self) -> &str {
        &self.pem
    }

    /// The roots that somebody who trusts this authority has.
    pub fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        Ok(roots)
    }
}

/// The SPIFFE identity of a service account in the trust domain `cluster.local`.
pub fn spiffe(namespace: &str, account: &str) -> String {
    format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
}

/// The URIs among the names of a certificate.
pub fn uris(certificate: &CertificateDer<'_>) -> Result<Vec<String>> {
    let (_, certificate) = parse_x509_certificate(certificate).context("not an X.509 certificate")?;
    let Some(names) = certificate.subject_alternative_name()? else { return Ok(Vec::new()) };
    let uri = |name: &GeneralName<'_>| {
        if let GeneralName::URI(uri) = name { Some((*uri).to_owned()) } else { None }
    };
    Ok(names.value.general_names.iter().filter_map(uri).collect())
}

/// The serial number of a certificate, as hexadecimal digits: another one after every rotation.
pub fn serial(certificate: &CertificateDer<'_>) -> Result<String> {
    let (_, certificate) = parse_x509_certificate(certificate).context("not an X.509 certificate")?;
    Ok(certificate.raw_serial_as_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_certificate_names_exactly_the_uris_asked_for() {
        let authority = Authority::stranger("test root").unwrap();
        for wanted in [&[][..], &["spiffe://a/b"], &["spiffe://a/b", "spiffe://a/c"]] {
            assert_eq!(uris(&authority.mint(wanted).unwrap().chain[0]).unwrap(), wanted);
        }
    }
}
