//! The embedded certificate authority: what signs every certificate that we give out, and the roots that it
//! leads to. Without a cluster it is one root, kept in the state directory.

use std::{
    fmt, fs, iter,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::STANDARD};
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
    signing: CertificateDer<'static>,
    /// What leads from a leaf to a root, as PEM; empty where a root signs.
    between: String,
    expires: SystemTime,
    issuer: Issuer<'static, KeyPair>,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// What an authority is made of.
pub(super) struct Parts {
    /// The certificate of what signs.
    pub(super) signing: CertificateDer<'static>,
    /// Those that lead from there to a root, without either.
    pub(super) between: Vec<CertificateDer<'static>>,
    /// Those that vouch for the mesh, at least one.
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// The key of what signs.
    pub(super) key: KeyPair,
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

    /// An authority of these parts, if what it signs is trusted by its own roots. The error says what is
    /// wrong with the certificate of what signs.
    pub(super) fn assemble(parts: Parts, trust_domain: Name, now: SystemTime) -> Result<Self, String> {
        let Parts { signing, between, roots, key } = parts;
        let mut expires = None;
        for certificate in iter::once(&signing).chain(&between) {
            let (_, certificate) = X509Certificate::from_der(certificate)
                .map_err(|error| format!("holds a certificate that cannot be read: {error}"))?;
            if !certificate.is_ca() {
                return Err(format!(
                    "holds the certificate of {}, which may not sign others: it lacks CA:TRUE",
                    certificate.subject()
                ));
            }
            let end = time(certificate.validity().not_after.timestamp());
            expires = expires.min(Some(end)).or(Some(end));
        }
        let expires = expires.filter(|expires| *expires > now).ok_or("has expired; renew it")?;
        let (_, certificate) = X509Certificate::from_der(&signing)
            .map_err(|error| format!("holds a certificate that cannot be read: {error}"))?;
        let uris = uris_of(&certificate)?;
        let others = uris.iter().find(|uri| uri.starts_with("spiffe://") && **uri != root_uri(&trust_domain));
        if let Some(other) = others {
            return Err(format!("is that of {other:?} and not of the trust domain {trust_domain:?}"));
        }
        if certificate.public_key().subject_public_key.data != key.public_key_raw() {
            return Err("does not belong to the key beside it".to_owned());
        }
        let root_pem: String = roots.iter().map(|root| pem(root)).collect();
        let signs_itself = roots.contains(&signing);
        let leading = iter::once(&signing).filter(|_| !signs_itself).chain(&between);
        let authority = Self {
            trust_domain,
            root_pem,
            between: leading.map(|certificate| pem(certificate)).collect(),
            expires,
            issuer: Issuer::from_ca_cert_der(&signing, key)
                .map_err(|error| format!("cannot be signed with: {error}"))?,
            verifier: verifier(roots)?,
            signing,
        };
        authority.try_out(now)?;
        Ok(authority)
    }

    /// Whether what it signs is trusted: whatever is wrong with the chain shows here, and not at a handshake.
    fn try_out(&self, now: SystemTime) -> Result<(), String> {
        let id = SpiffeId::new(&self.trust_domain, &"portolan".into(), &"trial".into());
        let leaf = id.and_then(|id| self.issue(&id, Duration::from_mins(1), now));
        let leaf = leaf.map_err(|error| error.to_string())?;
        if self.recognizes(&leaf, now) {
            return Ok(());
        }
        Err("signs what its own roots do not vouch for; see that the certificates lead from it to a root, that \
             none has expired, and that none limits the names or the length of the chain"
            .to_owned())
    }

    /// Whether it is made of the same certificates.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.signing, &self.between, &self.root_pem) == (&other.signing, &other.between, &other.root_pem)
    }

    /// Whether the same certificate signs, whatever it leads to.
    pub(super) fn signs_as(&self, other: &Self) -> bool {
        self.signing == other.signing
    }

    /// The roots' certificates, as PEM: what proxies trust.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The trust domain: the host part of every identity that it signs.
    pub fn trust_domain(&self) -> &Name {
        &self.trust_domain
    }

    /// From when on it cannot sign any more.
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
        Leaf::parse(&format!("{}{}{}", signed.pem(), self.between, key.serialize_pem()))
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
        if missing(&self.key)? {
            file::write_secret(&self.key, new_key()?.serialize_pem().as_bytes())?;
        }
        let root = self_signed(trust_domain, &self.load_key()?, now)?;
        file::write_public(&self.certificate, root.as_bytes())
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
        let parts = Parts { signing: der.clone(), between: Vec::new(), roots: vec![der], key };
        Authority::assemble(parts, trust_domain, now).map_err(|problem| damaged(path, problem))
    }

    fn load_key(&self) -> Result<KeyPair, IdentityError> {
        let path = &self.key;
        let content = file::read_secret(path)?.ok_or_else(|| damaged(path, "is missing"))?;
        let pem = String::from_utf8(content).map_err(|_| damaged(path, "is not PEM"))?;
        KeyPair::from_pem(&pem).map_err(|error| damaged(path, format!("holds no private key: {error}")))
    }
}

/// A new private key.
pub(super) fn new_key() -> Result<KeyPair, IdentityError> {
    KeyPair::generate().map_err(certificate("the root"))
}

/// The certificate of a root of `trust_domain` with that key, as PEM.
pub(super) fn self_signed(
    trust_domain: &str,
    key: &KeyPair,
    now: SystemTime,
) -> Result<String, IdentityError> {
    let certificate = certificate("the root");
    let mut params = params("portolan root", now, now + ROOT_LIFETIME)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let uri = root_uri(trust_domain).try_into().map_err(&certificate)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    Ok(params.self_signed(key).map_err(&certificate)?.pem())
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

fn verifier(trusted: Vec<CertificateDer<'static>>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for root in trusted {
        roots.add(root).map_err(|error| format!("leads to a root that cannot be trusted: {error}"))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .build()
        .map_err(|error| format!("cannot be trusted: {error}"))
}

/// A certificate as PEM (RFC 7468), as Envoy reads it.
fn pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.extend([line, "\n"]);
        rest = more;
    }
    pem + "-----END CERTIFICATE-----\n"
}

fn certificate(subject: &str) -> impl Fn(rcgen::Error) -> IdentityError {
    move |source| IdentityError::Certificate { subject: subject.to_owned(), source }
}

fn damaged(path: &Path, problem: impl Into<String>) -> IdentityError {
    IdentityError::Damaged { path: path.to_owned(), problem: problem.into(), remedy: REMEDY }
}
