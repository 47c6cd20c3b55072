//! The embedded certificate authority: one root, kept in the state directory, that signs every
//! certificate of the mesh directly.

use std::{
    fmt, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::Name;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::{
    RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::{
    IdentityError, Leaf, SpiffeId, file,
    leaf::{BACKDATE, time, uris_of},
    spiffe::plain,
};

/// How long a root is valid.
const ROOT_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);

const REMEDY: &str = "restore it from a backup, or remove the directory it is in to start with a new root, which every proxy then needs";

/// Signs the certificates of one trust domain.
pub struct Authority {
    trust_domain: Name,
    root_pem: String,
    expires: SystemTime,
    issuer: Issuer<'static, KeyPair>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Authority {
    /// Opens the authority in the directory `state`; makes one for `trust_domain` if there is none.
    pub fn open(state: &Path, trust_domain: &Name, now: SystemTime) -> Result<Self, IdentityError> {
        let trust_domain = plain("trust domain", trust_domain)?;
        let files = RootFiles::under(state);
        file::in_turn(state, || files.make_missing(&trust_domain, now))?;
        files.load(trust_domain, now)
    }

    /// The trust domain of the authority in the directory `state`, if there is one that says.
    pub fn trust_domain_of(state: &Path) -> Result<Option<Name>, IdentityError> {
        let path = RootFiles::under(state).certificate;
        let Some(content) = file::read_public(&path)? else { return Ok(None) };
        let der = CertificateDer::from_pem_slice(&content)
            .map_err(|error| damaged(&path, format!("holds no certificate: {error}")))?;
        let (_, root) = X509Certificate::from_der(&der)
            .map_err(|error| damaged(&path, format!("holds a certificate that cannot be read: {error}")))?;
        let uris = uris_of(&root).map_err(|problem| damaged(&path, problem))?;
        Ok(uris.iter().find_map(|uri| uri.strip_prefix("spiffe://")).map(Name::from))
    }

    /// The root's certificate, as PEM: what proxies trust.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The trust domain: the host part of every identity that it signs.
    pub fn trust_domain(&self) -> &Name {
        &self.trust_domain
    }

    /// From when on the root is not valid any more.
    pub fn expires(&self) -> SystemTime {
        self.expires
    }

    /// Signs a certificate that gives its bearer the identity `id`, for `lifetime` from `now` on.
    pub fn issue(&self, id: &SpiffeId, lifetime: Duration, now: SystemTime) -> Result<Leaf, IdentityError> {
        let subject = id.to_string();
        let uri = subject.as_str().try_into().map_err(certificate(&subject))?;
        self.sign(&subject, vec![SanType::URI(uri)], lifetime, now)
    }

    /// Signs a certificate for a server that is reached by these names and addresses.
    pub(super) fn issue_server(
        &self,
        names: &[String],
        addresses: &[IpAddr],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Leaf, IdentityError> {
        let subject = names.join(", ");
        let mut alternatives = Vec::new();
        for name in names {
            alternatives.push(SanType::DnsName(name.as_str().try_into().map_err(certificate(&subject))?));
        }
        alternatives.extend(addresses.iter().copied().map(SanType::IpAddress));
        self.sign(&subject, alternatives, lifetime, now)
    }

    /// Whether `leaf` is valid at `now` and signed by this very root.
    pub fn recognizes(&self, leaf: &Leaf, now: SystemTime) -> bool {
        let Ok(chain) = leaf.chain_der() else { return false };
        let [end, between @ ..] = chain.as_slice() else { return false };
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.verifier.verify_client_cert(end, between, UnixTime::since_unix_epoch(since_1970)).is_ok()
    }

    fn sign(
        &self,
        subject: &str,
        alternatives: Vec<SanType>,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Leaf, IdentityError> {
        let certificate = certificate(subject);
        let key = KeyPair::generate().map_err(&certificate)?;
        let mut params = params("portolan leaf", now, (now + lifetime).min(self.expires))?;
        params.subject_alt_names = alternatives;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let signed = params.signed_by(&key, &self.issuer).map_err(&certificate)?;
        Leaf::parse(&format!("{}{}", signed.pem(), key.serialize_pem()))
            .map_err(|problem| IdentityError::Unusable { subject: subject.to_owned(), problem })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("Authority");
        out.field("trust_domain", &self.trust_domain).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Where the root is kept.
struct RootFiles {
    certificate: PathBuf,
    key: PathBuf,
}

impl RootFiles {
    fn under(state: &Path) -> Self {
        let directory = state.join("ca");
        Self { certificate: directory.join("root.pem"), key: directory.join("root-key.pem") }
    }

    /// Makes what is not there. The key comes first, so that a certificate is never without its key,
    /// and a key without a certificate was never used.
    fn make_missing(&self, trust_domain: &Name, now: SystemTime) -> Result<(), IdentityError> {
        // A path that cannot be looked at must not count as missing: a root would be overwritten.
        let missing = |path: &Path| match fs::exists(path) {
            Ok(exists) => Ok(!exists),
            Err(source) => Err(IdentityError::Io { action: "read", path: path.to_owned(), source }),
        };
        if !missing(&self.certificate)? {
            return Ok(());
        }
        let certificate = certificate("the root");
        if missing(&self.key)? {
            let key = KeyPair::generate().map_err(&certificate)?;
            file::write_secret(&self.key, key.serialize_pem().as_bytes())?;
        }
        let mut params = params("portolan root", now, now + ROOT_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let uri = root_uri(trust_domain).try_into().map_err(&certificate)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let root = params.self_signed(&self.load_key()?).map_err(&certificate)?;
        file::write_public(&self.certificate, root.pem().as_bytes())
    }

    fn load(&self, trust_domain: Name, now: SystemTime) -> Result<Authority, IdentityError> {
        let path = &self.certificate;
        let content = file::read_public(path)?.ok_or_else(|| damaged(path, "is missing"))?;
        let root_pem = String::from_utf8(content).map_err(|_| damaged(path, "is not PEM"))?;
        let der = CertificateDer::from_pem_slice(root_pem.as_bytes())
            .map_err(|error| damaged(path, format!("holds no certificate: {error}")))?;
        let (_, root) = X509Certificate::from_der(&der)
            .map_err(|error| damaged(path, format!("holds a certificate that cannot be read: {error}")))?;
        let expires = time(root.validity().not_after.timestamp());
        if expires <= now {
            return Err(damaged(path, "has expired"));
        }
        let uris = uris_of(&root).map_err(|problem| damaged(path, problem))?;
        if uris != [root_uri(&trust_domain)] {
            let problem = format!("is the root of {uris:?} and not of the trust domain {trust_domain:?}");
            let remedy = "give the trust domain that it was made for, or another state directory";
            return Err(IdentityError::Damaged { path: path.clone(), problem, remedy });
        }
        let key = self.load_key()?;
        if root.public_key().subject_public_key.data != key.public_key_raw() {
            return Err(damaged(&self.key, "does not belong to the root certificate beside it"));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(certificate("the root"))?;
        let verifier = verifier(der).map_err(|problem| damaged(path, problem))?;
        Ok(Authority { trust_domain, root_pem, expires, issuer, verifier })
    }

    fn load_key(&self) -> Result<KeyPair, IdentityError> {
        let path = &self.key;
        let content = file::read_secret(path)?.ok_or_else(|| damaged(path, "is missing"))?;
        let pem = String::from_utf8(content).map_err(|_| damaged(path, "is not PEM"))?;
        KeyPair::from_pem(&pem).map_err(|error| damaged(path, format!("holds no private key: {error}")))
    }
}

/// The root carries its trust domain, as the SPIFFE standard asks, and so is never used for another.
fn root_uri(trust_domain: &str) -> String {
    format!("spiffe://{trust_domain}")
}

/// What every certificate has. Its common name is its own: BoringSSL takes a leaf for its issuer if
/// both have one name.
fn params(kind: &str, now: SystemTime, expires: SystemTime) -> Result<CertificateParams, IdentityError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| IdentityError::Random)?;
    // X.509 wants a positive number, and equal lengths are easier to compare by eye.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("{kind} {:032x}", u128::from_be_bytes(serial)));
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = (now - BACKDATE).into();
    params.not_after = expires.into();
    Ok(params)
}

fn verifier(root: CertificateDer<'static>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(root).map_err(|error| format!("cannot be trusted: {error}"))?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .build()
        .map_err(|error| format!("cannot be trusted: {error}"))
}

fn certificate(subject: &str) -> impl Fn(rcgen::Error) -> IdentityError {
    move |source| IdentityError::Certificate { subject: subject.to_owned(), source }
}

fn damaged(path: &Path, problem: impl Into<String>) -> IdentityError {
    IdentityError::Damaged { path: path.to_owned(), problem: problem.into(), remedy: REMEDY }
}
