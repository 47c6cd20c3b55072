//! What an API server proves itself and its service accounts with, and how its clients know it.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

use super::random;

/// Files of the credentials, and what clients need.
#[derive(Debug)]
pub(super) struct Credentials {
    folder: PathBuf,
    /// The certificate of the authority that signed the server's, as PEM.
    root: String,
    /// The same as DER.
    root_der: Vec<u8>,
    /// The bearer token of a member of `system:masters`.
    pub(super) admin: String,
}

impl Credentials {
    /// Makes them in `folder`, for a server on `address`.
    pub(super) fn create(folder: &Path, address: Ipv4Addr) -> Result<Self> {
        let authority_key = KeyPair::generate()?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        authority.distinguished_name.push(DnType::CommonName, "authority of the test API server");
        let root = authority.self_signed(&authority_key)?;
        let issuer = Issuer::new(authority, authority_key);

        let key = KeyPair::generate()?;
        let mut server = CertificateParams::default();
        server.distinguished_name.push(DnType::CommonName, "test API server");
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.subject_alt_names.push(SanType::IpAddress(address.into()));
        let certificate = server.signed_by(&key, &issuer)?;

        let accounts = KeyPair::generate()?;
        let admin = random();
        let credentials = Self {
            folder: folder.to_owned(),
            root: root.pem(),
            root_der: root.der().to_vec(),
            admin: admin.clone(),
        };
        for (name, text) in [
            ("ca.pem", root.pem()),
            ("server.pem", certificate.pem()),
            ("server-key.pem", key.serialize_pem()),
            ("accounts.pem", accounts.public_key_pem()),
            ("accounts-key.pem", accounts.serialize_pem()),
            ("tokens.csv", format!("{admin},admin,admin,system:masters\n")),
        ] {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(credentials)
    }

    /// The file `name`, as an argument of a program.
    pub(super) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// How a client gets to the server at `url` with the bearer token `token`.
    pub(super) fn client(&self, url: &str, token: &str) -> Result<kube::Config> {
        let mut config = kube::Config::new(url.parse()?);
        config.root_cert = Some(vec![self.root_der.clone()]);
        config.auth_info.token = Some(token.to_owned().into());
        // What a server that is away says is for the tests to see, at once.
        config.default_retry = false;
        Ok(config)
    }

    /// The same as the text of a kubeconfig.
    pub(super) fn kubeconfig(&self, url: &str, token: &str) -> String {
        use base64::{Engine, engine::general_purpose::STANDARD};
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": url, "certificate-authority-data": STANDARD.encode(&self.root),
            }}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })
        .to_string()
    }
}
